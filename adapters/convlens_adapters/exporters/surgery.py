"""Small operations on ONNX graphs that the recipes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto

#: What the parameters of an operator are called, after the name of its result.
PARAMETERS = {"Conv": ("", ".weight", ".bias"), "Gemm": ("", ".weight", ".bias")}


def value(name: str, *shape: int | str) -> ValueInfoProto:
    """Describe an fp32 input or output; a string in the shape names a dynamic size."""
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def assemble(
    nodes: Iterable[onnx.NodeProto],
    tensors: Mapping[str, np.ndarray],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    *,
    name: str,
    opset: int = 13,
) -> ModelProto:
    """Make a model that carries nothing but its graph."""
    weights = [onnx.numpy_helper.from_array(array, key) for key, array in tensors.items()]
    graph = onnx.helper.make_graph(list(nodes), name, inputs, outputs, weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7)


def rebuild(
    source: ModelProto,
    names: Mapping[str, str],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    *,
    name: str,
) -> ModelProto:
    """Copy the part of a graph whose values are in ``names`` (old to new) under the new names.

    Each node takes the name of its result, its parameters the name of the node with an ending
    from :data:`PARAMETERS`. Parameters come in the order of use, attributes in alphabetical order.
    An input may stand for a value inside the source; what comes before that is left out.
    """
    weights = source.graph.initializer
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in weights}
    given = {value.name for value in inputs}
    nodes, tensors = [], {}
    for node in source.graph.node:
        if names.get(node.output[0], "") in {"", *given}:
            continue
        result, taken = names[node.output[0]], []
        for position, old in enumerate(node.input):
            if old in stored:
                endings = PARAMETERS.get(node.op_type, ())
                new = result + endings[position] if position < len(endings) else old
                tensors[new] = stored[old]
                taken.append(new)
            else:
                taken.append(names[old] if old else "")
        copy = onnx.helper.make_node(node.op_type, taken, [result], name=result)
        copy.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(copy)
    return assemble(nodes, tensors, inputs, outputs, name=name)


def store_fp16(model: ModelProto, least: int = 256) -> None:
    """Store the weights as fp16 and cast them back to fp32, in place.

    This is for initializers of rank 2 and up with ``least`` elements or more; biases stay as they
    are, and so does a weight that fp16 cannot hold. NAME becomes NAME_f16, and a Cast gives NAME.
    """
    graph = model.graph
    given = {value.name for value in graph.input} | {value.name for value in graph.output}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in given or len(tensor.dims) < 2:
            continue
        weight = onnx.numpy_helper.to_array(tensor)
        if weight.size < least or np.abs(weight).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        half = weight.astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_f16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_f16"], [name], name=name, to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def strip(model: ModelProto) -> None:
    """Remove all that does not bear on the result: notes, origins, metadata, unused opsets."""
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        model.ClearField(field)
    model.ClearField("metadata_props")
    for function in model.functions:
        function.ClearField("doc_string")
        function.ClearField("metadata_props")
    _strip_graph(model.graph)
    used = {node.domain for node in model.graph.node} | {item.domain for item in model.functions}
    if not model.functions and not any(_subgraphs(model.graph)):
        kept = [item for item in model.opset_import if item.domain in used | {""}]
        del model.opset_import[:]
        model.opset_import.extend(kept)


def _subgraphs(graph: GraphProto) -> Iterable[GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield attribute.g
            yield from attribute.graphs


def _strip_graph(graph: GraphProto) -> None:
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (graph, *values, *graph.node, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    for inner in _subgraphs(graph):
        _strip_graph(inner)


def to_bytes(model: ModelProto) -> bytes:
    """Check the model and serialise it, the same bytes for the same model."""
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
