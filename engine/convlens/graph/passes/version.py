"""IR versions before 4 make every initializer a graph input, and inference then ignores its value."""

from __future__ import annotations

import onnx_ir as ir

_OLDEST = 8


def raise_ir_version(model: ir.Model) -> None:
    """Bring the IR version to one under which initializers are constants."""
    model.ir_version = max(model.ir_version or 0, _OLDEST)
