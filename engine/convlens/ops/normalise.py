"""Normalisation layers, as they behave at inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Kernel, Reduce, Rule
from convlens.ops.activations import pointwise
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _whole_image(node: Node, graph: Graph) -> Rule:
    return Reduce(frozenset(range(1, graph.value(node.input(0)).rank or 4)))


def _channels(_node: Node, _graph: Graph) -> Rule:
    return Kernel({}, frozenset({1}))


def _from_axis(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    return Reduce(None if rank is None else frozenset(range(node.attr("axis", -1) % rank, rank)))


@operator("BatchNormalization", kind="norm", window=pointwise)
def batch_normalization(node: TorchNode) -> Forward:
    """Scale and shift per channel with the stored statistics."""
    from torch.nn import functional as F

    if node.attr("training_mode", 0):
        raise node.refuse("training mode (statistics of the batch)")
    if not node.attr("spatial", 1):
        raise node.refuse("statistics for every position")
    eps = float(node.attr("epsilon", 1e-5))

    def forward(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, scale, bias, False, 0.0, eps)

    return forward


def _standard(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    scale: Tensor = (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    return centred * scale


def _affine(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (-1, *[1] * (x.dim() - 2))
    return x * scale.view(shape) + bias.view(shape)


@operator("InstanceNormalization", kind="norm", window=_whole_image)
def instance_normalization(node: TorchNode) -> Forward:
    """Each channel of each image by its own mean and variance."""
    eps = float(node.attr("epsilon", 1e-5))

    def forward(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return _affine(_standard(x, tuple(range(2, x.dim())), eps), scale, bias)

    return forward


@operator("GroupNormalization", kind="norm", window=_whole_image)
def group_normalization(node: TorchNode) -> Forward:
    """Groups of channels by their common mean and variance; opset 18 scales by group."""
    eps, groups = float(node.attr("epsilon", 1e-5)), int(node.attr("num_groups"))

    def forward(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if scale.numel() != x.shape[1]:
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        rows = x.reshape(x.shape[0], groups, -1)
        return _affine(_standard(rows, (2,), eps).reshape(x.shape), scale, bias)

    return forward


@operator("LayerNormalization", kind="norm", window=_from_axis)
def layer_normalization(node: TorchNode) -> Forward:
    """Everything from ``axis`` on by its common mean and variance."""
    if node.outputs > 1:
        raise node.refuse("the mean and deviation as outputs")
    eps, axis = float(node.attr("epsilon", 1e-5)), int(node.attr("axis", -1))

    def forward(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        dims = tuple(range(axis % x.dim(), x.dim()))
        out = _standard(x, dims, eps) * scale
        return out if bias is None else out + bias

    return forward


@operator("LRN", kind="norm", window=_channels)
def local_response_normalization(node: TorchNode) -> Forward:
    """Each unit by the energy of the neighbouring channels (Krizhevsky 2012, section 3.3)."""
    from torch.nn import functional as F

    size = int(node.attr("size"))
    alpha, beta = float(node.attr("alpha", 1e-4)), float(node.attr("beta", 0.75))
    bias = float(node.attr("bias", 1.0))

    def forward(x: Tensor) -> Tensor:
        energy = x.square().flatten(2).unsqueeze(1) if x.dim() > 2 else x.square()[:, None, :, None]
        front = (size - 1) // 2
        padded = F.pad(energy, (0, 0, front, size - 1 - front))
        mean = F.avg_pool2d(padded, (size, 1), stride=1).reshape(x.shape)
        return x / (bias + alpha * mean) ** beta

    return forward
