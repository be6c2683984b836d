"""A whole recording on this machine: shard by shard, never lost, then the tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from convlens.errors import ImageError
from convlens.recording import tables
from convlens.recording.byclass import Groups
from convlens.recording.plan import Plan, job_of
from convlens.recording.recorder import Recorder
from convlens.recording.store import MANIFEST, Shards, put
from convlens.recording.swap import dropped
from convlens.results import plain

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.part import Part
    from convlens.recording.source import Source


class Run(Protocol):
    """Who does the shards: gives finished parts, in any order."""

    def __call__(
        self, model: Model, plan: Plan, source: Source, shards: Sequence[tuple[int, int]]
    ) -> Iterable[Part]:
        """Parts of ``shards``, each the first and the last item and one."""


def locally(workers: int | None = None) -> Run:
    """In this process; ``workers`` batches are worked on at once, as :class:`Recorder` says."""

    def run(model: Model, plan: Plan, source: Source, shards: Sequence[tuple[int, int]]) -> Iterable[Part]:
        return Recorder(model, plan, workers).parts(source, shards)

    return run


def record(
    model: Model,
    source: Source,
    folder: Path,
    plan: Plan,
    *,
    run: Run | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda _share: None,
) -> dict[str, Any]:
    """Record what a data set does to a model; returns the manifest.

    Args:
        model: the model.
        source: the data set.
        folder: where the recording goes.
        plan: what is recorded.
        run: who does the shards; this process without it.
        resume: go on with an unfinished recording of the same job.
        overwrite: start afresh in a folder that holds something.
        progress: called with the share that is done.

    Raises:
        OutputError: the folder holds something else, or the disk is full.
        ImageError: not one item can be read; nothing was written.
        UnsupportedError: onnxruntime does not run the model.
    """
    job = job_of(model, plan, source)
    shards = Shards(folder, job)
    goes_on = shards.unfinished(resume, overwrite)
    count = len(source)
    every = [(first, min(count, first + plan.shard)) for first in range(0, count, plan.shard)]
    if not goes_on:
        _readable(source)
        dropped(folder)
        shards.claim()
    left = [one for one in every if not (goes_on and shards.get(one[0]) is not None)]
    done = count - sum(stop - first for first, stop in left)
    for part in (run or locally())(model, plan, source, left):
        shards.add(part)
        done += len(part.rows)
        progress(done / count)
    manifest = _finish(shards, plan, [first for first, _ in every])
    shards.end()
    return manifest


def _readable(source: Source) -> None:
    """Refuse a data set of which nothing can be read, before anything is written."""
    reason = "it is empty"
    for first in range(0, len(source), 64):
        for item in source.items(first, min(len(source), first + 64)):
            try:
                item.read()
                return
            except ImageError as error:
                reason = str(error)
    raise ImageError(
        f"{source.text}: none of {len(source)} items can be read and nothing was written; the last: {reason}"
    )


def _finish(shards: Shards, plan: Plan, firsts: Sequence[int]) -> dict[str, Any]:
    """The tables and the manifest from finished shards."""

    def parts() -> Iterator[Part]:
        for first in firsts:
            found = shards.get(first)
            if found is None:
                raise RuntimeError(f"shard {first} is gone")
            yield found

    tallies, strongest, groups, unread = None, None, Groups.nothing(), 0
    for part in parts():
        if tallies is None or strongest is None:
            tallies, strongest = part.tallies, part.strongest
        else:
            tallies = [one.merged(other) for one, other in zip(tallies, part.tallies, strict=True)]
            strongest = [one.merged(other) for one, other in zip(strongest, part.strongest, strict=True)]
        groups = groups.merged(part.groups)
        unread += sum(row["reason"] != "" for row in part.rows)
    assert tallies is not None
    assert strongest is not None
    wanted = {int(number) for one in strongest for number in one.image.reshape(-1) if number >= 0}
    length = plan.feature.channels if plan.feature is not None else None
    folder = shards.folder
    columns = shards.job["source"].get("columns")
    names = tables.write_images(folder / tables.IMAGES, parts(), length, wanted, columns)
    tables.write_channels(folder / tables.CHANNELS, plan.layers, tallies)
    tables.write_strongest(folder / tables.STRONGEST, plan.layers, strongest, names)
    tables.write_classes(folder / tables.CLASSES, plan.layers, groups)
    count = shards.job["source"]["count"]
    manifest = {**shards.job, "images": count - unread, "unread": unread}
    put(folder / MANIFEST, json.dumps(plain(manifest), indent=1, ensure_ascii=False).encode())
    return manifest
