"""Which factor of a product is a gate, and which one is the signal that it lets through."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from convlens.graph.graph import Graph, Node

_GATES = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Reciprocal"})
_THROUGH = frozenset(
    {
        "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand",
        "Tile", "Slice", "Split", "Gather", "Resize", "Upsample", "Where", "Mul", "Div", "Add", "Sub",
    }
)  # fmt: skip
_UNIT = 1e-3  # 1/6 is written with few digits


def signals(graph: Graph, factors: Sequence[str], moving: Collection[str]) -> list[bool]:
    """Which of the factors get relevance: all, or those that are no gates where some are."""
    gates = [is_gate(graph, name, moving) for name in factors]
    return [not gate for gate in gates] if any(gates) and not all(gates) else [True] * len(factors)


def is_gate(graph: Graph, name: str, moving: Collection[str]) -> bool:
    """Whether a value comes from a sigmoid, a softmax, a clip from 0 to 1 or a division by it.

    Between them there are only operators that move numbers or scale and shift them by constants.
    """
    scale = 1.0
    while (node := graph.producers.get(name)) is not None:
        if node.op in _GATES:
            return True
        if node.op == "Clip":
            return _ends_at_one(node, graph, scale)
        if node.op == "Pow":
            exponent = graph.constant(node.input(1))
            return exponent is not None and bool((exponent < 0).all())
        reads = [read for read in node.inputs if read in moving]
        if node.op == "Div" and node.input(0) not in moving:
            return True
        if node.op not in _THROUGH or len(set(reads)) != 1:
            return False
        if node.op in ("Mul", "Div"):
            factor = graph.constant(node.input(1 if node.input(0) == reads[0] else 0))
            number = float(factor.reshape(())) if factor is not None and factor.size == 1 else 0.0
            scale *= number if node.op == "Mul" else 1 / number if number else 0.0
        name = reads[0]
    return False


def _ends_at_one(node: Node, graph: Graph, scale: float) -> bool:
    if node.version < 11:
        low, high = node.attr("min"), node.attr("max")
    else:
        low, high = graph.constant(node.input(1)), graph.constant(node.input(2))
    if low is None or high is None:
        return False
    return float(np.reshape(low, -1)[0]) == 0 and abs(float(np.reshape(high, -1)[0]) * scale - 1) < _UNIT
