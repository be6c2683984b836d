"""The command that runs a data set through a model once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convlens.cli.options import json_option, model_options, take_model
from convlens.cli.show import print_json, print_table, progress, warn_of_weights
from convlens.errors import FAILED


@click.command("record", short_help="run a data set through the model once, to ask of it afterwards")
@model_options
@click.argument("images", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="folder for the recording"
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="layer whose channels are followed, repeatable; every rectifier by default",
)
@click.option(
    "-k", type=click.IntRange(1, 100), default=9, show_default=True, help="strongest places kept a channel"
)
@click.option(
    "--shard",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="images in a piece; a recording that is killed loses one piece at most",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="threads that decode ahead"
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="images in one forward; bounds the memory",
)
@click.option("--resume", is_flag=True, help="go on with a recording that was stopped")
@click.option("--overwrite", is_flag=True, help="write into a folder that is not empty")
@json_option
def record_command(
    images: tuple[str, ...],
    output: Path,
    layers: tuple[str, ...],
    as_json: bool,
    resume: bool,
    overwrite: bool,
    workers: int,
    **options: Any,
) -> int:
    """Run IMAGES (files, folders, patterns) through MODEL once and keep what each layer did.

    The folder gets images.parquet (prediction and feature vector of each image), channels.parquet
    (statistics of each channel), strongest.parquet (the places at which each channel was strongest) and
    manifest.json. Stopped at any moment, even by a power cut, it goes on with --resume and ends with the
    same files.
    """
    from convlens.recording.plan import plan_of
    from convlens.recording.run import locally, record
    from convlens.recording.source import open_source

    settings = {name: options.pop(name) for name in ("k", "shard", "batch_size")}
    model = take_model(options)
    plan = plan_of(model, layers, **settings)
    source = open_source(images, model.source, model.card)
    warn_of_weights(model)
    with progress("record") as advance:
        manifest = record(
            model,
            source,
            output,
            plan,
            run=locally(workers),
            resume=resume,
            overwrite=overwrite,
            progress=advance,
        )
    if as_json:
        print_json(manifest)
    else:
        print_table(
            [
                {"layer": layer.alias, "operator": layer.op, "channels": layer.channels}
                for layer in plan.layers
            ]
        )
        feature = f", feature vector: {plan.feature.alias} ({plan.feature.channels})" if plan.feature else ""
        click.echo(f"\n{manifest['images']} images recorded in {output}{feature}")
    if manifest["unread"]:
        click.echo(
            f"convlens: {manifest['unread']} of {len(source)} items could not be read; "
            "images.parquet says why",
            err=True,
        )
        return FAILED
    return 0
