"""Which integers of a graph are codes of quantised numbers, and which operators may see them as such.

Codes are handed on as real numbers that happen to be whole, so that a gradient can pass (the
straight-through estimator of Bengio, Léonard & Courville 2013). An operator that only moves, picks or
compares numbers does to real codes what it does to integers; every other one is given true integers,
and the gradient ends there.
"""

from __future__ import annotations

from collections.abc import Mapping

from convlens.graph.clipped import hidden_rectifiers
from convlens.graph.graph import Graph, Node
from convlens.graph.nested import branches

SMALL = frozenset({"uint8", "int8", "uint16", "int16", "uint4", "int4", "uint2", "int2"})
"""Element types of codes; sums of products of them are int32."""

NARROW = frozenset({"uint4", "int4", "uint2", "int2"})
"""Those of less than a byte, which neither torch nor numpy has of its own."""

LIMITS = {
    "uint2": (0, 3),
    "int2": (-2, 1),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
}
"""Smallest and largest code of each element type."""

_MS = "com.microsoft."
_TYPE_FROM = {
    "QuantizeLinear": (2,),
    "QLinearConv": (7, 0),
    "QLinearMatMul": (7, 0),
    _MS + "QuantizeLinear": (2,),
    _MS + "QLinearConv": (7, 0),
    _MS + "QLinearAdd": (7, 0),
    _MS + "QLinearMul": (7, 0),
    _MS + "QLinearAveragePool": (4, 0),
    _MS + "QLinearGlobalAveragePool": (4, 0),
    _MS + "QLinearSigmoid": (4, 0),
    _MS + "QLinearLeakyRelu": (4, 0),
    _MS + "QLinearSoftmax": (4, 0),
    _MS + "QLinearConcat": (1, 2),
    _MS + "QLinearWhere": (8, 1),
    _MS + "QGemm": (8,),
}
"""Operators that write codes: the inputs that tell of which type, in the order of precedence."""

_SUMS = frozenset({"ConvInteger", "MatMulInteger"})
_ROUNDING = frozenset(
    {*_TYPE_FROM, "DynamicQuantizeLinear", _MS + "DynamicQuantizeMatMul", _MS + "DynamicQuantizeLSTM"}
)
_READERS = frozenset(
    {
        "DequantizeLinear",
        _MS + "DequantizeLinear",
        _MS + "MatMulIntegerToFloat",
        _MS + "DynamicQuantizeMatMul",
        _MS + "DynamicQuantizeLSTM",
    }
)
_MOVES = frozenset(
    {
        "Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice",
        "Split", "Concat", "Gather", "GatherElements", "GatherND", "Pad", "DepthToSpace", "SpaceToDepth",
        "MaxPool", "GlobalMaxPool", "Relu", "Clip", "Max", "Min", "Where", "ReduceMax", "ReduceMin",
        "Dropout", "ScatterND", "ScatterElements", "ReverseSequence", "Compress", "TopK",
        _MS + "NhwcMaxPool",
    }
)  # fmt: skip
_EVERY_OUTPUT = frozenset({"Split"})
_LINEAR = frozenset({"Add", "Sub", "Mul", "Sum", "Neg", "ReduceSum"})
_REAL_TYPES = frozenset({1, 10, 11, 16})  # FLOAT, FLOAT16, DOUBLE, BFLOAT16


def find_codes(graph: Graph, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Every value that is held as real numbers although the file calls it integers, with its type there.

    The graph's inputs of 8 and 16 bits are among them: pixels are numbers that one may differentiate
    by. Where ``given`` says which inputs are, as for a branch inside another graph, it is those.
    """
    if given is not None:
        found = dict(given)
    else:
        found = {value.name: value.dtype or "" for value in graph.inputs if value.dtype in SMALL}
    for node in graph.nodes:
        for name, kind in _writes(node, graph, found).items():
            if name:
                found[name] = kind
    return found


def quantisers(graph: Graph) -> int:
    """How many nodes round to codes, so that their gradient is an estimate."""
    inside = [quantisers(branch) for node in graph.nodes for branch in branches(node, graph)]
    return sum(node.full_op in _ROUNDING for node in graph.nodes) + sum(inside)


def quantised(graph: Graph) -> bool:
    """Whether the file works on codes anywhere, weights that are folded here included."""
    names = {op.rpartition(".")[2] for op in _ROUNDING | _READERS | _SUMS}
    return any(node.op_type in names for node in graph.ir.graph.all_nodes())


def straight_through(graph: Graph) -> str:
    """How gradients pass quantisers, for people; empty where there are none.

    Rounding passes a gradient on and saturation stops it, which is an estimate: the true derivative is 0
    almost everywhere.
    """
    count = quantisers(graph)
    if not count:
        return ""
    hidden = hidden_rectifiers(graph)
    words = f"straight-through estimator at {count} quantiser{'s' * (count != 1)}"
    if hidden:
        words += (
            f"; {hidden} of them clip{'s' * (hidden == 1)} at 0 inside an operator, where no rule applies"
        )
    return words


def takes_codes(node: Node, codes: Mapping[str, str]) -> bool:
    """Whether the operator does to real numbers that are whole what it would do to integers."""
    op = node.full_op
    if op in _ROUNDING or op in _READERS or op in _SUMS or op in _MOVES:
        return True
    if op in ("Resize", "Upsample"):
        return node.attr("mode", "nearest") in ("nearest", b"nearest")
    if op == "Cast":
        return node.attr("to") in _REAL_TYPES
    # sums of 32 bits are held in double precision; narrow ones would have to wrap around
    return op in _LINEAR and all(codes.get(name, "int32") == "int32" for name in node.inputs)


def element(name: str, graph: Graph, codes: Mapping[str, str]) -> str | None:
    """The file's element type of a value (numpy's name), None where it is not known."""
    constant = graph.constant(name)
    if constant is not None:
        return str(constant.dtype.name)
    return codes.get(name) or graph.value(name).dtype


def _writes(node: Node, graph: Graph, codes: Mapping[str, str]) -> dict[str, str]:
    op = node.full_op
    if op == "DynamicQuantizeLinear":
        return {name: "uint8" for i, name in enumerate(node.outputs) if i != 1}
    if op in _SUMS:
        return {node.outputs[0]: "int32"}
    if op in _TYPE_FROM:
        kinds = (element(node.input(i), graph, codes) for i in _TYPE_FROM[op] if node.input(i))
        kind = next((kind for kind in kinds if kind is not None), None)
        if kind is None and op.endswith("QuantizeLinear"):
            kind = _asked(node)
        return {node.outputs[0]: kind} if kind in LIMITS else {}
    if op == "Cast" or op in _READERS or not takes_codes(node, codes):
        return {}
    data = node.inputs[1:] if op == "Where" else node.inputs
    kinds = (codes[name] for name in data if name in codes)
    kind = next(kinds, None)
    if kind is None:
        return {}
    outputs = node.outputs if op in _EVERY_OUTPUT else node.outputs[:1]
    return dict.fromkeys(outputs, kind)


def _asked(node: Node) -> str | None:
    """The type that QuantizeLinear's own attribute asks for; unsigned bytes without one."""
    types = {0: "uint8", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4",
             25: "uint2", 26: "int2"}  # fmt: skip
    return types.get(int(node.attr("output_dtype", 0)))
