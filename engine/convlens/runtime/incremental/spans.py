"""What a changed place of the input can change in each part of the graph, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.incremental.parts import SOURCE, Parts


@dataclass(frozen=True)
class Span:
    """Which positions of a layer change, for each of some probes: probes x axes, the last one excluded."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> Span:
        """Those of some probes."""
        return Span(self.start[rows], self.stop[rows])

    def even(self, extent: Sequence[int]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """First positions and one size for all of them; what lies beyond the change is computed too."""
        size = (self.stop - self.start).max(axis=0)
        return np.minimum(self.start, np.asarray(extent) - size), tuple(size.tolist())


def spans(
    parts: Parts, extents: Mapping[str, tuple[int, ...]], starts: NDArray[Any], sides: Sequence[int]
) -> dict[int, Span]:
    """The span of every part, and of the input under :data:`SOURCE`.

    Args:
        parts: what can be computed in windows.
        extents: shape of every value for one image.
        starts: first changed position of the input, probes x axes.
        sides: how many positions change along each axis.
    """
    starts = np.asarray(starts, np.int64)
    found = {SOURCE: Span(starts, starts + np.asarray(sides, np.int64))}
    for number, part in enumerate(parts.parts):
        name = part.nodes[0].outputs[0]
        extent = np.array([extents[name][axis] for axis in parts.axes[name]])
        lows, highs = [], []
        if part.slide is not None:
            read = found[parts.home[part.main]]
            low, high = part.slide.reach(read.start, read.stop)
            lows.append(low)
            highs.append(high)
        for beside in part.beside:
            lows.append(found[parts.home[beside]].start)
            highs.append(found[parts.home[beside]].stop)
        group = np.asarray(part.slide.spread if part.slide is not None else (1,) * len(extent))
        low = np.clip(np.minimum.reduce(lows), 0, extent - 1) // group * group
        high = -(-np.maximum.reduce(highs) // group) * group
        found[number] = Span(low, np.clip(high, low + group, extent))
    return found


def clusters(starts: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Probes in groups of at most ``count`` that lie near each other."""
    axes = starts.shape[1]
    ranks = [np.unique(starts[:, axis], return_inverse=True) for axis in range(axes)]
    side = max(1, round(count ** (1 / axes)))
    tiles = [inverse // side for _, inverse in ranks]
    order = np.lexsort([inverse for _, inverse in reversed(ranks)] + list(reversed(tiles)))
    tile = np.stack([each[order] for each in tiles], axis=1)
    breaks = np.flatnonzero((tile[1:] != tile[:-1]).any(axis=1)) + 1
    return [
        group[first : first + count]
        for group in np.split(order, breaks)
        for first in range(0, len(group), count)
    ]
