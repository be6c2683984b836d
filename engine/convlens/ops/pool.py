"""Pooling. Max pooling goes back through its switches: the gradient returns to where the maximum was."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Kernel, Reduce, Rule
from convlens.ops.geometry import Geometry, spatial, unpadded
from convlens.ops.given import numbers
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _pool_window(node: Node, graph: Graph) -> Rule:
    g = Geometry.pooling(node)
    rule = g.rule(spatial(graph, node.input(0)) or [None] * len(g.kernel))
    return Kernel(rule.windows, frozenset()) if isinstance(rule, Kernel) else rule


def _global_window(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank or 4
    return Reduce(frozenset(range(2, rank)))


def _check_rank(node: TorchNode, kernel: tuple[int, ...]) -> None:
    if len(kernel) not in (1, 2, 3):
        raise node.refuse(f"pooling over {len(kernel)} axes", "one to three axes")


def _overhang(g: Geometry, size: Sequence[int], ceil: bool) -> list[int]:
    """How far the last window reaches beyond the padded input, axis by axis; negative: it ends short.

    Rounding up adds a window, unless it would start behind the input and the padding in front.
    """
    found = []
    rows = zip(size, g.padding(size), g.kernel, g.strides, g.dilations, strict=True)
    for n, (front, back), k, s, d in rows:
        span = (k - 1) * d + 1
        room = n + front + back - span
        steps = -(-room // s) if ceil else room // s
        if ceil and steps * s >= n + front:
            steps -= 1
        found.append(steps * s - room)
    return found


def _pad_behind(x: Tensor, amounts: Sequence[int], value: float) -> Tensor:
    from torch.nn import functional as F

    if not any(amounts):
        return x
    return F.pad(x, [p for amount in reversed(amounts) for p in (0, amount)], value=value)


def _pad_all(g: Geometry, x: Tensor, ceil: bool, value: float) -> Tensor:
    """``x`` padded for every window, those of rounding up included.

    In one step: what SAME would cut off behind, such a window still sees.
    """
    from torch.nn import functional as F

    size = x.shape[2:]
    rows = list(zip(g.padding(size), _overhang(g, size, ceil), strict=True))
    return F.pad(x, [n for (front, back), over in reversed(rows) for n in (front, back + over)], value=value)


@operator("MaxPool", kind="pool", window=_pool_window, crop=unpadded(float("-inf")))
def max_pool(node: TorchNode) -> Forward:
    """ONNX MaxPool, with its indices where the graph asks for them."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    g = Geometry.pooling(node)
    _check_rank(node, g.kernel)
    ceil = bool(node.attr("ceil_mode", 0))
    n = len(g.kernel)
    integers = (node.read(0) or "").startswith(("int", "uint"))  # which torch's own pooling refuses
    if node.outputs == 1 and _fits(g) and not integers:
        module: Any = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[n - 1]
        pool: Forward = module(g.kernel, g.strides, g.before, g.dilations, ceil_mode=ceil)
        return pool
    function: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[n - 1]
    order = range(n - 1, -1, -1) if node.attr("storage_order", 0) else range(n)

    def forward(x: Tensor) -> Tensor | tuple[Tensor, ...]:
        real = x if x.dtype.is_floating_point else x.float()
        if node.outputs == 1:
            padded = _pad_all(g, real, ceil, float("-inf"))
            out: Tensor = function(padded, g.kernel, g.strides, dilation=g.dilations).to(x.dtype)
            return out
        values, places = _maxima(g, real, ceil)
        outer = list(x.shape[2:])
        flat = torch.zeros_like(places[0])
        for axis in order:
            flat = flat * outer[axis] + places[axis]
        plane = torch.arange(prod(x.shape[:2]), device=x.device) * prod(outer)  # ONNX counts through them
        return values.to(x.dtype), flat + plane.view(*x.shape[:2], *[1] * n)

    return forward


def _maxima(g: Geometry, x: Tensor, ceil: bool) -> tuple[Tensor, list[Tensor]]:
    """The largest number of each window, and where it lies in ``x``, axis by axis."""
    from torch.nn import functional as F

    function: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(g.kernel) - 1]
    padded = _pad_all(g, x, ceil, float("-inf"))
    values, at = function(padded, g.kernel, g.strides, dilation=g.dilations, return_indices=True)
    size, margins = list(padded.shape[2:]), g.padding(x.shape[2:])
    return values, [at // prod(size[i + 1 :]) % size[i] - margins[i][0] for i in range(len(size))]


def switches(node: Node, x: Tensor) -> Tensor:
    """Where the maximum of each window of a MaxPool lies, counted within its plane of ``x``."""
    g = Geometry.pooling(node)
    _, places = _maxima(g, x, bool(node.attr("ceil_mode", 0)))
    flat = places[0]
    for size, place in zip(x.shape[3:], places[1:], strict=True):
        flat = flat * size + place
    return flat


def _fits(g: Geometry) -> bool:
    """Whether torch's own pooling takes the padding."""
    return g.symmetric and all(2 * p <= k for p, k in zip(g.before, g.kernel, strict=True))


@operator("AveragePool", kind="pool", window=_pool_window, crop=unpadded(0.0, uneven=True))
def average_pool(node: TorchNode) -> Forward:
    """ONNX AveragePool; what torch's own cannot express is a sum divided by the count of pixels."""
    import torch
    from torch import nn

    g = Geometry.pooling(node)
    _check_rank(node, g.kernel)
    ceil = bool(node.attr("ceil_mode", 0))
    include = bool(node.attr("count_include_pad", 0))
    n = len(g.kernel)
    if _fits(g) and all(d == 1 for d in g.dilations):
        module: Any = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[n - 1]
        pool: Forward = module(g.kernel, g.strides, g.before, ceil, count_include_pad=include)
        return pool

    def forward(x: Tensor) -> Tensor:
        overhang = _overhang(g, x.shape[2:], ceil)
        real = g.pad(torch.ones_like(x[:1, :1]), 1.0 if include else 0.0)
        return _total(g, g.pad(x), overhang) / _total(g, real, overhang)

    return forward


def _total(g: Geometry, padded: Tensor, overhang: list[int]) -> Tensor:
    """The sum over every window of the padded input."""
    from torch.nn import functional as F

    function: Any = (F.conv1d, F.conv2d, F.conv3d)[len(g.kernel) - 1]
    planes = _pad_behind(padded, overhang, 0.0).flatten(0, 1).unsqueeze(1)
    ones = planes.new_ones(1, 1, *g.kernel)
    out: Tensor = function(planes, ones, stride=g.strides, dilation=g.dilations)
    return out.view(*padded.shape[:2], *out.shape[2:])


def _root(powers: Tensor, p: int) -> Tensor:
    """The p-th root, with gradient zero instead of an infinite one at zero."""
    import torch

    some = powers > 0
    return torch.where(some, torch.where(some, powers, 1.0) ** (1 / p), 0.0)


@operator("LpPool", kind="pool", window=_pool_window, crop=unpadded(0.0))
def lp_pool(node: TorchNode) -> Forward:
    """ONNX LpPool: the p-norm of every window."""
    g = Geometry.pooling(node)
    _check_rank(node, g.kernel)
    ceil, p = bool(node.attr("ceil_mode", 0)), int(node.attr("p", 2))

    def forward(x: Tensor) -> Tensor:
        return _root(_total(g, _pad_all(g, x.abs() ** p, ceil, 0.0), [0] * len(g.kernel)), p)

    return forward


@operator("GlobalLpPool", kind="pool", window=_global_window)
def global_lp_pool(node: TorchNode) -> Forward:
    """ONNX GlobalLpPool: the p-norm over every axis after the channel."""
    p = int(node.attr("p", 2))
    return lambda x: _root((x.abs() ** p).sum(dim=tuple(range(2, x.dim())), keepdim=True), p)


@operator("MaxUnpool", kind="pool")
def max_unpool(node: TorchNode) -> Forward:
    """ONNX MaxUnpool: each number back to where its index says, zero elsewhere."""
    g = Geometry.of(node, node.attr("kernel_shape"))
    wanted = numbers(node, 2)

    def forward(*inputs: Tensor) -> Tensor:
        x, places, shape = inputs[0], inputs[1].to(inputs[0].device), wanted(inputs)
        if shape is None:
            rows = zip(x.shape[2:], g.strides, g.kernel, g.before, g.after, strict=True)
            shape = [*x.shape[:2], *((n - 1) * s + k - a - b for n, s, k, a, b in rows)]
        return x.new_zeros(prod(shape)).scatter(0, places.reshape(-1), x.reshape(-1)).reshape(shape)

    return forward


@operator("GlobalAveragePool", kind="pool", window=_global_window)
def global_average_pool(_node: TorchNode) -> Forward:
    """ONNX GlobalAveragePool: the mean over every axis after the channel."""

    def forward(x: Tensor) -> Tensor:
        return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)

    return forward


@operator("GlobalMaxPool", kind="pool", window=_global_window)
def global_max_pool(_node: TorchNode) -> Forward:
    """ONNX GlobalMaxPool; of equal maxima the first one gets the gradient, as in max pooling."""

    def forward(x: Tensor) -> Tensor:
        return x.flatten(2).max(dim=2).values.view(*x.shape[:2], *[1] * (x.dim() - 2))

    return forward
