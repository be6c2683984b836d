"""The same graph with other numbers in some of its stored tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from convlens.graph.graph import Graph
from convlens.graph.load import build

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMS = frozenset({"Cast", "DequantizeLinear", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators after which a tensor still holds the numbers of their first input."""


def with_stored(graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> Graph:
    """A graph like ``graph`` in which the stored tensors ``arrays`` hold those numbers.

    All other tensors are shared with ``graph``, which stays as it is; what is computed from the new
    ones alone is computed again.

    Args:
        graph: the normalised graph.
        arrays: by name of the stored tensor, in its shape and type.
    """
    model = graph.ir.clone()
    for name, held in model.graph.initializers.items():
        before = held.const_value
        array = arrays.get(name, graph.constants.get(name))
        if before is None or array is None or before.dtype.is_string() or before.dtype.bitwidth < 8:
            continue
        assert tuple(before.shape) == array.shape
        held.const_value = ir.Tensor(array, dtype=before.dtype, name=name)
    return replace(build(model), changes=graph.changes, bound=graph.bound)


def stored_behind(graph: Graph, name: str) -> str | None:
    """The stored tensor whose numbers value ``name`` holds in another form; itself where it is one.

    None where it is computed from something else.
    """
    producers = {value.name: node for node in graph.ir.graph for value in node.outputs if value.name}
    while name not in graph.ir.graph.initializers:
        node = producers.get(name)
        if node is None or not node.inputs or node.inputs[0] is None:
            return None
        if name not in graph.constants and node.op_type not in _FORMS:
            return None
        name = node.inputs[0].name or ""
    return name
