"""A branch of an ``If`` as a graph of its own: what it reads from outside are its inputs and constants."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from convlens.graph.graph import Graph, Node, Value
from convlens.graph.load import build
from convlens.graph.passes.names import subgraphs
from convlens.graph.passes.writer import numpy_type

BRANCHES = ("then_branch", "else_branch")
"""The graphs that an ``If`` carries: where its condition holds, and where it does not."""


def branch_of(node: Node, name: str, outer: Graph) -> Graph:
    """The branch ``name`` of ``node`` as a graph that stands alone.

    Args:
        node: an ``If`` of ``outer``.
        name: one of :data:`BRANCHES`.
        outer: the graph in which the node stands.

    Returns:
        The graph. Its inputs are those values of ``outer`` that are computed and that either branch
        captures, in the order of :func:`captured`; constants of ``outer`` are its own.
    """
    inner: ir.Graph = node.attributes[name].clone(allow_outer_scope_values=True)
    seen = {value.name: value for value in _outside(inner)}
    for read in node.captures:
        own = ir.Value(name=read)
        array = outer.constant(read)
        if array is not None:
            own.const_value = ir.tensor(array, name=read)
            own.type, own.shape = ir.TensorType(own.const_value.dtype), ir.Shape(array.shape)
            if read in seen:
                inner.register_initializer(own)
        else:
            _declare(own, outer.value(read), seen.get(read))
            inner.inputs.append(own)
        if read in seen:
            _replace(inner, seen[read], own)
    inner.opset_imports.update(outer.opsets)
    model = ir.Model(inner, ir_version=outer.ir.ir_version or 8)
    return build(model)


def captured(node: Node, graph: Graph) -> tuple[str, ...]:
    """The computed values of ``graph`` that the branches of ``node`` capture."""
    return tuple(name for name in node.captures if graph.constant(name) is None)


def branches(node: Node, graph: Graph) -> Iterator[Graph]:
    """The branches of an ``If``; none of any other node."""
    if node.full_op == "If":
        for name in BRANCHES:
            yield branch_of(node, name, graph)


def _declare(own: ir.Value, known: Value, seen: ir.Value | None) -> None:
    """Say of an input what is known of the value that goes in; an open size is any size."""
    if seen is not None and seen.type is not None:
        own.type = seen.type
    elif known.dtype is not None:
        own.type = ir.TensorType(ir.DataType.from_numpy(numpy_type(known.dtype)))
    if known.shape is not None:
        own.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in known.shape])


def _outside(graph: ir.Graph) -> Iterator[ir.Value]:
    """Values that ``graph`` or a graph inside of it reads and that nothing in them defines."""
    yield from _reads(graph, set())


def _reads(graph: ir.Graph, own: set[ir.Value]) -> Iterator[ir.Value]:
    own = {*own, *graph.inputs, *graph.initializers.values()}
    own.update(value for node in graph for value in node.outputs)
    for node in graph:
        yield from (value for value in node.inputs if value is not None and value not in own)
        for inner in subgraphs(node):
            yield from _reads(inner, own)
    yield from (value for value in graph.outputs if value not in own)


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let ``graph`` and the graphs inside of it read ``new`` where they read ``old``."""
    for node in graph:
        for index, value in enumerate(node.inputs):
            if value is old:
                node.replace_input_with(index, new)
        for inner in subgraphs(node):
            _replace(inner, old, new)
    for index, value in enumerate(graph.outputs):
        if value is old:
            graph.outputs[index] = new
