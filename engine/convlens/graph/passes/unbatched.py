"""An input without an axis that counts images is given one, of length 1.

A waveform of samples, an image of three axes: files for one input that put the axis in themselves. Behind
this, every input looks alike, and where the file put the axis in, the two cancel out, so that the batch can
be freed like any other of 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convlens.graph.graph import Graph
from convlens.graph.passes.contract import changes
from convlens.graph.passes.names import fresh, taken
from convlens.graph.trace import lacks_batch

_SINCE = 13  # Squeeze and Unsqueeze take their axes as an input


def unbatched(graph: Graph) -> bool:
    """Whether the only input holds one image without an axis that counts images."""
    if len(graph.inputs) != 1 or not graph.nodes:
        return False
    value = graph.inputs[0]
    if value.name in graph.outputs:
        return False
    return value.rank == 1 or lacks_batch(graph, value.name)


@changes("the input given an axis for images", "nodes", "order", "weights", "shapes")
def give_batch(model: ir.Model) -> None:
    """Put an axis of length 1 in front of the only input, and take it away before whatever reads it."""
    graph = model.graph
    source = next(value for value in graph.inputs if value.name not in graph.initializers)
    assert source.shape is not None
    source.shape = ir.Shape([1, *source.shape])
    readers = list(source.uses())
    used = taken(graph)
    left = []
    for node, index in readers:
        if node.graph is not graph or index != 0 or not _cancelled(model, node, used):
            left.append((node, index))
    if not left:
        return
    squeeze = ir.node("Squeeze", *_with_axes(model, [source], [0], used))
    squeeze.name = fresh("one image", used)
    squeeze.outputs[0].name = fresh(f"{source.name}/one", used)
    graph.insert_before(graph[0], squeeze)
    for node, index in left:
        node.replace_input_with(index, squeeze.outputs[0])


def _cancelled(model: ir.Model, node: ir.Node, used: set[str]) -> bool:
    """Whether ``node`` puts the axis in itself, and has been changed so that it no longer does."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Unsqueeze", "Reshape"):
        return False
    given = node.inputs[1] if len(node.inputs) > 1 else None
    stored = list(node.attributes["axes"].as_ints()) if "axes" in node.attributes else None
    if given is not None:
        if given.const_value is None:
            return False
        stored = given.const_value.numpy().reshape(-1).tolist()
    if stored is None:
        return False
    if node.op_type == "Reshape":  # which counts numbers, and sees no axis of length 1
        return 0 not in stored and stored[0] == 1
    source = node.inputs[0]
    assert source is not None
    assert source.shape is not None
    full = len(source.shape) - 1 + len(stored)
    axes = sorted(int(axis) % full for axis in stored)
    if axes[0] != 0:
        return False
    inputs, attributes = _with_axes(model, [source], axes[1:], used)
    kind = "Unsqueeze" if axes[1:] else "Identity"
    made = ir.node(kind, inputs if axes[1:] else [source], attributes=attributes if axes[1:] else {})
    made.name, old = node.name, node.outputs[0]
    new = made.outputs[0]
    new.type, new.shape = old.type, old.shape
    model.graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    name, old.name = old.name, None
    model.graph.remove(node, safe=True)
    new.name = name
    return True


def _with_axes(
    model: ir.Model, inputs: list[ir.Value | None], axes: list[int], used: set[str]
) -> tuple[list[ir.Value | None], dict[str, list[int]]]:
    """Inputs and attributes of a Squeeze or Unsqueeze of ``axes``, as the model's opset has them."""
    if not axes:
        return inputs, {}
    if (model.opset_imports.get("") or 1) < _SINCE:
        return inputs, {"axes": axes}
    name = fresh("axes of images", used)
    tensor = ir.tensor(np.array(axes, np.int64), name=name)
    value = ir.Value(name=name, shape=ir.Shape([len(axes)]), type=ir.TensorType(tensor.dtype))
    value.const_value = tensor
    model.graph.register_initializer(value)
    return [*inputs, value], {}
