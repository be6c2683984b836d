"""Names that nothing else has.

In ONNX a subgraph may not reuse one that it can see from outside, and onnxruntime wants the names of the
nodes of one graph to differ.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node carries as attributes: branches, loop bodies."""
    for attribute in node.attributes.data.values():  # the plain dict behind it, which is quicker to walk
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every value that ``graph`` itself defines: inputs, weights, what its nodes write."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def taken(graph: ir.Graph, skip: ir.Graph | None = None) -> set[str]:
    """Every name of a value or a node in ``graph`` and in the graphs inside it, ``skip`` left out."""
    found = {value.name for value in values(graph) if value.name}
    for node in graph:
        if node.name:
            found.add(node.name)
        for inner in subgraphs(node):
            if inner is not skip:
                found |= taken(inner, skip)
    return found


def fresh(name: str, used: set[str]) -> str:
    """``name``, with a number where it is in ``used``; it is added there."""
    found, count = name, 1
    while found in used:
        count += 1
        found = f"{name}_{count}"
    used.add(found)
    return found


def unshadow(graph: ir.Graph, seen: frozenset[str] = frozenset(), used: set[str] | None = None) -> None:
    """Rename inside subgraphs whatever has the name of a value that is seen from there."""
    if used is None:
        if not any(True for node in graph for _ in subgraphs(node)):
            return
        used = taken(graph)
    elif seen:
        for value in dict.fromkeys(values(graph)):
            if value.name in seen:
                value.name = fresh(value.name or "value", used)
    inner_seen: frozenset[str] | None = None
    for node in graph:
        for inner in subgraphs(node):
            if inner_seen is None:
                inner_seen = seen | {value.name for value in values(graph) if value.name}
            unshadow(inner, inner_seen, used)
