"""Detectors that score every window of the input on maps, such as the first net of a cascade for faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import TargetError
from convlens.targets.dense import Dense
from convlens.targets.places import Place, check_inside
from convlens.targets.target import Pick, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import ReceptiveField


@dataclass(frozen=True)
class Window:
    """The window with the largest score that contains a point.

    Attributes:
        dense: the maps of the scores.
        field: what a cell of them sees: its window.
        place: the point.
        index: the class.
    """

    dense: Dense
    field: ReceptiveField
    place: Place
    index: int

    alone = False
    shares = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The scores, before and after a last softmax."""
        return tuple(dict.fromkeys((self.dense.value, self.dense.seen)))

    def pick(self, values: Mapping[str, NDArray[Any]], extent: tuple[int, ...]) -> Pick:
        """The window on one image."""
        check_inside(self.place, extent)
        dense = self.dense
        seen = np.take(values[dense.seen][0], self.index, axis=dense.channel - 1)
        spans, inside = [], np.ones(seen.shape, bool)
        for axis, at in enumerate(self.place.point):
            size = self.field.size[axis]
            assert size is not None
            first = self.field.offset[axis] + self.field.stride[axis] * np.arange(seen.shape[axis])
            spans.append((first, size))
            hit = (first <= at) & (at < first + size)
            inside &= hit.reshape([-1 if other == axis else 1 for other in range(seen.ndim)])
        if not inside.any():
            raise TargetError(f"no window of {dense.alias} contains {self.place.text}")
        cell = np.unravel_index(int(np.where(inside, seen, -np.inf).argmax()), seen.shape)
        ends = [int(first[i]) for (first, _), i in zip(spans, cell, strict=True)]
        stops = [start + size for start, (_, size) in zip(ends, spans, strict=True)]
        score = float(seen[cell])
        near = "" if self.field.exact else "about "
        where = f"{near}rows {ends[0]} to {stops[0] - 1}, columns {ends[1]} to {stops[1] - 1}"
        at_row = [int(i) for i in cell]
        at_row.insert(dense.channel - 1, self.index)
        flat = np.ravel_multi_index(at_row, values[dense.value].shape[1:])
        record = {"class": self.index, "cell": [int(i) for i in cell], "at": [*ends, *stops], "score": score}
        text = f"{dense.name(self.index)}, window {where} (score {score:.3g})"
        return Pick(text, np.array([flat], np.int64), record, self.index)

    def score(self, values: Mapping[str, Any], picks: Sequence[Pick]) -> Any:
        """Not asked for: the cell is read by the target itself."""
        raise NotImplementedError


def window_scores(maps: Sequence[Dense]) -> Dense | None:
    """The scores of a detector with two outputs of maps, scores and four numbers a window; None otherwise.

    Only windows whose size is told by the graph count, which is so where each cell sees a part of the input.
    """
    if len(maps) != 2:
        return None
    boxes = [one for one in maps if one.count == 4]
    scores = [one for one in maps if one.count in (1, 2)]
    if len(boxes) != 1 or len(scores) != 1 or len(scores[0].spatial) != 2:
        return None
    field = scores[0].field
    return scores[0] if field is not None and None not in field.size and all(field.stride) else None


def window_target(dense: Dense, index: int | None, place: Place) -> Target:
    """The target: the score of the best window that contains a point; of the last class by default."""
    assert dense.field is not None
    chosen = (dense.count or 1) - 1 if index is None else index
    look = Window(dense, dense.field, place, chosen)
    text = f"the best window of {dense.name(chosen)} at {place.text}"
    return Target("picked", dense.value, text, reduction="mean", look=look)
