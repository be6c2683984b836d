"""Who does the shards of a recording, by name: this process, or an entry point of ``convlens.runners``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from convlens.errors import UsageError, nearest
from convlens.recording.run import locally

if TYPE_CHECKING:
    from convlens.recording.run import Run

ENTRY_POINTS = "convlens.runners"
LOCAL = "local"

Open = Callable[[int, int | None], "Run"]
"""From the batches that a copy of the model works on at once and the threads of one forward to a runner."""


def runner(name: str = LOCAL, workers: int | None = None, threads: int | None = None) -> Run:
    """Who does the shards.

    Args:
        name: ``local``, or that of an entry point.
        workers: batches that each copy of the model works on at once; without it as many as there are cores
            for locally, and one a copy elsewhere.
        threads: inside one forward; left to the runner where it is None.

    Raises:
        UsageError: there is none of that name, or what it needs is not installed.
    """
    if name == LOCAL:
        return locally(workers)
    known = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in known:
        there = ", ".join(sorted([LOCAL, *known]))
        raise UsageError(f"no runner {name!r}{nearest(name, known)}; there are {there}")
    found: Open = known[name].load()
    return found(workers or 1, threads)
