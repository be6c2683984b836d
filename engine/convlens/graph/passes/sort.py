"""Nodes in an order in which each comes after what it reads."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass


def sort_nodes(model: ir.Model) -> None:
    """Sort the nodes topologically, keeping the file's order where it allows it."""
    TopologicalSortPass()(model)
