"""Normalisation layers, as they behave at inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Everything, Kernel, Pointwise, Reduce, Rule
from convlens.ops.given import wide
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


def _batch_window(node: Node, _graph: Graph) -> Rule:
    return Everything() if node.attr("training_mode", 0) else Pointwise()


def _last_axis(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    return Everything() if rank is None else Kernel({}, frozenset({rank - 1}))


def _along_axis(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    return Everything() if rank is None else Kernel({}, frozenset({int(node.attr("axis", -1)) % rank}))


@operator("BatchNormalization", kind="norm", window=_batch_window)
def batch_normalization(node: TorchNode) -> Forward:
    """Scale and shift per channel (with ``spatial=0``: per position) with the stored statistics.

    In training mode the statistics are those of the batch, so its images influence each other.
    """
    import torch

    eps = float(node.attr("epsilon", 1e-5))
    if node.attr("training_mode", 0):
        return _batch_statistics(node, eps)

    def forward(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        if scale.dim() > 1:
            return (x - mean) / (var + eps).sqrt() * scale + bias
        # not torch's own: its backward on a CPU is wrong for an image alone whose axes were permuted and
        # then viewed, where signal and value lie in memory in different orders
        shape = (-1, *[1] * (x.dim() - 2))
        slope = scale.to(var.dtype) * (var + eps).rsqrt()
        shift = bias.to(var.dtype) - mean * slope
        if slope.dtype == x.dtype and x.dtype in (torch.float32, torch.float64):
            return torch.addcmul(shift.view(shape), x, slope.view(shape))
        wide = torch.promote_types(torch.promote_types(x.dtype, slope.dtype), torch.float32)
        return torch.addcmul(shift.to(wide).view(shape), x.to(wide), slope.to(wide).view(shape)).to(x.dtype)

    return forward


def _batch_statistics(node: TorchNode, eps: float) -> Forward:
    momentum = float(node.attr("momentum", 0.9))

    def forward(
        x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims = (0, *range(2, x.dim()))
        own, spread = x.mean(dims), x.var(dims, correction=0)
        shape = (-1, *[1] * (x.dim() - 2))
        normal = (x - own.view(shape)) * (spread + eps).rsqrt().view(shape)
        return (
            normal * scale.view(shape) + bias.view(shape),
            mean * momentum + own * (1 - momentum),
            var * momentum + spread * (1 - momentum),
        )

    return forward


def _standard(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The input with mean zero and variance one over ``dims``, the mean, and one over the deviation."""
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    scale = (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    return centred * scale, mean, scale


def _affine(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (-1, *[1] * (x.dim() - 2))
    return x * scale.view(shape) + bias.view(shape)


@operator("InstanceNormalization", kind="norm", window=_whole_image)
def instance_normalization(node: TorchNode) -> Forward:
    """Each channel of each image by its own mean and variance."""
    eps = float(node.attr("epsilon", 1e-5))

    def forward(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        normal = _standard(wide(x), tuple(range(2, x.dim())), eps)[0]
        return _affine(normal, wide(scale), wide(bias)).to(x.dtype)

    return forward


@operator("GroupNormalization", kind="norm", window=_whole_image)
def group_normalization(node: TorchNode) -> Forward:
    """Groups of channels by their common mean and variance; opset 18 scales by group."""
    eps, groups = float(node.attr("epsilon", 1e-5)), int(node.attr("num_groups"))

    def forward(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if scale.numel() != x.shape[1]:
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        rows = wide(x).reshape(x.shape[0], groups, -1)
        normal = _standard(rows, (2,), eps)[0].reshape(x.shape)
        return _affine(normal, wide(scale), wide(bias)).to(x.dtype)

    return forward


@operator("LayerNormalization", kind="norm", window=_from_axis)
def layer_normalization(node: TorchNode) -> Forward:
    """Everything from ``axis`` on by its common mean and variance, which are outputs as well."""
    eps, axis = float(node.attr("epsilon", 1e-5)), int(node.attr("axis", -1))
    stash = node.dtype(int(node.attr("stash_type", 1)))

    def forward(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        dims = tuple(range(axis % x.dim(), x.dim()))
        normal, mean, inverse = _standard(wide(x), dims, eps)
        out = normal * wide(scale)
        out = out if bias is None else out + wide(bias)
        return out.to(x.dtype), mean.to(stash), inverse.to(stash)

    return forward


@operator("RMSNormalization", "SimplifiedLayerNormalization", kind="norm", window=_from_axis)
def rms_normalization(node: TorchNode) -> Forward:
    """Everything from ``axis`` on by its root mean square (Zhang and Sennrich 2019)."""
    eps, axis = float(node.attr("epsilon", 1e-5)), int(node.attr("axis", -1))

    def forward(x: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        dims = tuple(range(axis % x.dim(), x.dim()))
        exact = wide(x)
        inverse = (exact.square().mean(dims, keepdim=True) + eps).rsqrt()
        return (exact * inverse * wide(scale)).to(x.dtype), inverse

    return forward


@operator("com.microsoft.SkipLayerNormalization", kind="norm", window=_last_axis)
def skip_layer_normalization(node: TorchNode) -> Forward:
    """LayerNormalization of the sum of two inputs and a bias; the sum is the fourth output."""
    eps = float(node.attr("epsilon", 1e-12))

    def forward(
        x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        total = x + skip if bias is None else x + skip + bias
        normal, mean, inverse = _standard(wide(total), (-1,), eps)
        out = normal * wide(gamma)
        return (out if beta is None else out + wide(beta)).to(x.dtype), mean, inverse, total

    return forward


@operator("com.microsoft.SkipSimplifiedLayerNormalization", kind="norm", window=_last_axis)
def skip_rms_normalization(node: TorchNode) -> Forward:
    """RMSNormalization of the sum of two inputs and a bias; the sum is the fourth output."""
    eps = float(node.attr("epsilon", 1e-12))

    def forward(x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        total = x + skip if bias is None else x + skip + bias
        exact = wide(total)
        inverse = (exact.square().mean(-1, keepdim=True) + eps).rsqrt()
        return (exact * inverse * wide(gamma)).to(x.dtype), inverse * 0, inverse, total

    return forward


@operator("MeanVarianceNormalization", kind="norm")
def mean_variance_normalization(node: TorchNode) -> Forward:
    """Mean zero and variance one over the given axes; by default over the batch as well."""
    axes = tuple(node.attr("axes") or (0, 2, 3))

    def forward(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return forward


@operator("LpNormalization", kind="norm", window=_along_axis)
def lp_normalization(node: TorchNode) -> Forward:
    """Divided by the norm along an axis; zero where that is zero."""
    import torch

    p, axis = int(node.attr("p", 2)), int(node.attr("axis", -1))
    if p not in (1, 2):
        raise node.refuse(f"the {p}-norm", "the 1-norm and the 2-norm")

    def forward(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / torch.where(norm > 0, norm, 1.0)

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
