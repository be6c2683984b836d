"""Rectifier-like parts of a graph: single operators, and gates that exporters write in several.

``x * sigmoid(x)`` (SiLU), ``x * clip(x + 3, 0, 6) / 6`` (HardSwish), ``x * (1 + erf(x / sqrt 2)) / 2``
(GELU) and the like are one rectifier each to the person who trained the network, so a rule has to
treat them as one: the gate's own branch must not carry a signal of its own. A pair of QuantizeLinear
and DequantizeLinear whose smallest code stands for 0 is the Relu that a quantising tool removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens.graph.clipped import clipping_pairs
from convlens.graph.graph import Graph, Node

SINGLE = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Gelu", "HardSwish",
        "Mish", "Swish", "Softplus", "com.microsoft.Gelu", "com.microsoft.FastGelu",
        "com.microsoft.QuickGelu",
    }
)  # fmt: skip
_SQUASHING = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Erf", "Clip"})
_SCALAR = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Pow", "Exp", "Log", "Softplus", "Identity"})
_LONGEST = 16  # operators in one gate; the tanh form of GELU has nine


@dataclass(frozen=True, slots=True)
class Rectifier:
    """One rectifier: a function of ``source``, number by number, computed by ``nodes`` into ``output``."""

    name: str
    source: str
    output: str
    nodes: tuple[Node, ...]


def find_rectifiers(graph: Graph) -> Mapping[str, Rectifier]:
    """Every rectifier of the graph, by the value that it computes."""
    found: dict[str, Rectifier] = {}
    inside: set[str] = set()
    ends: set[str] = set()
    for node in graph.nodes:
        if node.full_op in SINGLE or _is_clip_from_zero(node, graph):
            output = node.outputs[0]
            found[output] = Rectifier(node.op, node.inputs[0], output, (node,))
        elif node.op == "Mul" and not node.domain:
            gate = _gate(node, graph, ends)
            if gate is not None:
                found[gate.output] = gate
                ends.add(gate.output)
                inside |= {out for part in gate.nodes for out in part.outputs} - {gate.output}
    for quantise, restore in clipping_pairs(graph):
        output = restore.outputs[0]
        found[output] = Rectifier("Quantise from 0", quantise.inputs[0], output, (quantise, restore))
    return {output: rectifier for output, rectifier in found.items() if output not in inside}


def _is_clip_from_zero(node: Node, graph: Graph) -> bool:
    if node.full_op != "Clip":
        return False
    if node.version < 11:
        low: Any = node.attr("min")
    else:
        low = graph.constant(node.input(1))
    return low is not None and np.size(low) == 1 and float(np.reshape(low, ())) == 0.0


def _gate(node: Node, graph: Graph, ends: Set[str]) -> Rectifier | None:
    """The gate that ends in the product ``node``: both factors are functions of one and the same value."""
    source, segment = _source(node, graph, ends)
    squashes = any(part.op in _SQUASHING for part in segment.values())
    if source is None or not squashes or len(segment) > _LONGEST:
        return None
    last = node
    chain = [node]
    while True:  # GELU and HardSwish end in a constant factor
        readers = graph.consumers.get(last.outputs[0], ())
        if len(readers) != 1 or last.outputs[0] in graph.outputs:
            break
        reader = readers[0]
        factor = graph.constant(reader.input(1 if reader.input(0) == last.outputs[0] else 0))
        positive = factor is not None and factor.size == 1 and float(factor.reshape(())) > 0
        if (
            reader.op not in ("Mul", "Div")
            or not positive
            or (reader.input(0) in graph.constants and (reader.op == "Div"))
        ):
            break
        chain.append(reader)
        last = reader
    ordered = sorted(segment.values(), key=lambda part: graph.places[part.outputs[0]])
    squash = next(part.op for part in ordered if part.op in _SQUASHING)
    return Rectifier(f"{squash} x Mul", source, last.outputs[0], (*ordered, *chain))


def _source(node: Node, graph: Graph, ends: Set[str]) -> tuple[str | None, dict[str, Node]]:
    """The nearest value that both factors are functions of, and what lies between it and the product."""
    first, second = node.inputs
    for near, far in ((first, second), (second, first)):
        segment: dict[str, Node] = {}
        if near != far and _root(far, graph, ends | {near}, segment) == near:
            return near, segment
    segment = {}
    roots = {_root(name, graph, ends, segment) for name in node.inputs}
    return (roots.pop() if len(roots) == 1 else None), segment


def _root(name: str, graph: Graph, ends: Set[str], segment: dict[str, Node]) -> str | None:
    """The value that ``name`` is a function of, number by number; itself where it is of several.

    The way ends at ``ends``. Nodes passed on the way are added to ``segment``.
    """
    node = graph.producers.get(name)
    if name in ends or node is None or node.domain or node.op not in _SCALAR | _SQUASHING:
        return name
    moving = []
    for read in node.inputs:
        constant = graph.constant(read)
        if constant is None and read:
            moving.append(read)
        elif constant is not None and constant.size != 1:
            return name
    if not moving:
        return name
    passed: dict[str, Node] = {}
    roots = {_root(read, graph, ends, passed) for read in moving}
    if len(roots) != 1:
        return name
    segment.update(passed)
    segment[node.outputs[0]] = node
    return roots.pop()
