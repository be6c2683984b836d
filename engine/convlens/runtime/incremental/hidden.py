"""Values with a part of an image changed, probe by probe, exactly and as fast as that goes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.runtime.incremental.costs import estimates
from convlens.runtime.incremental.probing import Probing
from convlens.runtime.incremental.spans import clusters
from convlens.runtime.patches import each
from convlens.runtime.runner import Runner, as_declared, reason

Exact = Literal["auto", "incremental", "dense"]
Content = Callable[[NDArray[np.int64]], NDArray[Any]]

GAIN = 1.15
"""How much faster windows have to be before they are used."""

_FEWEST = 24
"""Probes from which on it is worth looking for windows."""

_TOGETHER = 25
"""Probes in a forward of one part; more of them leave the cache."""

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


@dataclass(frozen=True)
class Changes:
    """What is changed in an image.

    Attributes:
        starts: first changed position along each spatial axis, probes x axes.
        sides: how many positions change along each.
        content: what stands there for some probes, probes x the input's axes without the batch.
    """

    starts: NDArray[np.int64]
    sides: tuple[int, ...]
    content: Content

    @classmethod
    def filled(
        cls,
        fill: NDArray[Any],
        axes: Sequence[int],
        places: Sequence[tuple[int, ...]],
        patch: int | Sequence[int],
    ) -> Changes:
        """A patch that shows ``fill`` (one input without its batch axis) at each of some places."""
        sides = each(patch, len(axes))

        def content(rows: NDArray[np.int64]) -> NDArray[Any]:
            return np.stack([fill[_window(fill.ndim, axes, places[row], sides)] for row in rows.tolist()])

        return cls(np.array(places, np.int64).reshape(len(places), len(axes)), sides, content)

    def __len__(self) -> int:
        """How many probes."""
        return len(self.starts)

    def whole(self, image: NDArray[Any], axes: Sequence[int], rows: NDArray[np.int64]) -> NDArray[Any]:
        """The changed inputs of some probes; ``image`` without its batch axis, ``axes`` counted with it."""
        batch = np.repeat(image[None], len(rows), axis=0)
        for row, (place, part) in enumerate(zip(self.starts[rows].tolist(), self.content(rows), strict=True)):
            batch[row][_window(image.ndim, axes, place, self.sides)] = part
        return batch


def _window(rank: int, axes: Sequence[int], place: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    """Where a patch lies in an input without its batch axis; ``axes`` are counted with it."""
    window = [slice(None)] * rank
    for axis, start, side in zip(axes, place, sides, strict=True):
        window[axis - 1] = slice(start, start + side)
    return tuple(window)


_Done = tuple[NDArray[np.int64], dict[str, NDArray[Any]]]


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

    Raises:
        UnsupportedError: windows were asked for, and the graph has none.
    """
    told = Told() if told is None else told
    declared = runner.graph.value(source).dtype
    image = as_declared(image, declared)
    changes = replace(changes, content=_cast(changes.content, declared))
    rows = np.arange(len(changes))

    def dense(left: NDArray[np.int64]) -> Iterator[_Done]:
        groups = [left[i : i + batch_size] for i in range(0, len(left), batch_size)]
        feeds = ({source: changes.whole(image, axes, group)} for group in groups)
        yield from zip(groups, runner.stream(feeds, names), strict=True)

    told.why = _never(runner, exact, len(changes))
    found = None
    if not told.why:
        found = _prepared(runner, source, axes, image, changes, names, exact, told)
    if found is None:
        if exact == "incremental":
            raise UnsupportedError(
                f"nothing can be computed in windows: {told.why}; --exact auto runs it whole"
            )
        yield from dense(rows)
        return
    probing, until = found
    told.way, told.cut = "incremental", (until, len(probing.parts.parts))
    groups = clusters(changes.starts, probing.together)
    yield from _streamed(runner, probing, until, groups, probing.most(until, batch_size))


def _cast(content: Content, declared: str | None) -> Content:
    return lambda rows: as_declared(content(rows), declared)


def _never(runner: Runner, exact: Exact, count: int) -> str:
    """Why no windows are looked for, empty where they are."""
    if exact == "dense":
        return "asked for"
    if runner.device != "cpu":
        return f"the model runs on {runner.device}"
    if runner.fixed_batch is not None or not runner.together():
        return "the model takes one image at a time"
    if exact == "auto" and count < _FEWEST:
        return f"only {count} probes"
    return ""


def _prepared(
    runner: Runner,
    source: str,
    axes: Sequence[int],
    image: NDArray[Any],
    changes: Changes,
    names: Sequence[str],
    exact: Exact,
    told: Told,
) -> tuple[Probing, int] | None:
    """The probes ready to be computed in windows, and the cut; None where dense is better."""
    try:
        probing = Probing(
            runner,
            source,
            axes,
            image[None],
            changes.starts,
            changes.sides,
            changes.content,
            names,
            _TOGETHER,
        )
    except Exception as error:  # whatever onnxruntime says of pieces of a graph that runs whole
        told.why = f"the graph does not run in pieces ({reason(error)})"
        return None
    if not probing.parts.parts:
        told.why = "the first operator looks at everything"
        return None
    expected = estimates(probing)
    until = int(expected[1:].argmin()) + 1
    told.gain = float(expected[0] / expected[until])
    if exact == "auto" and told.gain < GAIN:
        told.why = f"windows would be {told.gain:.2f} times as fast, too little to gain"
        return None
    some = np.sort(np.random.default_rng(0).choice(len(changes), min(_CHECKED, len(changes)), replace=False))
    reference = probing.tail(0, 1)(probing.windows(some, 0))
    probing.forget()
    own = probing.tail(until, 1)(probing.windows(some, until))
    told.error, told.checked = max(_apart(own[name], reference[name]) for name in names), some.tolist()
    if not told.error <= _CLOSE:
        told.why = f"windows differ by {told.error:.1e} of the largest magnitude"
        return None
    probing.keep(until)
    return probing, until


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference as a share of the largest magnitude."""
    if one.shape != other.shape:
        return np.inf
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    scale = float(np.abs(other, dtype=np.float64).max(initial=0.0)) or 1.0
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0)) / scale


def _streamed(
    runner: Runner, probing: Probing, until: int, groups: Sequence[NDArray[np.int64]], most: int
) -> Iterator[_Done]:
    """Group by group, as many at once as the model may use threads; ``most`` probes go through the rest."""
    tail = probing.tail(until, 1, most)

    def work(rows: NDArray[np.int64]) -> _Done:
        return rows, tail(probing.windows(rows, until))

    workers = runner.own_threads or os.cpu_count() or 1
    if workers == 1:
        yield from map(work, groups)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="windows") as pool:
        waiting: deque[Future[_Done]] = deque()
        for rows in groups:
            waiting.append(pool.submit(work, rows))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
