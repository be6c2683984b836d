"""The command that runs a data set through a model once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from convlens.cli.options import (
    batch_size_option,
    json_option,
    model_options,
    overwrite_option,
    resume_option,
    take_model,
)
from convlens.cli.show import print_json, print_table, progress, warn_of_weights
from convlens.errors import FAILED, UsageError


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
    "--workers",
    type=click.IntRange(1),
    help="batches that are decoded, run and reduced at once; one a core by default, at most eight",
)
@batch_size_option("images in one forward; bounds the memory")
@click.option(
    "--runner",
    "name_of_runner",
    default="local",
    show_default=True,
    metavar="NAME",
    help="who does the work: local, or ray for a cluster, a copy of the model per GPU or --threads cores",
)
@click.option("--append", "further", is_flag=True, help="add the images to the finished recording in -o")
@click.option("--allow-repeats", is_flag=True, help="with --append: also images that are recorded already")
@resume_option("go on with a recording that was stopped")
@overwrite_option()
@json_option
@click.pass_context
def record_command(
    context: click.Context,
    /,
    images: tuple[str, ...],
    output: Path,
    layers: tuple[str, ...],
    as_json: bool,
    resume: bool,
    overwrite: bool,
    workers: int | None,
    name_of_runner: str,
    further: bool,
    allow_repeats: bool,
    **options: Any,
) -> int:
    """Run IMAGES (files, folders, patterns) through MODEL once and keep what each layer did.

    The folder gets images.parquet (prediction and feature vector of each image), channels.parquet
    (statistics of each channel), strongest.parquet (the places at which each channel was strongest) and
    manifest.json. Stopped at any moment, even by a power cut, it goes on with --resume and ends with the
    same files. With --append the images join those that the folder holds, all at one stroke.
    """
    from convlens.recording.merge import append
    from convlens.recording.plan import plan_of
    from convlens.recording.run import record
    from convlens.recording.runners import runner
    from convlens.recording.source import open_source

    settings = {name: options.pop(name) for name in ("k", "shard", "batch_size")}
    said = {name for name in settings if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if further and (layers or "k" in said):
        raise UsageError(f"--append follows the layers and keeps the places (-k) of {output}; leave both out")
    if allow_repeats and not further:
        raise UsageError("--allow-repeats says something of --append alone; leave it out")
    run = runner(name_of_runner, workers, options["threads"])
    model = take_model(options)
    if further:
        pieces = {name: settings[name] for name in said}
        go = partial(append, repeats=allow_repeats, pieces=pieces)
    else:
        go = partial(record, plan=plan_of(model, layers, **settings))
    source = open_source(images, model.source, model.card)
    warn_of_weights(model)
    with progress("record") as advance:
        manifest = go(model, source, output, run=run, resume=resume, overwrite=overwrite, progress=advance)
    if as_json:
        print_json(manifest)
    else:
        say_recorded(manifest, output)
    if manifest["unread"]:
        click.echo(
            f"convlens: {manifest['unread']} of {manifest['source']['count']} items could not be read; "
            "images.parquet says why",
            err=True,
        )
        return FAILED
    return 0


def say_recorded(manifest: Mapping[str, Any], folder: Path) -> None:
    """Which layers a recording follows, and how many images it is of."""
    plan = manifest["plan"]
    print_table(
        [
            {"layer": layer["alias"], "operator": layer["op"], "channels": layer["channels"]}
            for layer in plan["layers"]
        ]
    )
    told = plan["feature"]
    feature = f", feature vector: {told['alias']} ({told['channels']})" if told else ""
    count = manifest["images"]
    click.echo(f"\n{count} image{'' if count == 1 else 's'} recorded in {folder}{feature}")
