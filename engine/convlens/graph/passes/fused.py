"""Operators that onnxruntime's optimiser fused, written out as the plain ones that they stand for.

A rule a fused operator; each leaves a node alone whose variant it does not cover, and then the operator
table names it. What onnxruntime lays out for one kind of processor cannot be read back, and is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from convlens.errors import UnsupportedError
from convlens.graph.passes import fused_linear, fused_nhwc, fused_norms, fused_units
from convlens.graph.passes.contract import Kinds, changes
from convlens.graph.passes.names import taken
from convlens.graph.passes.writer import Writer
from convlens.graph.shapes import infer

RULES = {**fused_linear.RULES, **fused_units.RULES, **fused_norms.RULES, **fused_nhwc.RULES}
_BLOCKED = "com.microsoft.nchwc"


def _any(_model: ir.Model, kinds: Kinds) -> bool:
    return any(kind in RULES or kind[0] == _BLOCKED for kind in kinds)


@changes("fused operators written out", "nodes", "order", "weights", when=_any)
def write_out_fused(model: ir.Model) -> None:
    """Replace every fused operator by the plain ones.

    Raises:
        UnsupportedError: the file was optimised for one kind of processor.
    """
    fused = []
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == _BLOCKED:
            raise UnsupportedError(
                f"operator {_BLOCKED}.{node.op_type} (node {node.name or node.outputs[0].name!r}): the "
                "file was saved by onnxruntime at optimisation level 'all', whose layout is for one kind of "
                "processor; take the original file, or save at level ORT_ENABLE_EXTENDED"
            )
        if (node.domain, node.op_type) in RULES:
            fused.append(node)
    if not fused:
        return
    used = taken(model.graph)
    while fused:
        known = infer(model, {})
        for node in fused:
            RULES[node.domain, node.op_type](Writer(model, node, used, known))
        left = [node for node in fused if node.graph is not None]
        if len(left) == len(fused):
            break
        fused = left  # what was written out may have said the rank that one of these waits for
