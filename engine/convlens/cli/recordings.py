"""Options of commands that read a recording."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import F, runs_on
from convlens.cli.show import progress
from convlens.errors import CardError, UsageError

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.reading import Recording


def recording_options(command: F) -> F:
    """REC, where its model and data set lie now, and the device."""
    for option in reversed(
        [
            click.argument("rec", metavar="REC", type=click.Path(path_type=Path)),
            click.option(
                "--model",
                help="where the model lies now, where it lay when it was recorded; or the model that a data "
                "set in the place of REC is recorded with first",
            ),
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


def take_recording(options: dict[str, Any], output: Path | None = None) -> tuple[Model, Recording]:
    """The recording that the options describe and its model; what belongs to them is taken out.

    A data set in its place is recorded first, into the folder ``recording`` below ``output``; without one
    into a folder that is gone when the command ends.

    Raises:
        UsageError: there is no recording, or nothing that can be made one.
    """
    from convlens.recording.first import is_recording
    from convlens.recording.reading import Recording

    if not is_recording(options["rec"]):
        if options["model"] is not None:
            return _recorded_first(options, output)
        if options["rec"].exists():
            raise UsageError(
                f"{options['rec']}: no recording; where it is a data set, --model says which model is to be "
                "recorded on it"
            )
    recording = Recording.open(options.pop("rec"), options.pop("data"))
    model = recording.model(options.pop("model"), options.pop("device"), options.pop("threads"))
    return model, recording


def _recorded_first(options: dict[str, Any], output: Path | None) -> tuple[Model, Recording]:
    from convlens.model import load
    from convlens.recording.first import recorded
    from convlens.recording.plan import plan_of
    from convlens.recording.source import open_source

    given = str(options.pop("rec"))
    if options.pop("data"):
        raise UsageError(f"{given}: no recording; --data says where the data set of a recording lies now")
    model = load(options.pop("model"), device=options.pop("device"), threads=options.pop("threads"))
    source = open_source([given], model.source, model.card)
    if output is None:
        gone = tempfile.TemporaryDirectory(prefix="convlens-")
        output = Path(click.get_current_context().with_resource(gone))
    plan = plan_of(model, batch_size=options.get("batch_size", 8))
    try:
        with progress("record") as advance:
            recording, made = recorded(model, source, output / "recording", plan, advance)
    except CardError as error:
        raise CardError(f"{error}; these options are of `convlens record`") from error
    told = recording.manifest
    what = f"recorded {told['images']} of {len(source)} inputs" if made else "took the recording"
    click.echo(f"convlens: {what} of {given} ({recording.folder})", err=True)
    return model, recording
