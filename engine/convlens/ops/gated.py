"""Activations that gate with a sigmoid, and the one that shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convlens.ops.activations import pointwise
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Swish", kind="rectifier", window=pointwise)
def swish(node: TorchNode) -> Forward:
    """x sigmoid(alpha x)."""
    import torch
    from torch import nn

    alpha = float(node.attr("alpha", 1.0))
    return nn.SiLU() if alpha == 1 else lambda x: x * torch.sigmoid(alpha * x)


@operator("SwiGLU", kind="mul", window=pointwise)
def swish_gate(node: TorchNode) -> Forward:
    """The second input gated by the swish of the first (Shazeer 2020)."""
    import torch

    alpha = float(node.attr("alpha", 1.0))
    return lambda a, b: a * torch.sigmoid(alpha * a) * b


@operator("Shrink", kind="activation", window=pointwise)
def shrink(node: TorchNode) -> Forward:
    """Zero between -lambd and lambd, moved towards zero by the bias outside."""
    import torch

    edge, bias = float(node.attr("lambd", 0.5)), float(node.attr("bias", 0.0))

    def forward(x: Tensor) -> Tensor:
        inner = torch.where(x > edge, x - bias, torch.zeros_like(x))
        return torch.where(x < -edge, x + bias, inner).to(x.dtype)

    return forward
