"""Operators that slide over the picture: which of their input a range of outputs is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens import ops
from convlens.graph.graph import Node
from convlens.graph.windows import Crop, Kernel, Rule, Spread
from convlens.runtime.incremental.seen import Seen


@dataclass(frozen=True)
class Slide:
    """How the first operator of a part reads its input, along each axis of the picture.

    Outputs come in groups of ``spread``; group ``i`` reads ``i * stride + first`` to
    ``i * stride + first + span - 1``.
    """

    stride: tuple[int, ...]
    first: tuple[int, ...]
    span: tuple[int, ...]
    spread: tuple[int, ...]
    crop: Crop

    def begin(self, start: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the cuts for outputs from ``start`` (probes x axes) on begin, in the padded input."""
        begin: NDArray[np.int64] = start // np.asarray(self.spread) * np.asarray(self.stride)
        return begin

    def length(self, size: Sequence[int]) -> list[int]:
        """How long a cut for ``size`` outputs is."""
        rows = zip(size, self.spread, self.stride, self.span, strict=True)
        return [(-(-count // spread) - 1) * stride + span for count, spread, stride, span in rows]

    def reach(
        self, start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The outputs that inputs ``start`` to ``stop`` take part in (probes x axes), beyond borders too."""
        stride, first, span, spread = (
            np.array(each) for each in (self.stride, self.first, self.span, self.spread)
        )
        low = -(-(start - first - span + 1) // stride)
        high = (stop - 1 - first) // stride + 1
        return low * spread, high * spread


def slide_of(node: Node, rule: Rule, reads: Sequence[str], axes: tuple[int, ...], seen: Seen) -> Slide | None:
    """How a node slides over its first input, None where it does not, or it is not known how to cut it."""
    entry = ops.find(node)
    if not isinstance(rule, Kernel) or rule.loose or not rule.windows or entry is None or entry.crop is None:
        return None
    if list(reads) != [node.input(0)] or rule.mixed & {0, *axes} or not set(rule.windows) <= set(axes):
        return None
    before, after = seen.shape(reads[0]), seen.shape(node.outputs[0])
    crop = entry.crop(node, seen.graph)
    if crop is None or len(before) != len(after):
        return None
    read = node.inputs[:1] if crop.moves or crop.scales else node.inputs  # by what is computed on a cut
    if not seen.sized.isdisjoint(read):
        return None
    if crop.spread:
        return _spread(crop, axes, before, after)
    stride, first, span = [], [], []
    for axis in axes:
        window = rule.windows.get(axis)
        step: Any = window.stride if window is not None else 1
        start: Any = window.first if window is not None else 0
        width: Any = window.last - window.first + 1 if window is not None else 1
        if any(number != int(number) for number in (step, start, width)) or step < 1 or width < 1:
            return None
        stride.append(int(step))
        first.append(int(start))
        span.append(int(width))
    still = all(numbers == (1, 0, 1) for numbers in zip(stride, first, span, strict=True))
    still = still and all(before[axis] == after[axis] for axis in axes)  # else there is padding behind
    if still and not crop.moves:
        return None
    return Slide(tuple(stride), tuple(first), tuple(span), (1,) * len(axes), crop)


def _spread(
    crop: Crop, axes: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> Slide | None:
    """The slide of an operator that makes axes longer, None where a border is none of a whole group."""
    if not set(crop.spread) <= set(axes):
        return None
    each = [crop.spread.get(axis, Spread(1)) for axis in axes]
    if any(after[axis] != before[axis] * one.factor for axis, one in zip(axes, each, strict=True)):
        return None
    return Slide(
        (1,) * len(axes),
        tuple(-one.front for one in each),
        tuple(one.front + one.back + 1 for one in each),
        tuple(one.factor for one in each),
        crop,
    )
