"""Shapes and dtypes of every value, by ONNX's own inference on a copy without the heavy weights."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from convlens.graph.graph import Dim, Value

_HEAVY = 1024  # elements; smaller constants may be shapes, axes or sizes that inference needs


def infer(model: ir.Model, inputs: Mapping[str, tuple[Dim, ...]]) -> dict[str, Value]:
    """Every value that inference can tell, by name.

    Args:
        model: a normalised model; it is not changed.
        inputs: shapes to assume for graph inputs instead of the file's own, to turn symbols into
            numbers. Values computed from other shapes than the file's are then consistent with them.
    """
    graph = onnx.GraphProto(name="light")
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            graph.input.append(_info(value, inputs.get(value.name or "")))
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.size > _HEAVY:
            shape = [int(dim) for dim in tensor.shape.numpy()]
            info = onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape)
            graph.input.append(info)
        else:
            proto = ir.serde.serialize_tensor(tensor)
            proto.name = name
            graph.initializer.append(proto)
    graph.node.extend(ir.serde.serialize_node(node) for node in model.graph)
    graph.output.extend(
        onnx.ValueInfoProto(name=value.name or "") if inputs else ir.serde.serialize_value(value)
        for value in model.graph.outputs
    )
    light = onnx.ModelProto(ir_version=max(model.ir_version, 8), graph=graph)
    for domain, version in model.opset_imports.items():
        light.opset_import.append(onnx.helper.make_opsetid(domain, version))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    found = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    own = {
        dim.dim_param
        for info in [*graph.input, *graph.output]
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param
    }
    return {info.name: _read(info, own) for info in found if info.type.HasField("tensor_type")}


def count(dim: int) -> int | None:
    """A dimension in numbers; some exporters (Paddle's) write -1 where they do not know."""
    return dim if dim >= 0 else None


def _info(value: ir.Value, shape: tuple[Dim, ...] | None) -> onnx.ValueInfoProto:
    if shape is None:
        return ir.serde.serialize_value(value)
    dtype = int(value.dtype) if value.dtype is not None else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(value.name or "", dtype, list(shape))


def _read(info: onnx.ValueInfoProto, symbols: set[str]) -> Value:
    tensor = info.type.tensor_type
    dtype = None
    if tensor.elem_type not in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if not tensor.HasField("shape"):
        return Value(info.name, dtype, None)
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        if dim.WhichOneof("value") == "dim_value":
            dims.append(count(dim.dim_value))
        else:  # inference invents symbols of its own, which say nothing to a reader
            dims.append(dim.dim_param if dim.dim_param in symbols else None)
    return Value(info.name, dtype, tuple(dims))
