"""Weights that old exporters also list as graph inputs are weights only."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass


def free_initializers(model: ir.Model) -> None:
    """Drop from the graph inputs whatever has an initializer."""
    RemoveInitializersFromInputsPass()(model)
