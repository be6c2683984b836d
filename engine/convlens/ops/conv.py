"""Convolution and transposed convolution, in one, two or three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Kernel, Rule, Spread, Window
from convlens.ops.geometry import Geometry, spatial, unpadded, weight_kernel
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _conv_window(node: Node, graph: Graph) -> Rule:
    kernel = weight_kernel(node, graph)
    if kernel is None:
        return Everything()
    return Geometry.of(node, kernel).rule(spatial(graph, node.input(0)) or [None] * len(kernel))


def _transposed_window(node: Node, graph: Graph) -> Rule:
    kernel = weight_kernel(node, graph)
    if kernel is None:
        return Everything()
    g, fronts = Geometry.of(node, kernel), None
    if g.same or node.attr("output_shape"):
        size = [dim for dim in spatial(graph, node.input(0)) if dim is not None]
        if len(size) < len(g.kernel):
            return Everything()
        fronts = [front for front, _ in _crops(node, g, size)[0]]
    rows = zip(g.kernel, g.strides, fronts or g.before, g.dilations, strict=True)
    return Kernel({axis: Window.transposed(*row) for axis, row in enumerate(rows, start=2)})


def _conv_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return prod(output) * prod(inputs[1][1:])


def _transposed_macs(_node: Node, inputs: Sequence[tuple[int, ...]], _output: tuple[int, ...]) -> int:
    return prod(inputs[0]) * prod(inputs[1][1:])


def _check_rank(node: TorchNode, rank: int | None) -> None:
    """Refuse what torch has no convolution for; a rank that is not known is looked at again when run."""
    if rank is not None and rank not in (3, 4, 5):
        raise node.refuse(f"a convolution over {rank - 2} axes", "one to three axes")


@operator("Conv", kind="conv", window=_conv_window, macs=_conv_macs, crop=unpadded(0.0))
def conv(node: TorchNode) -> Forward:
    """ONNX Conv. With constant weights it is an ``nn.ConvNd``, which other tools recognise."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    groups = int(node.attr("group", 1))
    rank = node.rank(1)
    _check_rank(node, rank)
    fixed_bias = not node.has(2) or node.constant(2) is not None
    weight = node.weight(1) if fixed_bias else None
    if weight is None:
        functions: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}

        def dynamic(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            _check_rank(node, w.dim())
            g, function = Geometry.of(node, w.shape[2:]), functions[w.dim()]
            out: Tensor = function(g.pad(x), w, b, stride=g.strides, dilation=g.dilations, groups=groups)
            return out

        return dynamic
    bias = node.weight(2) if node.has(2) else None
    g = Geometry.of(node, weight.shape[2:])
    kind: Any = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[weight.dim()]
    with torch.device("meta"):
        module = kind(
            weight.shape[1] * groups,
            weight.shape[0],
            g.kernel,
            stride=g.strides,
            padding=g.before if g.symmetric else 0,
            dilation=g.dilations,
            groups=groups,
            bias=bias is not None,
        )
    module.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias, requires_grad=False)
    forward: Forward = module if g.symmetric else _padded(g, module)
    return forward


def _padded(g: Geometry, module: Any) -> Any:
    from torch import nn

    class Padded(nn.Module):
        """A convolution whose padding torch's own module cannot express."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = module

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(g.pad(x))
            return out

    return Padded()


def _crops(
    node: Node | TorchNode, g: Geometry, size: Sequence[int]
) -> tuple[list[tuple[int, int]], list[int]]:
    """What is cut off in front and behind of the full result for an input of ``size``, and added to it."""
    n = len(g.kernel)
    extra = list(node.attr("output_padding") or (0,) * n)
    full = [
        (size - 1) * s + (k - 1) * d + 1 + e
        for size, s, k, d, e in zip(size, g.strides, g.kernel, g.dilations, extra, strict=True)
    ]
    wanted = node.attr("output_shape")
    if not wanted and not g.same:
        return list(zip(g.before, g.after, strict=True)), extra
    sizes = wanted[-n:] if wanted else [a * b for a, b in zip(size, g.strides, strict=True)]
    if wanted:  # SAME only crops: where the kernel is narrower than the stride, less comes out
        extra = [e + max(s - f, 0) for e, f, s in zip(extra, full, sizes, strict=True)]
    totals = [max(f - size, 0) for f, size in zip(full, sizes, strict=True)]
    upper = g.auto == "SAME_UPPER"
    return [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals], extra


def _transposed_crop(node: Node, graph: Graph) -> Crop | None:
    """The node gives its full result on a cut; what hangs on more than the cut is trimmed off behind it."""
    kernel = weight_kernel(node, graph)
    if kernel is None or node.attr("output_shape"):
        return None
    g = Geometry.of(node, kernel)
    fronts = g.before
    if g.same:
        size = [dim for dim in spatial(graph, node.input(0)) if dim is not None]
        if len(size) < len(kernel):
            return None
        fronts = tuple(front for front, _ in _crops(node, g, size)[0])
    spread = {}
    for axis, (k, s, d, front) in enumerate(
        zip(kernel, g.strides, g.dilations, fronts, strict=True), start=2
    ):
        reach = (k - 1) * d
        before, behind = max(0, (reach - front) // s), max(0, (front - 1) // s + 1)
        left = (behind - 1) * s + reach + 1 - front
        more = max(0, -(left // s))  # where a kernel is narrower than the stride, outputs hang on no input
        spread[axis] = Spread(s, before, behind + more, (s * before + front, left + more * s))
    n = len(kernel)
    own: dict[str, int | str | tuple[int, ...]]
    own = {"auto_pad": "NOTSET", "pads": (0,) * (2 * n), "output_padding": (0,) * n}
    return Crop(0.0, {name: own[name] for name in own if node.attr(name)}, spread=spread)


@operator(
    "ConvTranspose",
    kind="conv",
    window=_transposed_window,
    macs=_transposed_macs,
    crop=_transposed_crop,
)
def conv_transpose(node: TorchNode) -> Forward:
    """ONNX ConvTranspose: padding crops the output, so an uneven one is cropped by hand."""
    from torch.nn import functional as F

    _check_rank(node, node.rank(1))
    functions: dict[int, Any] = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
    groups = int(node.attr("group", 1))

    def forward(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        _check_rank(node, w.dim())
        g, function = Geometry.of(node, w.shape[2:]), functions[w.dim()]
        crops, extra = _crops(node, g, x.shape[2:])
        # torch takes output_padding only below the stride, so what it adds is written out as zeros
        out: Tensor = function(x, w, None, stride=g.strides, dilation=g.dilations, groups=groups)
        if any(extra):
            out = F.pad(out, [p for e in reversed(extra) for p in (0, e)])
        for axis, (front, back) in enumerate(crops, start=2):
            out = out.narrow(axis, front, out.shape[axis] - front - back)
        return out if b is None else out + b.view(1, -1, *[1] * (out.dim() - 2))

    return forward
