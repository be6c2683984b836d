"""IR versions before 4 make every initializer a graph input, and inference then ignores its value."""

from __future__ import annotations

import onnx_ir as ir

from convlens.graph.passes.contract import changes

_OLDEST = 8


@changes("IR version raised", "ir_version", when=lambda model, _kinds: (model.ir_version or 0) < _OLDEST)
def raise_ir_version(model: ir.Model) -> None:
    """Bring the IR version to one under which initializers are constants."""
    model.ir_version = max(model.ir_version or 0, _OLDEST)
