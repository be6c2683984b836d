"""What is done to every file before anything else reads it: one pass a module, in this order."""

from __future__ import annotations

import onnx_ir as ir

from convlens.graph.passes.batch import free_batch
from convlens.graph.passes.branches import resolve_branches
from convlens.graph.passes.constants import lift_constants
from convlens.graph.passes.contract import Pass, PassError, run
from convlens.graph.passes.fused import write_out_fused
from convlens.graph.passes.inline import inline_functions
from convlens.graph.passes.inputs import free_initializers
from convlens.graph.passes.sort import sort_nodes
from convlens.graph.passes.version import raise_ir_version

ALL: tuple[Pass, ...] = (
    raise_ir_version,
    inline_functions,
    lift_constants,
    free_initializers,
    sort_nodes,
    write_out_fused,
    resolve_branches,
    free_batch,
)


__all__ = ["ALL", "Pass", "PassError", "normalise", "run"]


def normalise(model: ir.Model) -> tuple[str, ...]:
    """Apply every pass; returns in words what those that changed something did."""
    return run(model, ALL)
