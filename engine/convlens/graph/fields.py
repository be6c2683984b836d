"""Receptive fields: the windows of the operators, carried from the input through the graph.

Every axis of every value remembers which axis of the model's input it stems from, so that layers
of NHWC graphs, where a Transpose stands in front, know their channel and their space as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from convlens.graph.dependence import dependent
from convlens.graph.graph import Graph, Node, Shape
from convlens.graph.windows import (
    Each,
    Everything,
    Field,
    Join,
    Kernel,
    Permute,
    Pointwise,
    Reduce,
    Regroup,
    Rule,
    Scalar,
)

Axes: TypeAlias = tuple[Field | None, ...]
Read: TypeAlias = tuple[Axes, Shape]
RuleOf: TypeAlias = Callable[[Node, Graph], Rule]


def fields(graph: Graph, source: str, channel: int, rule_of: RuleOf) -> dict[str, Axes]:
    """The field of every value whose numbers depend on those of input ``source``, axis by axis.

    Args:
        graph: the normalised graph.
        source: name of the input that holds the image.
        channel: axis of ``source`` that holds the channels.
        rule_of: the operator table's window rule.
    """
    rank = graph.value(source).rank or 0
    found: dict[str, Axes] = {source: tuple(Field(axis) for axis in range(rank))}
    lost: set[str] = set()  # they hang on the source too, but how many axes they have is not known
    scalars: set[str] = set()  # of all numbers together; they take no part in the windows
    reached = dependent(graph, (source,))
    for node in graph.nodes:
        reads = [name for name in node.reads if name in found]
        placed = [name for name in reads if name not in scalars]
        inputs = [(found[name], graph.value(name).shape) for name in placed or reads]
        blind = not lost.isdisjoint(node.reads)
        if not inputs and not blind:
            continue
        given = Everything() if blind else rule_of(node, graph)
        for index, output in enumerate(node.outputs):
            if output not in reached:
                continue
            rule: Rule = given
            if isinstance(given, Each):
                rule = given.rules[index] if index < len(given.rules) else Everything()
            shape = graph.value(output).shape
            if isinstance(rule, Scalar) or (reads and not placed):
                scalars.add(output)
                rule = Everything()
            axes = _apply(rule, inputs, shape, channel, len(node.inputs) > 1)
            if axes is None:
                lost.add(output)
            elif placed and len(placed) < len(reads):
                found[output] = tuple(field.loosened() if field is not None else None for field in axes)
            else:
                found[output] = axes
    return found


def _apply(rule: Rule, inputs: Sequence[Read], shape: Shape, channel: int, several: bool) -> Axes | None:
    """The axes of an output; ``several`` says whether the node has more inputs, constants among them."""
    if isinstance(rule, Everything):
        if shape is None:
            return None
        return (Field(0), Field(channel, whole=True), *[None] * len(shape))[: len(shape)]
    first = inputs[0][0]
    if isinstance(rule, Pointwise):
        return _broadcast(inputs, shape)
    if isinstance(rule, Join):
        axis = rule.axis % len(first)
        merged = _broadcast([(axes, None) for axes, _ in inputs], shape)
        return tuple(_all(f) if i == axis and several else f for i, f in enumerate(merged))
    if isinstance(rule, Kernel):
        out = []
        for axis, field in enumerate(first):
            if field is not None and axis in rule.windows:
                field = field.through(rule.windows[axis])
            if field is not None and rule.loose:
                field = field.loosened()
            out.append(_all(field) if axis in rule.mixed else field)
        return tuple(out)
    if isinstance(rule, Reduce):
        hit = range(len(first)) if rule.axes is None else {axis % len(first) for axis in rule.axes}
        if rule.keepdims:
            return tuple(_all(f) if i in hit else f for i, f in enumerate(first))
        return tuple(f for i, f in enumerate(first) if i not in hit)
    if isinstance(rule, Permute):
        return tuple(first[axis] if axis >= 0 else None for axis in rule.order)
    assert isinstance(rule, Regroup)
    return tuple(_grouped(first, group, rule, channel) for group in rule.groups)


def _grouped(axes: Axes, group: tuple[int, ...], rule: Regroup, channel: int) -> Field | None:
    """Merged and split axes are channels or images at most: their units have no place in space."""
    if len(group) == 1 and sum(group[0] in other for other in rule.groups) == 1:
        return axes[group[0]]
    held = [field for axis in group if (field := axes[axis]) is not None and field.axis in (0, channel)]
    return held[0].all() if held else None


def _all(field: Field | None) -> Field | None:
    return None if field is None else field.all()


def _broadcast(inputs: Sequence[Read], shape: Shape) -> Axes:
    """Axes aligned from the right; one of length one that is stretched is read by every position."""
    rank = max(len(shape or ()), *(len(axes) for axes, _ in inputs))
    out: list[Field | None] = [None] * rank
    for axes, own in inputs:
        for back, given in enumerate(reversed(axes), start=1):
            field = given
            if field is not None and own is not None and own[-back] == 1 and shape and shape[-back] != 1:
                field = field.all()
            held = out[rank - back]
            if field is not None:
                out[rank - back] = field if held is None else held.hull(field)
    # an axis of the source that one of the values has lost was read whole on its way there
    kept = [{field.axis for field in axes if field is not None} for axes, _ in inputs]
    # and one that two of the output's axes stem from is seen at both their places
    stems = [field.axis for field in out if field is not None]
    return tuple(
        field.all()
        if field is not None and (stems.count(field.axis) > 1 or not all(field.axis in axes for axes in kept))
        else field
        for field in out
    )
