"""Rectifiers that a quantiser took over: codes that begin at 0 can hold nothing below it.

Quantising tools remove a Relu or Clip in front of a quantiser whose smallest code stands for 0, since
saturation does the same. Where a value is never negative anyway, the same quantiser only rounds.
"""

from __future__ import annotations

from convlens.graph.graph import Graph, Node

_SMALLEST = {"uint8": 0, "int8": -128, "uint16": 0, "int16": -32768, "uint4": 0, "int4": -8}
_POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Softplus"})
_KEEPING = frozenset(
    {
        "Identity", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax",
        "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split", "Gather",
        "Dropout", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Add", "Mul", "Sum", "Max",
        "QuantizeLinear",
    }
)  # fmt: skip
_SHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand", "Tile",
                     "ReduceMean", "ReduceMax"})  # fmt: skip
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "BatchNormalization"})
_HIDDEN = {"QLinearConv": 7, "QLinearMatMul": 7, "QLinearAdd": 7, "QGemm": 8}


def begins_at_zero(node: Node, graph: Graph, zero: int) -> bool:
    """Whether the zero point, input ``zero``, is the smallest code, so that nothing below 0 is left.

    Unsigned codes without a zero point begin at 0.
    """
    if not node.input(zero):
        return not node.attr("output_dtype", 0)
    point = graph.constant(node.input(zero))
    return point is not None and point.size > 0 and bool((point == _SMALLEST.get(point.dtype.name)).all())


def never_negative(graph: Graph) -> set[str]:
    """Values that hold no number below 0, whatever goes in, as far as the operators tell."""
    found = {
        name for name, array in graph.constants.items() if array.dtype.kind in "fui" and (array >= 0).all()
    }
    for node in graph.nodes:
        if (
            node.op in _POSITIVE
            or _is_clip(node, graph)
            or (node.op == "DequantizeLinear" and begins_at_zero(node, graph, 2))
        ):
            found.update(node.outputs[:1])
        elif node.op in _KEEPING:
            reads = node.inputs[:1] if node.op in _SHAPES or node.op == "QuantizeLinear" else node.inputs
            if all(name in found for name in reads if name):
                found.update(name for name in node.outputs if name)
    return found


def clipping_pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Every QuantizeLinear that clips at 0 with each DequantizeLinear that undoes it."""
    if not any(node.op == "QuantizeLinear" for node in graph.nodes):
        return []
    sure = never_negative(graph)
    pairs = []
    for node in graph.nodes:
        first = graph.producers.get(node.input(0))
        if node.op != "DequantizeLinear" or first is None or first.op != "QuantizeLinear":
            continue
        source = graph.producers.get(first.input(0))
        alike = node.inputs[1:] == first.inputs[1:] and begins_at_zero(first, graph, 2)
        if alike and source is not None and source.op in _LINEAR and first.input(0) not in sure:
            pairs.append((first, node))
    return pairs


def hidden_rectifiers(graph: Graph) -> int:
    """How many operators on codes end in a clip at 0 that no rule can take apart from them."""
    nodes = [node for node in graph.nodes if node.op in _HIDDEN and node.input(_HIDDEN[node.op])]
    return sum(1 for node in nodes if begins_at_zero(node, graph, _HIDDEN[node.op]))


def _is_clip(node: Node, graph: Graph) -> bool:
    if node.op != "Clip":
        return False
    low = node.attr("min") if node.version < 11 else graph.constant(node.input(1))
    return low is not None and float(low) >= 0
