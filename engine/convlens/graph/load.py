"""From a file to a normalised graph."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from convlens.errors import ConvLensError, ModelFileError
from convlens.graph import passes
from convlens.graph.bind import Feed, bind, fix, words
from convlens.graph.fold import fold
from convlens.graph.graph import Graph, Node, Value
from convlens.graph.passes.batch import free_batch
from convlens.graph.passes.names import subgraphs
from convlens.graph.passes.names import values as values_of
from convlens.graph.passes.unbatched import give_batch, unbatched
from convlens.graph.pause import no_collection
from convlens.graph.reading import Digest, read
from convlens.graph.shapes import count, walked

_SCOPES = "pkg.torch.onnx.name_scopes"


@no_collection()
def load_graph(
    path: Path,
    feeds: Mapping[str, Feed] | None = None,
    sizes: Mapping[str, Mapping[int, int]] | None = None,
    images: bool = False,
) -> tuple[Graph, Digest]:
    """Read, normalise and measure the model at ``path``; returns the graph and the file's hash.

    Args:
        path: the file.
        feeds: inputs to bind to constants, by name; see :mod:`convlens.graph.bind`.
        sizes: lengths for open axes, by input and axis; the graph then takes no others.
        images: give the only input an axis that counts images where the file has none.

    Raises:
        ModelFileError: the file cannot be read.
        UnsupportedError: it holds what no executor covers.
        UsageError: ``feeds`` does not fit its inputs.
    """
    try:
        model, digest, sparse = read(path)
        bound = bind(model, feeds) if feeds else {}
        changes = ["sparse weights written out"] if sparse else []
        changes += [f"input {name} bound to {words(array)}" for name, array in bound.items()]
        changes += fix(model, sizes or {})
        changes += passes.normalise(model)
        graph = build(model)
        if images and unbatched(graph):
            changes += passes.run(model, (give_batch, free_batch))
            graph = build(model)
        graph = replace(graph, changes=tuple(changes), bound=bound)
    except (ConvLensError, passes.PassError):
        raise
    except Exception as error:
        raise ModelFileError(
            f"{path}: its graph is malformed ({_one_line(error)}); export the model again"
        ) from error
    _check_reads(path, graph)
    return graph, digest


def _check_reads(path: Path, graph: Graph) -> None:
    """Every value that is read has to come from somewhere."""
    there = {*graph.constants, *graph.producers, *(value.name for value in graph.inputs)}
    for node in graph.nodes:
        for name in node.reads:
            if name and name not in there:
                raise ModelFileError(
                    f"{path}: its graph is malformed ({node.full_op} reads {name!r}, which nothing computes)"
                    "; export the model again"
                )


def build(model: ir.Model) -> Graph:
    """The graph view of a normalised ``onnx_ir`` model."""
    raw = model.graph
    opsets = dict(raw.opset_imports)
    nodes = [_node(node, opsets) for node in raw]
    stored = {
        name: value.const_value.numpy()
        for name, value in raw.initializers.items()
        if value.const_value is not None
    }
    nodes, constants = fold(nodes, stored)
    inputs = tuple(_value(value) for value in raw.inputs if value.name not in stored)
    known = {
        value.name: _value(value)
        for node in raw
        for value in node.outputs
        if node.op_type != "If"  # the file says the shape of one branch
        if value.name and (value.shape is not None or value.dtype is not None)
    }
    known |= {value.name: value for value in inputs}
    known |= {name: Value(name, array.dtype.name, tuple(array.shape)) for name, array in constants.items()}
    walk = walked(model, {})
    values = known | walk.values()
    return Graph(
        nodes=tuple(nodes),
        inputs=inputs,
        outputs=tuple(value.name for value in raw.outputs if value.name),
        values=values,
        measures=walk.measures(),
        settled=walk.settled(),
        constants=constants,
        metadata=dict(model.metadata_props),
        opsets=opsets,
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        ir=model,
    )


def _node(node: ir.Node, opsets: dict[str, int]) -> Node:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return Node(
        op=node.op_type,
        domain=domain,
        version=node.version or opsets.get(node.domain, 1),
        name=node.name or "",
        inputs=tuple(value.name or "" if value is not None else "" for value in node.inputs),
        outputs=tuple(value.name or "" for value in node.outputs),
        attributes={name: _attribute(attr) for name, attr in node.attributes.items()},
        scope=_scope(node.metadata_props.get(_SCOPES, "")),
        captures=_captures(node),
    )


def _captures(node: ir.Node) -> tuple[str, ...]:
    """What the node's subgraphs read from outside of them, each once."""
    found: dict[str, None] = {}
    for inner in subgraphs(node):
        own = {value.name for value in values_of(inner)}
        reads = [value.name for value in inner.outputs]
        for each in inner:
            reads += [value.name for value in each.inputs if value is not None]
            reads += _captures(each)
        found.update((name, None) for name in reads if name and name not in own)
    return tuple(found)


def _scope(text: str) -> str:
    """The innermost module of torch's list of scopes, whose last entry is the operation itself."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    named = isinstance(scopes, list) and len(scopes) >= 2 and isinstance(scopes[-2], str)
    return scopes[-2] if named else ""


def _attribute(attr: ir.Attr) -> Any:
    value = attr.value
    if attr.type == ir.AttributeType.TENSOR:
        return value.numpy()
    return value


def _value(value: ir.Value) -> Value:
    shape = None
    if value.shape is not None:
        shape = tuple(count(dim) if isinstance(dim, int) else dim.value for dim in value.shape)
    return Value(value.name or "", _dtype(value.dtype), shape)


def _dtype(dtype: ir.DataType | None) -> str | None:
    if dtype is None or dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return None
    return str(dtype.numpy().name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
