"""The operator table: for each ONNX operator its torch module, its window and its cost, together.

One file a family. Torch is imported inside the facets that need it, so that reading a graph does
not pay for it.
"""

from __future__ import annotations

from convlens.ops.table import Forward, Operator, TorchNode, find, known, operator, rule_of

__all__ = ["Forward", "Operator", "TorchNode", "find", "known", "operator", "rule_of"]
