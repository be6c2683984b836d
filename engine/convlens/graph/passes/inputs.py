"""Weights that old exporters also list as graph inputs are weights only."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass

from convlens.graph.passes.contract import Kinds, changes


def _listed(model: ir.Model, _kinds: Kinds) -> bool:
    return any(value.name in model.graph.initializers for value in model.graph.inputs)


@changes("weights no longer listed as inputs", "inputs", when=_listed)
def free_initializers(model: ir.Model) -> None:
    """Drop from the graph inputs whatever has an initializer."""
    RemoveInitializersFromInputsPass()(model)
