"""Operators on the bits of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convlens.ops.activations import pointwise
from convlens.ops.given import together
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_BITWISE = {
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "BitwiseNot": "bitwise_not",
}
_WIDTHS = {"uint8": 8, "uint16": 16, "uint32": 32, "int8": 8, "int16": 16, "int32": 32, "int64": 64}


@operator(*_BITWISE, kind="math", window=pointwise)
def bitwise(node: TorchNode) -> Forward:
    """Logic bit by bit."""
    import torch

    function = getattr(torch, _BITWISE[node.op])
    return lambda *xs: function(*together(*xs))


@operator("BitShift", kind="math", window=pointwise)
def bit_shift(node: TorchNode) -> Forward:
    """The bits moved up or down; what is moved out is gone, a sign stays as it is on the way down."""
    import torch

    left = node.attr("direction") == "LEFT"
    kind = node.read(0) or "int64"
    if kind not in _WIDTHS:
        raise node.refuse(f"element type {kind}")
    bits, signed = _WIDTHS[kind], kind.startswith("i")

    def forward(x: Tensor, by: Tensor) -> Tensor:
        wide, amount = together(x.to(torch.int64), by.to(torch.int64))
        kept = (amount >= 0) & (amount < bits)
        amount = torch.where(kept, amount, 0)
        moved = wide << amount if left else wide >> amount
        beyond = torch.zeros_like(wide) if left or not signed else wide >> 63
        moved = torch.where(kept, moved, beyond)
        if bits < 64:
            moved = moved & (2**bits - 1)
            if signed:
                moved = torch.where(moved >= 2 ** (bits - 1), moved - 2**bits, moved)
        return moved.to(x.dtype)

    return forward


@operator("BitCast", kind="shape", window=pointwise)
def bit_cast(node: TorchNode) -> Forward:
    """The same bits read as another type of the same width; there is no gradient through it."""
    import torch
    from onnx.helper import tensor_dtype_to_np_dtype

    to = int(node.attr("to"))
    wanted: np.dtype[np.generic] = np.dtype(tensor_dtype_to_np_dtype(to))
    found = [getattr(torch, name, None) for name in (node.read(0) or "", wanted.name)]
    if not all(isinstance(kind, torch.dtype) for kind in found):
        raise node.refuse(f"a cast of the bits of {node.read(0)} to {wanted.name}")
    stored, read = found
    working = node.dtype(to)  # the graph may compute in double precision where the file says single
    return lambda x: x.detach().to(stored).view(read).to(working)
