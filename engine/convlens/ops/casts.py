"""From one element type to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convlens.ops.activations import pointwise
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_EIGHTHS = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
"""8-bit real numbers, which numpy's extension and torch call alike."""


@operator("Cast", kind="shape", window=pointwise)
def cast(node: TorchNode) -> Forward:
    """The input in another type; real numbers become integers towards zero."""
    return _to(node, int(node.attr("to")))


@operator("CastLike", kind="shape", window=pointwise)
def cast_like(node: TorchNode) -> Forward:
    """The first input in the type of the second."""
    import numpy as np
    from onnx.helper import np_dtype_to_tensor_dtype

    kind = node.read(1)
    if kind is None:
        return lambda x, like: x.to(like.dtype)
    if not hasattr(np, kind):
        import ml_dtypes

        target = np_dtype_to_tensor_dtype(np.dtype(getattr(ml_dtypes, kind)))
    else:
        target = np_dtype_to_tensor_dtype(np.dtype(kind))
    function = _to(node, target)
    return lambda x, _like: function(x)


def _to(node: TorchNode, target: int) -> Forward:
    from onnx.helper import tensor_dtype_to_np_dtype

    name = tensor_dtype_to_np_dtype(target).name
    if name in _EIGHTHS:
        if not node.attr("saturate", 1):
            raise node.refuse(f"a cast to {name} that does not saturate")
        return _eighth(name)
    if name.startswith("float") and name not in ("float16", "float32", "float64"):
        raise node.refuse(f"a cast to {name}")
    if name in ("int4", "uint4", "int2", "uint2"):
        raise node.refuse(f"a cast to {name}")
    dtype = node.dtype(target)
    return lambda x: x.to(dtype)


def _eighth(name: str) -> Forward:
    """Rounded to the nearest number of the 8-bit type and carried on as real numbers.

    What is too large becomes the largest number. The gradient passes the rounding as if it were not
    there, and stops where it saturates.
    """
    import torch

    kind = getattr(torch, name)
    largest = torch.finfo(kind).max

    def forward(x: Tensor) -> Tensor:
        real = x if x.dtype in (torch.float32, torch.float64) else x.float()
        bounded = real.clamp(-largest, largest)
        rounded = bounded.detach().float().to(kind).to(real.dtype)
        return bounded + (rounded - bounded).detach()

    return forward
