"""Options of commands that read a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import F, runs_on

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.reading import Recording


def recording_options(command: F) -> F:
    """REC, where its model and data set lie now, and the device."""
    for option in reversed(
        [
            click.argument("rec", metavar="REC", type=click.Path(path_type=Path)),
            click.option("--model", help="where the model lies now; where it lay when it was recorded"),
            click.option(
                "--data",
                multiple=True,
                help="where the data set lies now; where it lay when it was recorded; repeatable",
            ),
            *runs_on(),
        ]
    ):
        command = option(command)
    return command


def take_recording(options: dict[str, Any]) -> tuple[Model, Recording]:
    """The recording that the options describe and its model; what belongs to them is taken out."""
    from convlens.recording.reading import Recording

    recording = Recording.open(options.pop("rec"), options.pop("data"))
    model = recording.model(options.pop("model"), options.pop("device"), options.pop("threads"))
    return model, recording
