"""A graph in parts that can be computed window by window, as far as there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convlens import ops
from convlens.graph.dependence import dependent
from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Join, Kernel, Permute, Pointwise, Reduce, Rule

SOURCE = -1
"""The part that the input itself belongs to."""

_PER_CHANNEL = frozenset({"BatchNormalization"})
"""Operators whose constants belong to channels, wherever numpy would broadcast them."""


@dataclass(frozen=True)
class Slide:
    """How the first operator of a part reads its input, along each axis of the picture.

    Output ``i`` reads ``i * stride + first`` to ``i * stride + first + span - 1``.
    """

    stride: tuple[int, ...]
    first: tuple[int, ...]
    span: tuple[int, ...]
    crop: Crop


@dataclass
class Part:
    """Nodes whose values all have the same window.

    Attributes:
        nodes: in the order in which they are computed; the first one slides, where ``slide`` is given.
        slide: of the first node.
        main: the value that it reads, empty without ``slide``.
        beside: values of other parts that are read place by place.
    """

    nodes: list[Node] = field(default_factory=list)
    slide: Slide | None = None
    main: str = ""
    beside: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """What can be computed in windows.

    Attributes:
        parts: in an order in which each has what it reads.
        home: the part of each value, :data:`SOURCE` for the input.
        axes: for each of these values, which of its axes are the picture's, in the order of the input's.
        reached: every value that hangs on the input.
    """

    parts: Sequence[Part]
    home: Mapping[str, int]
    axes: Mapping[str, tuple[int, ...]]
    reached: frozenset[str]


def split(
    graph: Graph,
    nodes: Sequence[Node],
    source: str,
    axes: Sequence[int],
    extents: Mapping[str, tuple[int, ...]],
) -> Parts:
    """Cut a graph into parts.

    Args:
        graph: the normalised graph.
        nodes: those of its nodes that are needed, in their order.
        source: the input that is changed.
        axes: its spatial axes, counted with the batch axis.
        extents: the shape of every value that hangs on it, for one image.
    """
    home, where = {source: SOURCE}, {source: tuple(axes)}
    parts: list[Part] = []
    reached = frozenset(dependent(graph, (source,)))
    for node in nodes:
        reads = [name for name in dict.fromkeys(node.reads) if name in reached]
        if not reads or node.captures or any(name not in home for name in reads):
            continue
        outputs = [name for name in node.outputs if name]
        if len(outputs) != 1 or outputs[0] not in extents:
            continue
        rule = ops.rule_of(node, graph)
        slide = _slide(node, graph, rule, reads, where[reads[0]], extents)
        if slide is not None:
            home[outputs[0]], where[outputs[0]] = len(parts), where[reads[0]]
            parts.append(Part([node], slide, reads[0]))
            continue
        placed = _placed(node, graph, rule, reads, where, extents)
        if placed is None:
            continue
        number = max(home[name] for name in reads)
        if number == SOURCE:
            parts.append(Part())
            number = len(parts) - 1
        part = parts[number]
        part.nodes.append(node)
        part.beside += [name for name in reads if home[name] != number and name not in part.beside]
        home[outputs[0]], where[outputs[0]] = number, placed
    return Parts(parts, home, where, reached)


def _slide(
    node: Node,
    graph: Graph,
    rule: Rule,
    reads: Sequence[str],
    axes: tuple[int, ...],
    extents: Mapping[str, tuple[int, ...]],
) -> Slide | None:
    """How a node slides over its first input, None where it does not, or it is not known how to cut it."""
    entry = ops.find(node)
    if not isinstance(rule, Kernel) or rule.loose or not rule.windows or entry is None or entry.crop is None:
        return None
    if list(reads) != [node.input(0)] or rule.mixed & set(axes) or not set(rule.windows) <= set(axes):
        return None
    crop = entry.crop(node, graph)
    stride, first, span = [], [], []
    for axis in axes:
        window = rule.windows.get(axis)
        step = window.stride if window is not None else 1
        start = window.first if window is not None else 0
        width = window.last - window.first + 1 if window is not None else 1
        if any(number != int(number) for number in (step, start, width)):
            return None
        stride.append(int(step))
        first.append(int(start))
        span.append(int(width))
    still = all(numbers == (1, 0, 1) for numbers in zip(stride, first, span, strict=True))
    before, after = extents[reads[0]], extents[node.outputs[0]]
    still = still and all(before[axis] == after[axis] for axis in axes)  # else there is padding behind
    if crop is None or (still and not crop.moves):
        return None
    return Slide(tuple(stride), tuple(first), tuple(span), crop)


def _placed(
    node: Node,
    graph: Graph,
    rule: Rule,
    reads: Sequence[str],
    where: Mapping[str, tuple[int, ...]],
    extents: Mapping[str, tuple[int, ...]],
) -> tuple[int, ...] | None:
    """The picture's axes in the output of a node that works place by place, None where it does not."""
    axes, shape, out = where[reads[0]], extents[reads[0]], extents[node.outputs[0]]
    if isinstance(rule, Permute):
        return tuple(rule.order.index(axis) for axis in axes) if set(axes) <= set(rule.order) else None
    if isinstance(rule, Kernel):
        still = all(w.stride == 1 and w.first == w.last == 0 for w in rule.windows.values())
        same = len(out) == len(shape) and all(out[axis] == shape[axis] for axis in axes)
        if not still or not same or rule.loose or rule.mixed & set(axes) or list(reads) != [node.input(0)]:
            return None
        return axes
    if isinstance(rule, Reduce):
        hit = rule.axes is not None and {axis % len(shape) for axis in rule.axes}
        if not hit or hit & set(axes) or len(out) != len(shape) or list(reads) != [node.input(0)]:
            return None
        return axes
    if not isinstance(rule, Pointwise | Join):
        return None
    if isinstance(rule, Join) and rule.axis % len(shape) in (0, *axes):
        return None
    sizes = [shape[axis] for axis in axes]
    for name in reads:
        own = extents[name]
        if len(own) != len(shape) or where[name] != axes or [own[axis] for axis in axes] != sizes:
            return None
    if len(out) != len(shape) or [out[axis] for axis in axes] != sizes:
        return None
    others = [name for name in node.inputs if name and name not in reads]
    if node.op not in _PER_CHANNEL and not all(_alike(graph, name, len(out), axes) for name in others):
        return None
    return axes


def _alike(graph: Graph, name: str, rank: int, axes: Sequence[int]) -> bool:
    """Whether a constant is the same at every place of the picture."""
    value = graph.constants.get(name)
    if value is None:
        return False
    return all(value.ndim < rank - axis or value.shape[-(rank - axis)] == 1 for axis in axes)
