"""Nodes in an order in which each comes after what it reads."""

from __future__ import annotations

import onnx_ir as ir

from convlens.graph.passes.contract import Kinds, changes
from convlens.graph.passes.names import subgraphs


def _unsorted(model: ir.Model, _kinds: Kinds) -> bool:
    return not _in_order(model.graph, set())


def _in_order(graph: ir.Graph, seen: set[ir.Value]) -> bool:
    """Whether every value that a node of ``graph`` or of its subgraphs reads is written before."""
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in seen and value.producer() is not None:
                return False
        for inner in subgraphs(node):
            if not _in_order(inner, seen):
                return False
        seen.update(node.outputs)
    return True


@changes("nodes put in order", "order", when=_unsorted)
def sort_nodes(model: ir.Model) -> None:
    """Sort the nodes topologically, keeping the file's order where it allows it."""
    model.graph.sort()
