"""What a torch facet is given of its node, and constants as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.ops.quantcodes import NARROW, element

CARRIED = {"uint16": 16, "uint32": 32, "uint64": 64}
"""Element types that torch stores but does not calculate with, and their bits."""

_TOO_LARGE = "a uint64 of 2^63 or more; PyTorch calculates with int64, which ends there"

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from convlens.ops.table import Forward


class Maker:
    """One node, as :class:`~convlens.ops.table.TorchNode` describes it; ``taken``: inputs handed out."""

    def __init__(self, node: Node, graph: Graph, dtype: torch.dtype, codes: Mapping[str, str]) -> None:
        self._node, self._graph, self._dtype, self._codes = node, graph, dtype, codes
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

    def read(self, index: int) -> str | None:
        return element(self._node.input(index), self._graph, self._codes)

    def written(self, index: int = 0) -> str | None:
        return self._codes.get(self._node.outputs[index])

    def dtype(self, onnx_type: int) -> torch.dtype:
        if onnx_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            if onnx_type == onnx.TensorProto.FLOAT or self._dtype == torch.float64:
                return self._dtype
            half = onnx_type == onnx.TensorProto.FLOAT16
            return torch.float16 if half else torch.bfloat16
        name = onnx.helper.tensor_dtype_to_np_dtype(onnx_type).name
        found = torch.int64 if name in CARRIED else getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise self.refuse(f"element type {name}")
        return found

    def branching(self) -> Forward:
        from convlens.instrument.branching import Branching  # which is made of graphs, and they of nodes

        return Branching(self._node, self._graph, self._dtype, self._codes, self.refuse)

    def refuse(self, why: str, covered: str = "") -> UnsupportedError:
        where = self._node.name or (self._node.outputs[0] if self._node.outputs else "?")
        return UnsupportedError(
            f"{self._node.full_op} (opset {self._node.version}) node {where!r}: {why} is not covered "
            f"by the PyTorch converter{'; covered: ' + covered if covered else ''}"
        )


def to_tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """A constant as a tensor of its own; float32 follows the working precision."""
    tensor = from_array(array)
    if tensor.dtype == torch.float32 or (tensor.is_floating_point() and dtype == torch.float64):
        tensor = tensor.to(dtype)
    return tensor


def from_array(array: NDArray[Any]) -> Tensor:
    """An array as a tensor of its own, in the element type that carries it here.

    Unsigned integers of 16 bits and more, which torch does not calculate with, are carried in int64;
    8-bit and 4-bit real numbers in float32, which holds them exactly.

    Raises:
        UnsupportedError: a uint64 above the range of int64.
    """
    array = np.asarray(array)
    name = array.dtype.name
    if array.dtype.kind in "OSU":
        raise UnsupportedError("a value is text; PyTorch calculates with numbers only")
    if name in CARRIED:
        if name == "uint64" and array.size and int(array.max()) >> 63:
            raise UnsupportedError(_TOO_LARGE)
        array = array.astype(np.int64)
    elif name in NARROW:  # torch has no such types
        array = array.astype(np.int8)
    elif name.startswith(("float8_", "float6_", "float4_")):
        array = array.astype(np.float32)
    half = name == "bfloat16"
    # a copy: what is done to the module's weights must not reach the file's
    tensor = torch.from_numpy(np.array(array.view(np.int16) if half else array, order="C", copy=True))
    return tensor.view(torch.bfloat16) if half else tensor


def wrapped(call: Callable[..., Any], kinds: Sequence[str | None]) -> Callable[..., Any]:
    """``call`` with its outputs of carried types brought back into their range, as unsigned integers wrap.

    Where no output is of such a type it is ``call`` itself.
    """
    if not any(kind in CARRIED for kind in kinds):
        return call

    def forward(*arguments: Tensor | None) -> Any:
        found = call(*arguments)
        several = found if isinstance(found, tuple) else (found,)
        rows = zip(several, kinds, strict=False)
        brought = tuple(_within(value, CARRIED[kind]) if kind in CARRIED else value for value, kind in rows)
        return brought if isinstance(found, tuple) else brought[0]

    return forward


def _within(value: Tensor, bits: int) -> Tensor:
    if value.dtype.is_floating_point:  # codes, which their operators keep in range
        return value
    if bits < 64:
        return value.long() & ((1 << bits) - 1)
    if value.numel() and bool((value < 0).any()):
        raise UnsupportedError(_TOO_LARGE)
    return value


def with_integers(call: Callable[..., Any], kinds: Sequence[str | None]) -> Callable[..., Any]:
    """``call`` with its arguments of those kinds (None: any other) as true integers, without gradient."""

    def converted(*arguments: Tensor | None) -> Any:
        given = [
            value if kind is None or value is None else value.detach().to(_integer(kind))
            for value, kind in zip(arguments, kinds, strict=True)
        ]
        return call(*given)

    return converted


def _integer(kind: str) -> torch.dtype:
    """What calculates with codes of that kind; torch has no arithmetic for some, and none for others."""
    wider = {"uint16": "int32", "uint4": "uint8", "int4": "int8", "uint2": "uint8", "int2": "int8"}
    found: torch.dtype = getattr(torch, wider.get(kind, kind))
    return found
