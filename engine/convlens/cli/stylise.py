"""The command that runs a network from photo to picture over photos and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convlens.cli.options import (
    Numbers,
    json_option,
    model_options,
    overwrite_option,
    resume_option,
    take_model,
)
from convlens.cli.show import print_json, progress, warn_of_weights
from convlens.errors import FAILED, STOPPED


@click.command("stylise", short_help="run a network that makes pictures over photos or frames")
@model_options
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--side",
    type=click.IntRange(1),
    help="shorter side to which photos are brought first, in pixels; their own by default",
)
@click.option(
    "--output-range",
    type=Numbers(2),
    help="numbers of black and white in the network's output; those of its input by default",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("convlens-stylise"),
    show_default=True,
    help="folder for the pictures",
)
@resume_option("leave the pictures that are there already, and go on")
@overwrite_option()
@json_option
def stylise_command(
    images: tuple[str, ...],
    output: Path,
    as_json: bool,
    side: int | None,
    output_range: tuple[float, float] | None,
    resume: bool,
    overwrite: bool,
    **options: Any,
) -> int:
    """Run MODEL, which makes a picture of a photo, over IMAGES (files or folders) and write PNGs.

    Pictures get the names of the photos; folders keep their inner structure. Frames of a video are a folder
    of files in order. Photos of any size go in where the model takes any size: their edges are mirrored to
    the multiple that it needs, and cut off again. The next photo is read and the last picture written while
    one is computed, so memory does not grow with their number. Ctrl-C ends after the photo that is computed,
    and --resume goes on.
    """
    from convlens.images import expand
    from convlens.stylise import stylise
    from convlens.watch import Watch

    model = take_model(options)
    paths = expand(images)
    warn_of_weights(model)
    watch = Watch()
    with progress("stylise") as advance:
        found = stylise(
            model,
            paths,
            output,
            roots=[Path(given) for given in images if Path(given).is_dir()],
            side=side,
            output_range=output_range,
            resume=resume,
            overwrite=overwrite,
            watch=watch,
            progress=advance,
        )
    for text in found.warnings:
        click.echo(f"convlens: warning: {text}", err=True)
    for path, reason in found.skipped:
        told = reason if reason.startswith(str(path)) else f"{path}: {reason}"
        click.echo(f"convlens: skipped: {told}", err=True)
    if as_json:
        print_json(
            {
                "model": model.name,
                "written": len(found.written),
                "kept": found.kept,
                "skipped": [{"image": str(path), "reason": reason} for path, reason in found.skipped],
                "warnings": found.warnings,
                "stopped": found.stopped,
                "files": [str(path) for path in found.written],
            }
        )
    else:
        there = f", {found.kept} were there already" if found.kept else ""
        click.echo(f"{len(found.written)} pictures written to {output}{there}")
        if found.stopped:
            click.echo("stopped before its end; --resume goes on")
    if found.stopped:
        return STOPPED
    return FAILED if found.skipped else 0
