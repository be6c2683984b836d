"""A data set where a recording is read: it is recorded first, unless that was done already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from convlens.errors import ImageError, OutputError
from convlens.recording.plan import differing, job_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.store import MANIFEST, SHARDS, Shards
from convlens.results import read_json

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.plan import Plan
    from convlens.recording.source import Source


def is_recording(folder: Path) -> bool:
    """Whether a folder holds a recording, finished or not."""
    return (folder / MANIFEST).is_file() or (folder / SHARDS).is_dir()


def recorded(
    model: Model,
    source: Source,
    folder: Path,
    plan: Plan,
    progress: Callable[[float], None] = lambda _share: None,
) -> tuple[Recording, bool]:
    """The recording of a data set, and whether it had to be made.

    Args:
        model: the model.
        source: the data set.
        folder: where the recording is or goes; what another one left there is overwritten, an unfinished one
            of the same job is gone on with.
        plan: what is recorded.
        progress: called with the share that is done.

    Raises:
        OutputError: ``folder`` is a file, or the disk is full.
        ImageError: not one item can be read.
        CardError: photos, and the card does not say how they go in.
        UnsupportedError: onnxruntime does not run the model.
    """
    _card(model, source)
    shards = Shards(folder, job_of(model, plan, source))
    held = read_json(folder / MANIFEST)
    if held is not None and not differing(held, shards.job):
        return Recording.open(folder, source.given), False
    try:
        goes_on = shards.unfinished(resume=True, overwrite=False)
    except OutputError:
        goes_on = False
    record(model, source, folder, plan, resume=goes_on, overwrite=not goes_on, progress=progress)
    return Recording.open(folder, source.given), True


def _card(model: Model, source: Source) -> None:
    """Refuse photos that no card says how to put in, before anything is written."""
    for item in source.items(0, 1):
        try:
            found = item.read()
            if isinstance(found, Image.Image):
                model.preprocess.view(found)
        except ImageError:
            return  # it is listed with the others that cannot be read
