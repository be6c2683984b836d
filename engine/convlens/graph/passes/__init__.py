"""What is done to every file before anything else reads it: one pass a module, in this order."""

from __future__ import annotations

from convlens.graph.passes.constants import lift_constants
from convlens.graph.passes.inline import inline_functions
from convlens.graph.passes.inputs import free_initializers
from convlens.graph.passes.sort import sort_nodes
from convlens.graph.passes.version import raise_ir_version

ALL = (raise_ir_version, inline_functions, lift_constants, free_initializers, sort_nodes)
