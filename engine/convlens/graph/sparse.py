"""Sparse weights written out: onnxruntime does so as well when it loads them."""

from __future__ import annotations

import numpy as np
import onnx


def densify(graph: onnx.GraphProto) -> bool:
    """Make sparse initializers and sparse ``Constant`` nodes dense, in place; whether there were any."""
    found = False
    for sparse in graph.sparse_initializer:
        graph.initializer.append(dense(sparse))
        found = True
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                tensor = dense(attribute.sparse_tensor)
                if node.op_type == "Constant":
                    attribute.Clear()
                    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                    attribute.t.CopyFrom(tensor)
                    found = True
            elif attribute.type == onnx.AttributeProto.GRAPH:
                found |= densify(attribute.g)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    found |= densify(inner)
    return found


def dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The tensor itself: ``indices`` are positions in the flat array, or one row of them a value."""
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        array[tuple(indices.T)] = values
    else:
        array.reshape(-1)[indices] = values
    return onnx.numpy_helper.from_array(array, sparse.values.name)
