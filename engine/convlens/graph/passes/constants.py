"""``Constant`` nodes become initializers, under the same value name."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass


def lift_constants(model: ir.Model) -> None:
    """Turn every ``Constant`` node into an initializer, scalars included."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
