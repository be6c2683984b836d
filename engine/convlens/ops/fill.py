"""Tensors made from a shape or from nothing."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.ops.given import numbers, together
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Constant", kind="constant")
def constant(node: TorchNode) -> Forward:
    """A tensor that the node itself holds."""
    import torch
    from onnx.helper import np_dtype_to_tensor_dtype

    scalars: dict[str, Any] = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    array = node.attr("value")
    for name, kind in scalars.items():
        if array is None and node.attr(name) is not None:
            array = np.asarray(node.attr(name), dtype=kind)
    if array is None:
        raise node.refuse("a constant that is neither a tensor nor numbers")
    dtype = node.dtype(np_dtype_to_tensor_dtype(array.dtype))
    tensor = torch.from_numpy(np.array(array)).to(dtype)
    return lambda: tensor


@operator("ConstantOfShape", kind="constant")
def constant_of_shape(node: TorchNode) -> Forward:
    """A tensor of the given shape, filled with one value."""
    import torch
    from onnx.helper import np_dtype_to_tensor_dtype

    wanted = numbers(node, 0)
    value = np.asarray(node.attr("value", np.zeros(1, dtype=np.float32)))
    dtype = node.dtype(np_dtype_to_tensor_dtype(value.dtype))
    filling = value.reshape(-1)[0].item()
    return lambda *inputs: torch.full(tuple(wanted(inputs) or ()), filling, dtype=dtype)


@operator("Range", kind="constant")
def number_range(_node: TorchNode) -> Forward:
    """Numbers from a start up to a limit, in equal steps."""
    import torch

    def forward(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        count = max(ceil((limit.item() - start.item()) / delta.item()), 0)
        start, delta = together(start, delta)
        return start.reshape(()) + torch.arange(count, device=start.device).to(start.dtype) * delta.reshape(
            ()
        )

    return forward
