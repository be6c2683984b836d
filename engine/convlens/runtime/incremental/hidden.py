"""Values with a part of an image changed, probe by probe, exactly and as fast as that goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.hiding import Exact
from convlens.runtime.ahead import ahead, cores
from convlens.runtime.freed import give_back
from convlens.runtime.incremental.changes import Changes, Content
from convlens.runtime.incremental.costs import estimates
from convlens.runtime.incremental.outline import outlined
from convlens.runtime.incremental.probing import Probing
from convlens.runtime.incremental.spans import clusters
from convlens.runtime.runner import Runner, as_declared
from convlens.runtime.sessions import reason

GAIN = 1.15
"""How much faster windows have to be before they are used."""

_FEWEST = 24
"""Probes from which on it is worth looking for windows."""

_TOGETHER = 9
"""Probes in a forward of one part; more of them leave the cache and lie further apart."""

_TAIL = 3
"""Groups of them whose dense rest is computed at once where it reads :data:`_HEAVY` matrices."""

_HEAVY = 10_000_000
"""Weights of dense layers from which on reading them takes longer than computing with them."""

_CHECKED = 3
"""Probes that are computed both ways in every run."""

_CLOSE = 1e-4
"""Of a value's largest magnitude: what the two ways may differ by before the windows are given up."""


@dataclass
class Told:
    """How the probes were computed.

    Attributes:
        way: ``incremental`` or ``dense``.
        why: of a dense one.
        cut: how many parts ran in windows, and of how many.
        gain: cost of a dense probe over that of one in windows, as estimated from sizes.
        error: largest difference between both ways on the probes that were checked, of the largest magnitude.
    """

    way: str = "dense"
    why: str = ""
    cut: tuple[int, int] = (0, 0)
    gain: float = 1.0
    error: float | None = None
    checked: list[int] = field(default_factory=list)

    def words(self) -> str:
        """The same for people."""
        if self.way == "dense":
            return f"dense: {self.why}"
        return (
            f"incremental: {self.cut[0]} of {self.cut[1]} parts in windows; {len(self.checked)} positions "
            f"computed whole too differ by {self.error:.1e} of the largest magnitude"
        )


@dataclass
class Kept:
    """What one image leaves for the next of the same size, probed at the same places."""

    key: tuple[Any, ...] = ()
    why: str = ""
    gain: float = 1.0
    probing: Probing | None = None


_Done = tuple[NDArray[np.int64], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class _Task:
    """What :func:`probe` was asked for, numbers in the precision that the input declares."""

    runner: Runner
    source: str
    axes: Sequence[int]
    image: NDArray[Any]
    changes: Changes
    names: Sequence[str]
    exact: Exact

    def whole(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The changed inputs of some probes."""
        return {self.source: self.changes.whole(self.image, self.axes, rows)}

    @property
    def key(self) -> tuple[Any, ...]:
        """What has to be the same for another image to use what was made for this one."""
        changes = self.changes.starts.tobytes(), self.changes.sides
        return self.runner, self.source, *self.axes, self.image.shape, *changes, *self.names, self.exact


def probe(
    runner: Runner,
    source: str,
    axes: Sequence[int],
    image: NDArray[Any],
    changes: Changes,
    names: Sequence[str],
    batch_size: int,
    exact: Exact = "auto",
    told: Told | None = None,
    kept: Kept | None = None,
) -> Iterator[_Done]:
    """Values ``names`` of every probe, in groups: numbers of the probes, and their values in that order.

    Args:
        runner: of the graph.
        source: the input that is changed.
        axes: its spatial axes, counted with the batch axis.
        image: one input, without the batch axis.
        changes: the probes.
        names: ONNX value names.
        batch_size: whole images in one forward; windows take no more memory than these.
        exact: ``dense`` computes every probe whole, ``incremental`` in windows, ``auto`` what is faster.
        told: is filled with how it was done.
        kept: what the images before have made and this one can use.

    Raises:
        UnsupportedError: windows were asked for, and the graph has none.
    """
    told = Told() if told is None else told
    declared = runner.graph.value(source).dtype
    cast = replace(changes, content=_cast(changes.content, declared))
    task = _Task(runner, source, axes, as_declared(image, declared), cast, names, exact)
    told.why = _never(task)
    probing = None if told.why else _prepared(task, told, Kept() if kept is None else kept)
    if probing is not None:
        told.way, told.cut = "incremental", (probing.until, len(probing.parts.parts))
        yield from _streamed(probing, clusters(changes.starts, probing.together), batch_size)
        return
    if exact == "incremental":
        raise UnsupportedError(f"nothing can be computed in windows: {told.why}; --exact auto runs it whole")
    groups = [np.arange(len(changes))[i : i + batch_size] for i in range(0, len(changes), batch_size)]
    yield from zip(groups, runner.stream(map(task.whole, groups), names), strict=True)


def _cast(content: Content, declared: str | None) -> Content:
    return lambda rows: as_declared(content(rows), declared)


def _never(task: _Task) -> str:
    """Why no windows are looked for, empty where they are."""
    runner, count = task.runner, len(task.changes)
    if task.exact == "dense":
        return "asked for"
    if runner.device != "cpu":
        return f"the model runs on {runner.device}"
    if runner.fixed_batch is not None or not runner.together():
        return "the model takes one image at a time"
    if task.exact == "auto" and count < _FEWEST:
        return f"only {count} probes"
    return ""


def _prepared(task: _Task, told: Told, kept: Kept) -> Probing | None:
    """The probes ready to be computed in windows; None where dense is better."""
    if kept.key == task.key:
        told.why, told.gain = kept.why, kept.gain
        known = kept.probing
        probing = known.of(task.image[None], task.changes.content) if known is not None else None
    else:
        probing = _planned(task, told)
        kept.key, kept.why, kept.gain, kept.probing = task.key, told.why, told.gain, probing
    if probing is None:
        return None
    count = len(task.changes)
    some = np.sort(np.random.default_rng(0).choice(count, min(_CHECKED, count), replace=False))
    reference = next(iter(task.runner.stream([task.whole(some)], task.names)))
    task.runner.forget(task.names)  # before its weights are laid out once more, in parts
    give_back()
    try:
        own = probing.tail(probing.until, 1)(probing.windows(some, probing.until))
    except Exception as error:  # whatever onnxruntime says of a part that runs as part of the whole
        told.why = f"the graph does not run in pieces ({reason(error)})"
        return None
    told.error, told.checked = max(_apart(own[name], reference[name]) for name in task.names), some.tolist()
    if not told.error <= _CLOSE:
        told.why = f"windows differ by {told.error:.1e} of the largest magnitude"
        return None
    give_back()
    return probing


def _planned(task: _Task, told: Told) -> Probing | None:
    """The probes with the cut chosen; None where there is none, or nothing to gain."""
    source, image = task.source, task.image[None]
    sizes = outlined(task.runner.graph, task.names, source, image) if task.exact == "auto" else None
    try:
        if sizes is not None and not _gains(_looked(task, sizes), task, told):
            return None  # before the image goes forward for it
        probing = _looked(task)
    except Exception as error:  # whatever onnxruntime says of pieces of a graph that runs whole
        told.why = f"the graph does not run in pieces ({reason(error)})"
        return None
    until = _gains(probing, task, told)
    if not until:
        return None
    probing.keep(until)
    return probing


def _looked(task: _Task, values: Mapping[str, NDArray[Any]] | None = None) -> Probing:
    changes = task.changes
    return Probing(
        task.runner,
        task.source,
        task.axes,
        task.image[None],
        changes.starts,
        changes.sides,
        changes.content,
        task.names,
        _TOGETHER,
        values,
    )


def _gains(probing: Probing, task: _Task, told: Told) -> int:
    """How many parts in windows are the fastest, 0 where dense is better."""
    if not probing.parts.parts:
        told.why = "the first operator looks at everything"
        return 0
    expected = estimates(probing)
    until = int(expected[1:].argmin()) + 1
    told.gain = float(expected[0] / expected[until])
    if task.exact == "auto" and told.gain < GAIN:
        told.why = f"windows would be {told.gain:.2f} times as fast, too little to gain"
        return 0
    return until


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference as a share of the largest magnitude."""
    if one.shape != other.shape:
        return np.inf
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    scale = float(np.abs(other, dtype=np.float64).max(initial=0.0)) or 1.0
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0)) / scale


def _streamed(probing: Probing, groups: Sequence[NDArray[np.int64]], batch_size: int) -> Iterator[_Done]:
    """Group by group, several at once where there are cores, in the memory of ``batch_size`` images."""
    until, most = probing.until, probing.most(probing.until, batch_size)
    tail = probing.tail(until, 1, most)
    several = max(1, min(_TAIL, most // probing.together)) if probing.heavy(until) >= _HEAVY else 1
    bundles = [groups[first : first + several] for first in range(0, len(groups), several)]

    def work(bundle: Sequence[NDArray[np.int64]]) -> _Done:
        return np.concatenate(bundle), tail(*(probing.windows(rows, until) for rows in bundle))

    workers = probing.runner.own_threads or cores()
    yield from map(work, bundles) if workers == 1 else ahead(work, bundles, workers)
