"""Rectifiers and the other activations: one number in, one number out."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Pointwise, Reduce, Rule
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def pointwise(_node: Node, _graph: Graph) -> Rule:
    """The window rule of everything that works number by number."""
    return Pointwise()


def _axis_window(node: Node, graph: Graph) -> Rule:
    default = -1 if node.version >= 13 else 1
    axis = int(node.attr("axis", default))
    rank = graph.value(node.input(0)).rank
    if rank is None:
        return Reduce(None)
    axis %= rank
    return Reduce(frozenset({axis} if node.version >= 13 else range(axis, rank)))


@operator("Relu", kind="rectifier", window=pointwise)
def relu(_node: TorchNode) -> Forward:
    """max(x, 0)."""
    from torch import nn

    return nn.ReLU()


@operator("Clip", kind="rectifier", window=pointwise)
def clip(node: TorchNode) -> Forward:
    """min(max(x, low), high). From 0 to 6 it is ReLU6."""
    import torch
    from torch import nn

    if node.version < 11:
        low, high = node.attr("min"), node.attr("max")
    else:
        if any(node.has(i) and node.constant(i) is None for i in (1, 2)):
            return lambda x, lo=None, hi=None: torch.clamp(x, lo, hi)
        bounds = [node.constant(i) if node.has(i) else None for i in (1, 2)]
        low, high = (None if b is None else float(np.asarray(b).reshape(())) for b in bounds)
        for i in (1, 2):
            if node.has(i):
                node.weight(i)
    low = -inf if low is None else float(low)
    high = inf if high is None else float(high)
    if (low, high) == (0.0, inf):
        return nn.ReLU()
    if (low, high) == (0.0, 6.0):
        return nn.ReLU6()

    def forward(x: Tensor, *_: Tensor | None) -> Tensor:
        if x.dtype.is_floating_point:
            return torch.clamp(x, low, high)
        info = torch.iinfo(x.dtype)
        return torch.clamp(x, int(max(low, info.min)), int(min(high, info.max)))

    return forward


@operator("LeakyRelu", kind="rectifier", window=pointwise)
def leaky_relu(node: TorchNode) -> Forward:
    """x where positive, alpha x elsewhere."""
    from torch import nn

    return nn.LeakyReLU(float(node.attr("alpha", 0.01)))


@operator("PRelu", kind="rectifier", window=pointwise)
def prelu(node: TorchNode) -> Forward:
    """x where positive, slope x elsewhere; one slope for all, one a channel, or any that broadcasts."""
    import torch
    from torch import nn

    slope = node.constant(1)
    rank = node.rank(0)
    if slope is not None and rank is not None and rank >= 2:
        per_channel = (
            slope.size == 1
            or (slope.ndim == rank - 1 and slope.shape[0] == slope.size and rank > 2)
            or (rank == 2 and slope.ndim == 1)
        )
        weight = node.weight(1) if per_channel else None
        if weight is not None:
            module = nn.PReLU(weight.numel())
            module.weight = nn.Parameter(weight.reshape(-1), requires_grad=False)
            return module
    return lambda x, s: torch.where(x > 0, x, x * s)


@operator("Elu", kind="rectifier", window=pointwise)
def elu(node: TorchNode) -> Forward:
    """x where positive, alpha (exp(x) - 1) elsewhere."""
    from torch import nn

    return nn.ELU(float(node.attr("alpha", 1.0)))


@operator("Selu", kind="rectifier", window=pointwise)
def selu(node: TorchNode) -> Forward:
    """gamma x where positive, gamma alpha (exp(x) - 1) elsewhere."""
    import torch

    alpha = float(node.attr("alpha", 1.67326319217681884765625))
    gamma = float(node.attr("gamma", 1.05070102214813232421875))
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@operator("Celu", kind="rectifier", window=pointwise)
def celu(node: TorchNode) -> Forward:
    """x where positive, alpha (exp(x / alpha) - 1) elsewhere."""
    from torch import nn

    return nn.CELU(float(node.attr("alpha", 1.0)))


@operator("ThresholdedRelu", kind="rectifier", window=pointwise)
def thresholded_relu(node: TorchNode) -> Forward:
    """x where above alpha, 0 elsewhere."""
    import torch

    alpha = float(node.attr("alpha", 1.0))
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@operator("Gelu", "com.microsoft.Gelu", kind="rectifier", window=pointwise)
def gelu(node: TorchNode) -> Forward:
    """x Phi(x), with Phi the normal distribution function or its tanh approximation."""
    from torch import nn

    kind = node.attr("approximate", "none")
    return nn.GELU(approximate=kind)


@operator("HardSwish", kind="rectifier", window=pointwise)
def hard_swish(_node: TorchNode) -> Forward:
    """x min(max(x / 6 + 1/2, 0), 1)."""
    from torch import nn

    return nn.Hardswish()


@operator("Mish", kind="rectifier", window=pointwise)
def mish(_node: TorchNode) -> Forward:
    """x tanh(log(1 + exp(x)))."""
    from torch import nn

    return nn.Mish()


@operator("Softplus", kind="rectifier", window=pointwise)
def softplus(_node: TorchNode) -> Forward:
    """log(1 + exp(x))."""
    from torch import nn

    return nn.Softplus()


@operator("HardSigmoid", kind="activation", window=pointwise)
def hard_sigmoid(node: TorchNode) -> Forward:
    """min(max(alpha x + beta, 0), 1)."""
    alpha, beta = float(node.attr("alpha", 0.2)), float(node.attr("beta", 0.5))
    return lambda x: (alpha * x + beta).clamp(0, 1)


@operator("Softsign", kind="activation", window=pointwise)
def softsign(_node: TorchNode) -> Forward:
    """x / (1 + |x|)."""
    from torch import nn

    return nn.Softsign()


@operator("Sigmoid", kind="activation", window=pointwise)
def sigmoid(_node: TorchNode) -> Forward:
    """1 / (1 + exp(-x))."""
    from torch import nn

    return nn.Sigmoid()


@operator("Tanh", kind="activation", window=pointwise)
def tanh(_node: TorchNode) -> Forward:
    """The hyperbolic tangent."""
    from torch import nn

    return nn.Tanh()


@operator("Softmax", "LogSoftmax", "Hardmax", kind="softmax", window=_axis_window)
def softmax(node: TorchNode) -> Forward:
    """Softmax and its kin. Before opset 13 everything from ``axis`` on is one long axis."""
    import torch
    from torch.nn import functional as F

    def hardmax(x: Tensor, dim: int) -> Tensor:
        place = x.argmax(dim=dim, keepdim=True)
        return torch.zeros_like(x).scatter(dim, place, 1.0)

    functions: dict[str, Any] = {
        "Softmax": torch.softmax,
        "LogSoftmax": F.log_softmax,
        "Hardmax": hardmax,
    }
    function = functions[node.op]
    if node.version >= 13:
        axis = int(node.attr("axis", -1))
        return lambda x: function(x, dim=axis)
    start = int(node.attr("axis", 1))

    def forward(x: Tensor) -> Tensor:
        out: Tensor = function(x.flatten(start % x.dim()), dim=-1)
        return out.view(x.shape)

    return forward
