"""What a torch facet is given of its node, and constants as tensors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Maker:
    """One node, as :class:`~convlens.ops.table.TorchNode` describes it; ``taken``: inputs handed out."""

    def __init__(self, node: Node, graph: Graph, dtype: torch.dtype) -> None:
        self._node, self._graph, self._dtype = node, graph, dtype
        self.op, self.version = node.op, node.version
        self.taken: set[int] = set()

    @property
    def outputs(self) -> int:
        return sum(1 for name in self._node.outputs if name)

    def attr(self, name: str, default: Any = None) -> Any:
        return self._node.attr(name, default)

    def has(self, index: int) -> bool:
        return bool(self._node.input(index))

    def constant(self, index: int) -> NDArray[Any] | None:
        return self._graph.constant(self._node.input(index))

    def weight(self, index: int) -> Tensor | None:
        array = self.constant(index)
        if array is None:
            return None
        self.taken.add(index)
        return to_tensor(array, self._dtype)

    def rank(self, index: int) -> int | None:
        return self._graph.value(self._node.input(index)).rank

    def dtype(self, onnx_type: int) -> torch.dtype:
        if onnx_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            if onnx_type == onnx.TensorProto.FLOAT or self._dtype == torch.float64:
                return self._dtype
            half = onnx_type == onnx.TensorProto.FLOAT16
            return torch.float16 if half else torch.bfloat16
        name = onnx.helper.tensor_dtype_to_np_dtype(onnx_type).name
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise self.refuse(f"element type {name}")
        return found

    def refuse(self, why: str) -> UnsupportedError:
        where = self._node.name or (self._node.outputs[0] if self._node.outputs else "?")
        return UnsupportedError(
            f"{self._node.full_op} (opset {self._node.version}) node {where!r}: {why} is not covered "
            "by the PyTorch converter"
        )


def to_tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """A constant as a tensor of its own; float32 follows the working precision."""
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    with warnings.catch_warnings():  # the file's arrays are read-only; the copy below is not
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)).clone()
    if tensor.dtype == torch.float32 or (tensor.is_floating_point() and dtype == torch.float64):
        tensor = tensor.to(dtype)
    return tensor
