"""What becomes of an input's axes on the way to the first convolution."""

from __future__ import annotations

from typing import TypeAlias

from convlens.graph.graph import Graph, Node

Axes: TypeAlias = tuple[int | None, ...]

CONVOLUTIONS = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "DeformConv"}
)
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_ALIKE = frozenset(
    {
        "Abs", "Add", "BatchNormalization", "Cast", "CastLike", "Clip", "Concat", "DequantizeLinear", "Div",
        "Dropout", "DynamicQuantizeLinear", "Exp", "Identity", "InstanceNormalization", "LayerNormalization",
        "Log", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "QuantizeLinear", "Relu", "Resize", "Sign", "Slice",
        "Sqrt", "Sub", "Tanh", "Where",
    }
)  # fmt: skip
"""Operators after which each axis still runs along what it ran along before."""


def axes_at_convolution(graph: Graph, name: str) -> tuple[Axes, str] | None:
    """For each axis of the first convolution's data the axis of input ``name`` that it stems from.

    None stands for an axis that was put in on the way. Also the operator. Nothing where no convolution
    is reached through operators that keep the axes apart.
    """
    found = _at_convolution(graph, name)
    if found is None or len(found[0]) < 3:
        return None
    axes, op = found
    shape = graph.value(name).shape
    if axes[0] is None and 0 not in axes and shape and shape[0] == 1:
        axes = (0, *axes[1:])  # the axis for one image was taken out and put in again
    return (axes, op) if axes[0] == 0 else None


def lacks_batch(graph: Graph, name: str) -> bool:
    """Whether the first axis of input ``name`` is no batch: it is put in on the way to the convolution."""
    found = _at_convolution(graph, name)
    return found is not None and found[0][0] is None and 0 in found[0][1:]


def _at_convolution(graph: Graph, name: str) -> tuple[Axes, str] | None:
    rank = graph.value(name).rank
    if rank is None:
        return None
    held: dict[str, Axes] = {name: tuple(range(rank))}
    for node in graph.nodes:
        data = next((given for given in node.inputs if given in held), None)
        if data is None:
            continue
        if node.op in CONVOLUTIONS and data == node.input(0):
            return held[data], node.op
        after = _after(graph, node, held[data])
        if after is not None and data == _data(node, held):
            held[node.outputs[0]] = after
    return None


def keeps_its_size(graph: Graph) -> bool:
    """Whether there are convolutions, and neither they nor poolings make anything smaller."""
    if any(node.op in _POOLS for node in graph.nodes):
        return False
    found = [node for node in graph.nodes if node.op in CONVOLUTIONS]
    for node in found:
        if any(step != 1 for step in node.attr("strides") or ()):
            return False
    return bool(found)


def _data(node: Node, held: dict[str, Axes]) -> str:
    """The input whose axes the output has: the one of the highest rank."""
    return max((name for name in node.inputs if name in held), key=lambda name: len(held[name]))


def _after(graph: Graph, node: Node, axes: Axes) -> Axes | None:
    rank = graph.value(node.outputs[0]).rank
    if node.op == "Transpose":
        order = node.attr("perm") or tuple(reversed(range(len(axes))))
        return tuple(axes[axis] for axis in order)
    if node.op in ("Unsqueeze", "Squeeze"):
        given = node.attr("axes")
        if given is None:
            constant = graph.constant(node.input(1))
            if constant is None:
                return None
            given = constant.reshape(-1).tolist()
        if node.op == "Squeeze":
            gone = {int(axis) % len(axes) for axis in given}
            return tuple(own for axis, own in enumerate(axes) if axis not in gone)
        full = len(axes) + len(given)
        new = {int(axis) % full for axis in given}
        rest = iter(axes)
        return tuple(None if axis in new else next(rest) for axis in range(full))
    if node.op == "Reshape":
        return _reshaped(graph, node, axes)
    if node.op == "Gather":
        places = graph.constant(node.input(1))
        axis = int(node.attr("axis", 0)) % len(axes)
        if places is None or places.size != 1 or places.ndim > 1:
            return None
        return axes if places.ndim else (*axes[:axis], *axes[axis + 1 :])
    if node.op in _ALIKE and (rank is None or rank == len(axes)):
        return axes
    return None


def _reshaped(graph: Graph, node: Node, axes: Axes) -> Axes | None:
    """Only where axes of length one are put in or taken out; anything else mixes them."""
    before, after = graph.value(node.input(0)).shape, graph.value(node.outputs[0]).shape
    if before is None or after is None:
        return None
    if after[0] == 1 and after[1:] == before and None not in before:
        return (None, *axes)
    real = [axis for axis, dim in enumerate(before) if axis == 0 or dim != 1]
    kept = [axis for axis, dim in enumerate(after) if axis == 0 or dim != 1]
    if len(real) != len(kept):
        return None
    for one, other in zip(real[1:], kept[1:], strict=True):
        if isinstance(before[one], int) and isinstance(after[other], int) and before[one] != after[other]:
            return None
    places = dict(zip(kept, real, strict=True))
    return tuple(axes[places[axis]] if axis in places else None for axis in range(len(after)))
