"""Joining, splitting, padding and rearranging along axes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Join, Kernel, Rule, Spread, Window
from convlens.ops.geometry import unpadded
from convlens.ops.given import computed, fixed, numbers, together
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_PADDINGS = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _join_window(node: Node, _graph: Graph) -> Rule:
    return Join(int(node.attr("axis")))


def _split_window(node: Node, graph: Graph) -> Rule:
    axis, rank = int(node.attr("axis", 0)), graph.value(node.input(0)).rank
    if axis < 0 and rank is None:
        return Everything()
    return Kernel({}, frozenset({axis % rank if rank else axis}))


def _to_space_window(node: Node, _graph: Graph) -> Rule:
    block = int(node.attr("blocksize"))
    window = Window(Fraction(1, block), Fraction(1 - block, block), Fraction(0))
    return Kernel({2: window, 3: window})


def _to_depth_window(node: Node, _graph: Graph) -> Rule:
    block = int(node.attr("blocksize"))
    return Kernel(dict.fromkeys((2, 3), Window.kernel(block, block)))


def _pad_window(node: Node, graph: Graph) -> Rule:
    """A shift; modes that copy pixels into the margin also look back from there."""
    rank = graph.value(node.input(0)).rank
    pads, axes = fixed(node, graph, 1, "pads"), fixed(node, graph, 3)
    if rank is None or pads is None or computed(node, graph, 1, 2, 3):
        return Everything()
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    mode = node.attr("mode", "constant")
    windows, mixed = {}, set()
    for axis, front, back in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if not front and not back:
            continue
        reach = {"constant": 0, "edge": 1, "reflect": 2}.get(mode)
        if reach is None:
            mixed.add(axis)
            continue
        left, right = reach * max(back, 0), reach * max(front, 0)
        windows[axis] = Window(Fraction(1), Fraction(-front - left), Fraction(right - front))
    return Kernel(windows, frozenset(mixed))


@operator("Concat", kind="concat", window=_join_window)
def concat(node: TorchNode) -> Forward:
    """The inputs end to end along an axis."""
    import torch

    axis = int(node.attr("axis"))
    return lambda *xs: torch.cat(together(*xs), dim=axis)


@operator("Split", kind="shape", window=_split_window)
def split(node: TorchNode) -> Forward:
    """The input cut along an axis, into the given sizes or into equal parts."""
    import torch

    axis = int(node.attr("axis", 0))
    wanted = numbers(node, 1, "split")
    parts = int(node.attr("num_outputs", node.outputs))

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        x, given = inputs[0], wanted(inputs)
        if given is None:
            size = x.shape[axis]
            each = -(-size // parts)
            given = [max(min(each, size - i * each), 0) for i in range(parts)]
        return tuple(torch.split_with_sizes(x, given, dim=axis))

    return forward


def _to_space_crop(node: Node, _graph: Graph) -> Crop:
    return Crop(0.0, spread=dict.fromkeys((2, 3), Spread(int(node.attr("blocksize")))))


@operator("DepthToSpace", kind="shape", window=_to_space_window, crop=_to_space_crop)
def depth_to_space(node: TorchNode) -> Forward:
    """Blocks of channels laid out as blocks of pixels."""
    block, mode = int(node.attr("blocksize")), node.attr("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.refuse(f"mode {mode!r}", "DCR, CRD")

    def forward(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        depth = c // block**2
        if mode == "DCR":
            cells = x.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            cells = x.reshape(n, depth, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(n, depth, h * block, w * block)

    return forward


@operator("SpaceToDepth", kind="shape", window=_to_depth_window, crop=unpadded(0.0))
def space_to_depth(node: TorchNode) -> Forward:
    """Blocks of pixels laid out as blocks of channels, the block's position or the channel outermost."""
    block, mode = int(node.attr("blocksize")), node.attr("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.refuse(f"mode {mode!r}", "DCR, CRD")
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)

    def forward(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // block, block, w // block, block).permute(order)
        return cells.reshape(n, c * block**2, h // block, w // block)

    return forward


def _pad_crop(node: Node, graph: Graph) -> Crop | None:
    """A margin of one constant: the cut of the padded input is the output."""
    value = fixed(node, graph, 2) if node.input(2) else [node.attr("value", 0.0)]
    if node.attr("mode", "constant") != "constant" or value is None:
        return None
    return Crop(float(value[0]), moves=True)


@operator("Pad", kind="pad", window=_pad_window, crop=_pad_crop)
def pad(node: TorchNode) -> Forward:
    """A margin of a constant or of copied pixels; a negative one crops."""
    import torch
    from torch.nn import functional as F

    mode = node.attr("mode", "constant")
    if mode != "constant" and mode not in _PADDINGS:
        raise node.refuse(f"mode {mode!r}", ", ".join(("constant", *_PADDINGS)))
    amounts, filling, along = numbers(node, 1, "pads"), numbers(node, 2), numbers(node, 3)
    attribute = node.attr("value", 0.0)

    def forward(*inputs: Tensor) -> Tensor:
        x, pads, axes, value = inputs[0], amounts(inputs), along(inputs), filling(inputs)
        assert pads is not None
        axes = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
        pairs = [(0, 0)] * x.dim()
        for axis, front, back in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
            pairs[axis] = (front, back)
        if mode == "constant":
            flat = [amount for pair in reversed(pairs) for amount in pair]
            if node.has(2) and node.constant(2) is None:
                inner = F.pad(torch.ones_like(x, dtype=torch.bool), flat)
                return torch.where(inner, F.pad(x, flat), inputs[2].reshape(()))
            return F.pad(x, flat, value=value[0] if value else attribute)
        for axis, (front, back) in enumerate(pairs):
            if front or back:
                size = x.shape[axis]
                kept = np.arange(size)[max(-front, 0) : size - max(-back, 0)]
                margin = (max(front, 0), max(back, 0))
                places = np.pad(kept, margin, mode=_PADDINGS[mode])  # type: ignore[call-overload]
                x = x.index_select(axis, torch.as_tensor(places, device=x.device))
        return x

    return forward
