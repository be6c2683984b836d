"""``Constant`` nodes become initializers, under the same value name."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convlens.graph.passes.contract import changes


@changes(
    "Constant nodes made weights",
    "nodes",
    "weights",
    when=lambda _model, kinds: ("", "Constant") in kinds,
)
def lift_constants(model: ir.Model) -> None:
    """Turn every ``Constant`` node into an initializer, scalars included; one that is an output stays."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type != "Constant" or node.domain or node.outputs[0].is_graph_output():
            continue
        tensor = _tensor(node)
        graph, output = node.graph, node.outputs[0]
        if tensor is None or not isinstance(graph, ir.Graph) or not output.name:
            continue
        weight = ir.Value(
            name=output.name,
            shape=ir.Shape(int(dim) for dim in tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
            metadata_props=dict(output.metadata_props),
        )
        output.replace_all_uses_with(weight)
        graph.remove(node)
        graph.register_initializer(weight)


def _tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """What a ``Constant`` node holds, whichever attribute says it."""
    if len(node.attributes) != 1:
        return None
    [attribute] = node.attributes.values()
    value, kind, name = attribute.value, attribute.type, node.outputs[0].name
    if kind == ir.AttributeType.TENSOR:
        tensor: ir.TensorProtocol = value
        return tensor
    if kind in (ir.AttributeType.INT, ir.AttributeType.INTS):
        return ir.Tensor(np.array(value, np.int64), name=name)
    if kind in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        return ir.Tensor(np.array(value, np.float32), name=name)
    if kind in (ir.AttributeType.STRING, ir.AttributeType.STRINGS):
        texts = [value] if kind == ir.AttributeType.STRING else list(value)
        raw = [text.encode() if isinstance(text, str) else text for text in texts]
        shape = ir.Shape([] if kind == ir.AttributeType.STRING else [len(raw)])
        return ir.StringTensor(raw, shape=shape, name=name)
    return None
