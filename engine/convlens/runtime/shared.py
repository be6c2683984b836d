"""A graph as onnxruntime takes it: a small protobuf, and the large weights as they lie in memory.

Inside the protobuf, weights would be copied into it and into its bytes on the way into every session, and
could be no more than 2 GB. onnxruntime itself may still keep a copy of its own in each session.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.errors import LayerError, nearest
from convlens.graph.graph import Graph
from convlens.graph.passes.names import subgraphs

_LEAST = 1 << 12  # bytes; shape inference looks into what is smaller
_LOCK = Lock()


class SharedModel:
    """The model of one graph, made once for all of its sessions."""

    def __init__(self, graph: Graph) -> None:
        """Serialise ``graph`` without its large weights."""
        import onnxruntime

        self.graph = graph
        weights = graph.ir.graph.initializers
        held = {name: array for name, value in weights.items() if (array := _array(value)) is not None}
        stand_ins: list[tuple[ir.Value, ir.TensorProtocol]] = []
        for name, array in held.items():
            tensor = weights[name].const_value
            assert tensor is not None
            shape = ir.Shape(array.shape)
            there = ir.ExternalTensor("held", 0, array.nbytes, tensor.dtype, shape=shape, name=name)
            stand_ins.append((weights[name], there))
        for value in _external(graph.ir.graph):
            tensor = value.const_value
            if tensor is not None and (value.name not in held or weights[value.name] is not value):
                stand_ins.append((value, ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)))
        with _LOCK:
            kept = [value.const_value for value, _ in stand_ins]
            try:
                for value, stand_in in stand_ins:
                    value.const_value = stand_in
                self._proto = ir.serde.serialize_model(graph.ir)
            finally:
                for (value, _), tensor in zip(stand_ins, kept, strict=True):
                    value.const_value = tensor
        self.names = list(held)
        self._arrays = list(held.values())  # onnxruntime reads them, and keeps nothing alive itself
        self.nbytes = sum(array.nbytes for array in self._arrays)
        self.values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._arrays]

    @property
    def proto_bytes(self) -> bytes:
        """The model without its large weights, serialised."""
        return bytes(self._proto.SerializeToString())

    def exposing(self, names: frozenset[str]) -> bytes:
        """The model with ``names`` as its only outputs.

        Raises:
            LayerError: the graph computes no such value.
        """
        known = {value.name for node in self.graph.ir.graph for value in node.outputs if value.name}
        for name in sorted(names - known):
            raise LayerError(f"the graph computes no value {name!r}{nearest(name, known)}")
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        kept = {info.name: info for info in self._proto.graph.output if info.name in names}
        del proto.graph.output[:]
        for name in sorted(names):
            info = onnx.ValueInfoProto(name=name)
            dtype = self.graph.value(name).dtype
            if name in kept:
                info = kept[name]
            elif dtype is not None:
                info.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(numpy_dtype(dtype))
            proto.graph.output.append(info)
        return bytes(proto.SerializeToString())


def _external(graph: ir.Graph) -> Iterator[ir.Value]:
    """Weights of ``graph`` and of the graphs inside it that lie in files of their own."""
    for value in graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value
    for node in graph:
        for inner in subgraphs(node):
            yield from _external(inner)


def _array(value: ir.Value) -> NDArray[Any] | None:
    """The numbers of a weight that onnxruntime can read where they are."""
    tensor = value.const_value
    if tensor is None or tensor.nbytes < _LEAST or tensor.dtype.is_string():
        return None
    if not value.uses():  # onnxruntime has dropped it before it looks for it
        return None
    if tensor.dtype.name not in ("FLOAT", "FLOAT16", "DOUBLE") and not tensor.dtype.is_integer():
        return None
    if tensor.dtype.bitwidth < 8:
        return None
    return np.require(tensor.numpy(), requirements=["C", "A"])


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of that name, those that ONNX has beyond numpy's own included."""
    if name in ("bfloat16", "int4", "uint4") or name.startswith("float8"):
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    return np.dtype(name)
