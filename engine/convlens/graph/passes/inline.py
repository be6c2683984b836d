"""Local functions are written out where they are called."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass


def inline_functions(model: ir.Model) -> None:
    """Replace each call of a model-local function by its body."""
    if model.functions:
        InlinePass()(model)
