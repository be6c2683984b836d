"""``If`` nodes whose condition is known beforehand: the branch taken is written out where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from convlens.graph.evaluate import LIMIT, Data, evaluate
from convlens.graph.graph import Value
from convlens.graph.passes.contract import changes
from convlens.graph.passes.names import fresh, subgraphs, taken, unshadow, values
from convlens.graph.shapes import infer
from convlens.graph.sizes import Extents, symbol
from convlens.graph.sizes import fresh as any_size

_DEPTH = 100  # nodes between a condition and what it is computed from


@changes(
    "If nodes with a constant condition resolved",
    "nodes",
    "order",
    "weights",
    when=lambda _model, kinds: ("", "If") in kinds,
)
def resolve_branches(model: ir.Model) -> None:
    """Replace each ``If`` whose condition follows from constants and known shapes by its branch.

    What only the condition and the other branch needed goes with them. An ``If`` that depends on
    the input's values stays.
    """
    changed = False
    while nodes := [n for n in ir.traversal.RecursiveGraphIterator(model.graph) if _is_if(n)]:
        known = _Known(model)
        decided = [(node, known.truth(node.inputs[0])) for node in nodes]
        gone: set[ir.Node] = set()
        for node, truth in decided:
            if truth is not None and node not in gone:
                gone |= _write_out(model, node, truth)
        if not gone:
            break
        changed = True
    if changed:
        unshadow(model.graph)


def _is_if(node: ir.Node) -> bool:
    return node.op_type == "If" and node.domain == ""


class _Known:
    """What can be told of small values before the model runs."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.found: dict[ir.Value, Data | None] = {}
        self._shapes: Mapping[str, Value] | None = None

    def truth(self, value: ir.Value | None) -> bool | None:
        """Whether the condition ``value`` holds, None where that depends on the input."""
        data = None if value is None else self.data(value, 0)
        return None if data is None or data.dtype == object or data.size != 1 else bool(data.reshape(-1)[0])

    def data(self, value: ir.Value, depth: int) -> Data | None:
        """The numbers of ``value``, with symbols for sizes that are open."""
        if value not in self.found:
            self.found[value] = self._data(value, depth)
        return self.found[value]

    def _data(self, value: ir.Value, depth: int) -> Data | None:
        tensor, node = value.const_value, value.producer()
        if tensor is None and node is not None and node.op_type == "Constant" and "value" in node.attributes:
            tensor = node.attributes["value"].as_tensor()
        if tensor is not None:
            return tensor.numpy() if tensor.size <= LIMIT else None
        if node is None or node.domain or depth > _DEPTH or any(True for _ in subgraphs(node)):
            return None
        if node.op_type in ("Shape", "Size"):
            inputs: list[Data | None] = [None for _ in node.inputs]
        else:
            inputs = [None if each is None else self.data(each, depth + 1) for each in node.inputs]
        shapes = [self.shape(each) for each in node.inputs]
        version = node.version or self.model.opset_imports.get("", 1)
        outputs = evaluate(ir.serde.serialize_node(node), version, inputs, shapes)
        return None if outputs is None else np.asarray(outputs[value.index() or 0])

    def shape(self, value: ir.Value | None) -> Extents | None:
        """The shape of ``value``: what inference finds from the shapes that the inputs declare."""
        if value is None or not value.name:
            return None
        if self._shapes is None:
            self._shapes = infer(self.model, {})
        known = self._shapes.get(value.name)
        tensor = value.const_value
        if tensor is not None:
            return tuple(int(dim) for dim in tensor.shape.numpy())
        if known is None or known.shape is None or value.graph is not self.model.graph:
            return None
        return tuple(
            dim if isinstance(dim, int) else any_size() if dim is None else symbol(dim) for dim in known.shape
        )


def _write_out(model: ir.Model, node: ir.Node, truth: bool) -> set[ir.Node]:
    """Put the branch taken in the place of ``node``; returns the nodes that are gone."""
    parent = node.graph
    assert isinstance(parent, ir.Graph)
    branch, dead = (
        node.attributes[name].as_graph()
        for name in (("then_branch", "else_branch") if truth else ("else_branch", "then_branch"))
    )
    gone = {node, *ir.traversal.RecursiveGraphIterator(dead)}
    freed = [*_release(dead), *(value for value in node.inputs if value is not None)]
    results = list(branch.outputs)
    branch.outputs.clear()
    used = taken(model.graph, skip=branch)
    own = taken(branch) | used
    for value in dict.fromkeys(values(branch)):
        if value.name and value.name in used:
            value.name = fresh(value.name, own)
    for each in branch:
        if each.name and each.name in used:
            each.name = fresh(each.name, own)
    for stored in list(branch.initializers):
        parent.register_initializer(branch.initializers.pop(stored))
    nodes = list(branch)
    branch.remove(nodes)
    given: set[ir.Value] = set()
    written = {value for each in nodes for value in each.outputs}
    replaced = []
    for output, result in zip(node.outputs, results, strict=True):
        if result not in written or result in given:
            copy = ir.node("Identity", [result])
            nodes.append(copy)
            result = copy.outputs[0]
        given.add(result)
        replaced.append((output, result))
    parent.insert_before(node, nodes)
    for output, result in replaced:
        declared = output.is_graph_output()  # at the graph's border the file's word stands
        result.type = output.type if declared or result.type is None else result.type
        result.shape = output.shape if declared or result.shape is None else result.shape
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        name, output.name = output.name, None
        result.name = name or fresh("branch", own)
    node.resize_inputs(0)
    parent.remove(node)
    return gone | _prune(freed)


def _release(graph: ir.Graph) -> list[ir.Value]:
    """Take a subgraph's hands off everything that it reads; returns what lies outside of it."""
    own = set(values(graph))
    freed = [value for value in graph.outputs if value not in own]
    graph.outputs.clear()
    for node in graph:
        for inner in subgraphs(node):
            freed += [value for value in _release(inner) if value not in own]
        freed += [value for value in node.inputs if value is not None and value not in own]
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    return freed


def _prune(freed: Iterable[ir.Value]) -> set[ir.Node]:
    """Drop the nodes that computed only what nothing reads any more; returns them."""
    stack = list(freed)
    gone: set[ir.Node] = set()
    while stack:
        node = stack.pop().producer()
        if node is None or node.graph is None:
            continue
        if any(value.uses() or value.is_graph_output() for value in node.outputs):
            continue
        stack += [value for value in node.inputs if value is not None]
        gone.add(node)
        for inner in subgraphs(node):
            gone.update(ir.traversal.RecursiveGraphIterator(inner))
            stack += _release(inner)
        graph = node.graph
        node.resize_inputs(0)
        graph.remove(node)
    return gone
