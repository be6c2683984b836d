"""Slices and gathers: parts of a tensor by position."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from convlens.graph.graph import Graph, Node
from convlens.graph.windows import Crop, Everything, Kernel, Permute, Reduce, Rule, Window
from convlens.ops.given import computed, fixed, numbers, sizes
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _slice_window(node: Node, graph: Graph) -> Rule:
    """A shift and a stride; an axis that runs backwards, or starts at a computed place, is read whole."""
    shape = sizes(graph, node.input(0))
    starts, axes = fixed(node, graph, 1, "starts"), fixed(node, graph, 3, "axes")
    if shape is None or computed(node, graph, 3) or (starts is None and axes is None):
        return Everything()
    if starts is None or computed(node, graph, 4):
        cut = axes if axes is not None else range(len(starts or ()))
        return Kernel({}, frozenset(axis % len(shape) for axis in cut))
    steps = fixed(node, graph, 4)
    windows, mixed = {}, set()
    for axis, start, step in zip(
        axes if axes is not None else range(len(starts)),
        starts,
        steps or [1] * len(starts),
        strict=True,
    ):
        size = shape[axis]
        if step < 0 or (start < 0 and size is None):
            mixed.add(axis % len(shape))
            continue
        first = Fraction(max(start + (size or 0), 0) if start < 0 else start)
        windows[axis % len(shape)] = Window(Fraction(step), first, first)
    return Kernel(windows, frozenset(mixed))


def _slice_crop(node: Node, graph: Graph) -> Crop | None:
    """The cut itself, or every so many positions of it."""
    rule = _slice_window(node, graph)
    if not isinstance(rule, Kernel) or any(w.stride.denominator != 1 for w in rule.windows.values()):
        return None
    return Crop(0.0, moves=True, steps={axis: int(window.stride) for axis, window in rule.windows.items()})


def _gather_window(node: Node, graph: Graph) -> Rule:
    """The axis is read whole; it vanishes where there is one index only."""
    rank, places = graph.value(node.input(0)).rank, graph.constant(node.input(1))
    table, looked_up = graph.constant(node.input(0)), graph.value(node.input(1)).rank
    if table is not None and looked_up is not None and int(node.attr("axis", 0)) == 0:
        return Permute((*range(looked_up), *[-1] * (table.ndim - 1)))  # an embedding: one vector a position
    if rank is None or places is None or places.ndim > 1:
        return Everything()
    axis = int(node.attr("axis", 0)) % rank
    return Kernel({}, frozenset({axis})) if places.ndim else Reduce(frozenset({axis}), False)


def positive(places: Tensor, size: int) -> Tensor:
    """Positions that may be counted from the end, counted from the front."""
    import torch

    return torch.where(places < 0, places + size, places)


@operator("Slice", kind="index", window=_slice_window, crop=_slice_crop)
def slices(node: TorchNode) -> Forward:
    """From ``starts`` to ``ends`` in ``steps``, which may be negative, along some axes."""
    import torch

    starts, ends = numbers(node, 1, "starts"), numbers(node, 2, "ends")
    axes, steps = numbers(node, 3, "axes"), numbers(node, 4)

    def ranges(*inputs: Tensor) -> Iterator[tuple[int, range]]:
        first, last = starts(inputs), ends(inputs)
        assert first is not None
        assert last is not None
        along = axes(inputs)
        rows = zip(
            along if along is not None else range(len(first)),
            first,
            last,
            steps(inputs) or [1] * len(first),
            strict=True,
        )
        for axis, start, end, step in rows:
            yield axis, range(inputs[0].shape[axis])[start:end:step]

    def forward(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        cut = [slice(None)] * x.dim()
        for axis, places in ranges(*inputs):
            if places.step > 0:
                cut[axis] = slice(places.start, places.stop, places.step)
            else:
                at = torch.tensor(list(places), dtype=torch.int64, device=x.device)
                x = x.index_select(axis, at)
        return x[tuple(cut)]

    return forward


@operator("Gather", kind="index", window=_gather_window)
def gather(node: TorchNode) -> Forward:
    """Parts of an axis by position, in the shape of the positions."""
    axis = int(node.attr("axis", 0))

    def forward(x: Tensor, places: Tensor) -> Tensor:
        at = axis % x.dim()
        flat = positive(places.to(x.device).reshape(-1), x.shape[at])
        out = x.index_select(at, flat)
        return out.reshape((*x.shape[:at], *places.shape, *x.shape[at + 1 :]))

    return forward


@operator("GatherElements", kind="index")
def gather_elements(node: TorchNode) -> Forward:
    """One number for each position, taken along an axis."""
    import torch

    axis = int(node.attr("axis", 0))

    def forward(x: Tensor, places: Tensor) -> Tensor:
        at = positive(places.to(x.device, torch.int64), x.shape[axis])
        return torch.gather(x, axis, at)

    return forward


@operator("GatherND", kind="index")
def gather_nd(node: TorchNode) -> Forward:
    """Numbers or slices by positions on several axes, the last axis of the indices."""
    import torch

    batch = int(node.attr("batch_dims", 0))

    def forward(x: Tensor, places: Tensor) -> Tensor:
        places = places.to(x.device)
        depth, groups = places.shape[-1], prod(x.shape[:batch])
        data = x.reshape(groups, *x.shape[batch:])
        rows = places.reshape(groups, prod(places.shape[batch:-1]), depth)
        index = (torch.arange(groups, device=x.device)[:, None], *rows.unbind(-1))
        return data[index].reshape((*places.shape[:-1], *x.shape[batch + depth :]))

    return forward


@operator("Compress", kind="index")
def compress(node: TorchNode) -> Forward:
    """Where a condition holds along an axis, or in the flattened input."""
    axis = node.attr("axis")

    def forward(x: Tensor, condition: Tensor) -> Tensor:
        places = condition.to(x.device).nonzero().reshape(-1)
        return x.flatten()[places] if axis is None else x.index_select(int(axis), places)

    return forward


@operator("NonZero", kind="index")
def non_zero(_node: TorchNode) -> Forward:
    """The positions of everything that is not zero, one column each; a number has one axis here."""
    return lambda x: (x if x.dim() else x.reshape(1)).nonzero().t()


@operator("Trilu", "com.microsoft.Trilu", kind="index")
def trilu(node: TorchNode) -> Forward:
    """The upper or lower triangle of matrices, zero elsewhere."""
    import torch

    function = torch.triu if node.attr("upper", 1) else torch.tril
    shift = numbers(node, 1)
    return lambda *inputs: function(inputs[0], diagonal=int((shift(inputs) or [0])[0]))
