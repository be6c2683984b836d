"""The command that makes one recording of several."""

from __future__ import annotations

from pathlib import Path

import click

from convlens.cli.options import json_option, overwrite_option
from convlens.cli.record import say_recorded
from convlens.cli.show import print_json


@click.command("merge", short_help="make one recording of several of the same model")
@click.argument("recordings", metavar="REC REC...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="folder for the new recording"
)
@click.option("--allow-repeats", is_flag=True, help="count a data set that comes twice twice")
@overwrite_option()
@json_option
def merge_command(
    recordings: tuple[Path, ...], output: Path, allow_repeats: bool, overwrite: bool, as_json: bool
) -> int:
    """Make one recording of several of the same model, with the same card and the same layers.

    It is what recording their data sets one after the other gives: images are numbered on in the order of
    the recordings, and the data sets are found again where they lie. `convlens record --append` records more
    images and merges them in one step.
    """
    from convlens.recording.merge import merge
    from convlens.recording.reading import Recording

    found = [Recording.open(folder) for folder in recordings]
    manifest = merge(found, output, repeats=allow_repeats, overwrite=overwrite)
    if as_json:
        print_json(manifest)
    else:
        say_recorded(manifest, output)
    return 0
