"""Operators that work place by place: where the picture's axes lie behind them, and what is read beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.graph.graph import Node
from convlens.graph.windows import Join, Kernel, Permute, Pointwise, Reduce, Regroup
from convlens.runtime.incremental.cutting import STILL
from convlens.runtime.incremental.seen import Seen

_STRETCHES = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Mean", "Sum", "Where", "PRelu", "Concat",
        "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
    }
)  # fmt: skip
"""Operators all of whose inputs are aligned from the right, so that each may be cut along with a window."""

_SIZED = frozenset({"Expand", "Resize", "Upsample", "Tile"})
"""Operators whose constants are lengths of axes, or may be."""

_BY_CHANNEL = frozenset({"BatchNormalization", "LRN"})
"""Operators for which axis 1 is that of the channels, whatever the picture's axes are."""


@dataclass(frozen=True)
class Still:
    """A value that does not change and differs from place to place, so that it is cut along with the window.

    Attributes:
        output: of the node that reads it.
        name: the value.
        rank: of the node's output.
        axes: the picture's, in that.
    """

    output: str
    name: str
    rank: int
    axes: tuple[int, ...]

    @property
    def feed(self) -> str:
        """The name under which cuts go in."""
        return f"{STILL}{self.output}.{self.name}"

    def whole(self, value: NDArray[Any], extent: Sequence[int]) -> NDArray[Any]:
        """The value with an axis for images, of one image, and the picture's axes as long as the picture."""
        array = value.reshape((1,) * (self.rank - value.ndim) + value.shape)
        shape = list(array.shape)
        for axis, length in zip(self.axes, extent, strict=True):
            shape[axis] = length
        return np.broadcast_to(array, shape)


@dataclass(frozen=True)
class Placed:
    """A node that works place by place.

    Attributes:
        axes: the picture's axes in each of its outputs.
        still: what it reads that is cut along.
        given: what it reads of sizes that are known.
        lengths: of a Reshape, the lengths of its output; ``-1 - a`` is that of axis ``a`` of its input.
    """

    axes: tuple[int, ...]
    still: tuple[Still, ...] = ()
    given: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()


def placed(
    node: Node, seen: Seen, reads: Sequence[str], where: Mapping[str, tuple[int, ...]], outputs: Sequence[str]
) -> Placed | None:
    """How a node works place by place, None where it does not.

    Args:
        node: the node.
        seen: what is known of the graph.
        reads: what it reads that changes, of which the picture's axes are known.
        where: these.
        outputs: those of its outputs that are needed.
    """
    rule = seen.rule(node)
    axes, shape, out = where[reads[0]], seen.shape(reads[0]), seen.shape(outputs[0])
    if 0 in axes or (outputs != [node.outputs[0]] and node.full_op != "Split"):
        return None
    found: Placed | None
    if isinstance(rule, Pointwise | Join):
        return _aligned(node, seen, reads, where, out)
    others = [name for name in node.inputs if name and name not in reads]
    if isinstance(rule, Permute | Regroup):
        found = _moved(node, rule, axes, shape, out)
        others = [] if found is not None and found.lengths else others
    elif list(reads) != [node.input(0)] or node.full_op in _SIZED:
        return None
    elif isinstance(rule, Kernel):
        still = all(rule.windows[a].stride == 1 and _whole(rule, a) for a in axes if a in rule.windows)
        same = len(out) == len(shape) and all(out[axis] == shape[axis] for axis in axes)
        fixed = not rule.loose and 0 not in rule.windows and not rule.mixed & {0, *axes}
        found = Placed(axes) if still and same and fixed else None
    elif isinstance(rule, Reduce):
        hit = {axis % len(shape) for axis in rule.axes} if rule.axes is not None else {0}
        if hit & {0, *axes} or len(out) != len(shape) - (0 if rule.keepdims else len(hit)):
            return None
        found = Placed(tuple(a if rule.keepdims else a - sum(h < a for h in hit) for a in axes))
    else:
        return None
    if node.op in _BY_CHANNEL and 1 in axes:
        return None
    if found is None or not seen.settled(others):
        return None
    return replace(found, given=tuple(name for name in others if name in seen.sized))


def _whole(rule: Kernel, axis: int) -> bool:
    return rule.windows[axis].first == rule.windows[axis].last == 0


def _moved(
    node: Node, rule: Permute | Regroup, axes: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]
) -> Placed | None:
    """Axes in another order, channels in other groups; the picture's axes stay, and the one of images."""
    groups = rule.groups if isinstance(rule, Regroup) else tuple((a,) if a >= 0 else () for a in rule.order)
    kept = (0, *axes)
    if any(groups.count((axis,)) != 1 or sum(axis in group for group in groups) != 1 for axis in kept):
        return None
    places = [groups.index((axis,)) for axis in kept]
    if places[0] != 0 or any(out[at] != shape[axis] for at, axis in zip(places, kept, strict=True)):
        return None
    if node.full_op == "Squeeze" and len(node.inputs) < 2 and node.attr("axes") is None:
        return None  # which drops whatever is of length one, in a window too
    if node.full_op == "Flatten" and len(out) != len(shape):
        return None
    lengths: list[int] = []
    if node.full_op == "Reshape":
        lengths = list(out)
        for at, axis in zip(places, kept, strict=True):
            lengths[at] = -1 - axis
    return Placed(tuple(places[1:]), lengths=tuple(lengths))


def _aligned(
    node: Node, seen: Seen, reads: Sequence[str], where: Mapping[str, tuple[int, ...]], out: tuple[int, ...]
) -> Placed | None:
    """What computes number by number, or lays channels end to end."""
    axes, shape = where[reads[0]], seen.shape(reads[0])
    rank, sizes = len(shape), [shape[axis] for axis in axes]
    rule = seen.rule(node)
    if isinstance(rule, Join) and rule.axis % rank in (0, *axes):
        return None
    for name in reads:
        own = seen.shape(name)
        if len(own) != rank or where[name] != axes or [own[axis] for axis in axes] != sizes:
            return None
    if len(out) != rank or [out[axis] for axis in axes] != sizes:
        return None
    others = [name for name in node.inputs if name and name not in reads]
    if node.op in _BY_CHANNEL:
        flat = all(array is not None and array.ndim == 1 for array in map(seen.array, others))
        return Placed(axes) if flat and 1 not in axes and seen.sized.isdisjoint(others) else None
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return Placed(axes) if _by_axis(node, seen, others, rank, axes) else None
    still = []
    for name in dict.fromkeys(others):
        array = seen.array(name)
        if array is None or array.ndim > rank or (array.ndim == rank and array.shape[0] != 1):
            return None
        alike = all(array.ndim < rank - axis or array.shape[-(rank - axis)] == 1 for axis in axes)
        if alike and name not in seen.sized and not isinstance(rule, Join):
            continue
        if alike and array.size == 1 and name not in seen.sized:
            continue  # a scale of codes that are joined
        if node.full_op not in _STRETCHES:
            return None
        still.append(Still(node.outputs[0], name, rank, axes))
    return Placed(axes, tuple(still))


def _by_axis(node: Node, seen: Seen, others: Sequence[str], rank: int, axes: tuple[int, ...]) -> bool:
    """Whether steps and zero points are one for all, or belong to an axis that is none of the picture."""
    if not seen.sized.isdisjoint(others) or int(node.attr("block_size", 0) or 0):
        return False
    arrays = [seen.array(name) for name in others]
    if any(array is None or array.ndim > 1 for array in arrays):
        return False
    if all(array is not None and array.size == 1 for array in arrays):
        return True
    return int(node.attr("axis", 1)) % rank not in (0, *axes)
