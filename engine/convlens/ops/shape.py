"""Type and shape: what moves or repeats numbers by whole axes without computing any."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from convlens.graph.graph import Dim, Graph, Node
from convlens.graph.windows import Everything, Kernel, Permute, Regroup, Rule
from convlens.ops.activations import pointwise
from convlens.ops.given import computed, fixed, numbers, sizes
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


def _reshape_window(node: Node, graph: Graph) -> Rule:
    """Exact where known sizes prove which axes stay as they are and which are merged or split."""
    before, after = graph.measure(node.input(0)), graph.measure(node.outputs[0])
    groups = None if before is None or after is None else _groups(before, after)
    if groups is None:
        return Everything()
    if all(len(group) <= 1 for group in groups) and len({*groups} - {()}) == sum(map(bool, groups)):
        return Permute(tuple(group[0] if group else -1 for group in groups))
    return Regroup(groups)


def _groups(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> tuple[tuple[int, ...], ...] | None:
    """The axes of ``before`` whose numbers lie in each axis of ``after``, None where that is not sure.

    Numbers keep their order, so wherever the products of both sides agree, a boundary lies between axes
    on both sides.
    """
    groups: list[tuple[int, ...]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        a, b = before[i] if i < len(before) else None, after[j] if j < len(after) else None
        if a is not None and a == b:
            groups.append((i,))
            i, j = i + 1, j + 1
        elif a == 1:
            i += 1
        elif b == 1:
            groups.append(())
            j += 1
        else:
            first, start, left, right = i, j, 1, 1
            while left != right or left == 1:
                rest, at = (before, i) if left <= right else (after, j)
                size = rest[at] if at < len(rest) else None
                if not isinstance(size, int) or size < 1:
                    return None
                if left <= right:
                    left, i = left * size, i + 1
                else:
                    right, j = right * size, j + 1
            held = tuple(axis for axis in range(first, i) if before[axis] != 1)
            groups += [held if after[axis] != 1 else () for axis in range(start, j)]
    return tuple(groups)


def _transpose_window(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    order = node.attr("perm")
    if order is None and rank is None:
        return Everything()
    return Permute(tuple(order) if order is not None else tuple(reversed(range(rank or 0))))


def _squeeze_window(node: Node, graph: Graph) -> Rule:
    shape = sizes(graph, node.input(0))
    if shape is None or computed(node, graph, 1):
        return Everything()
    axes = fixed(node, graph, 1, "axes")
    if not axes and None in shape:
        return Everything()
    gone = (
        {axis for axis, size in enumerate(shape) if size == 1}
        if not axes
        else {axis % len(shape) for axis in axes}
    )
    return Permute(tuple(axis for axis in range(len(shape)) if axis not in gone))


def _unsqueeze_window(node: Node, graph: Graph) -> Rule:
    rank = graph.value(node.input(0)).rank
    axes = fixed(node, graph, 1, "axes")
    if rank is None or axes is None:
        return Everything()
    new = {axis % (rank + len(axes)) for axis in axes}
    old = iter(range(rank))
    return Permute(tuple(-1 if a in new else next(old) for a in range(rank + len(axes))))


def _repeat_window(node: Node, graph: Graph) -> Rule:
    """The repeated axes are read whole."""
    before, after = sizes(graph, node.input(0)), sizes(graph, node.outputs[0])
    if before is None or after is None or len(before) != len(after):
        return Everything()
    rows = enumerate(zip(before, after, strict=True))
    return Kernel({}, frozenset(axis for axis, (a, b) in rows if a is None or a != b))


@operator("Identity", kind="shape", window=pointwise)
def identity(_node: TorchNode) -> Forward:
    """The input as it is."""
    from torch import nn

    return nn.Identity()


@operator("Dropout", kind="shape", window=pointwise)
def dropout(node: TorchNode) -> Forward:
    """The identity, as at inference. The mask keeps everything; before opset 12 it means nothing."""
    import torch

    if node.has(2):
        training = node.constant(2)
        if training is None or training.any():
            raise node.refuse("training mode")
    kind, kept = torch.bool if node.version >= 10 else None, int(node.version >= 12)

    def forward(x: Tensor, *_: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        return x if node.outputs == 1 else (x, torch.full_like(x, kept, dtype=kind))

    return forward


@operator("Reshape", kind="shape", window=_reshape_window)
def reshape(node: TorchNode) -> Forward:
    """The numbers in another shape: 0 keeps the size of that axis, -1 takes what is left."""
    wanted = numbers(node, 1, "shape")
    keep = not node.attr("allowzero", 0)

    def forward(*inputs: Tensor) -> Tensor:
        x, shape = inputs[0], wanted(inputs)
        assert shape is not None
        return x.reshape([x.shape[i] if n == 0 and keep else n for i, n in enumerate(shape)])

    return forward


@operator("Flatten", kind="shape", window=_reshape_window)
def flatten(node: TorchNode) -> Forward:
    """A matrix: the axes before ``axis`` become one, and so do the others."""
    axis = int(node.attr("axis", 1))

    def forward(x: Tensor) -> Tensor:
        at = axis if axis >= 0 else axis + x.dim()
        return x.reshape(prod(x.shape[:at]), prod(x.shape[at:]))

    return forward


@operator("Transpose", kind="shape", window=_transpose_window)
def transpose(node: TorchNode) -> Forward:
    """The axes in another order; reversed where the node gives none."""
    order = node.attr("perm")
    return lambda x: x.permute(list(reversed(range(x.dim()))) if order is None else list(order))


@operator("Squeeze", kind="shape", window=_squeeze_window)
def squeeze(node: TorchNode) -> Forward:
    """Without the given axes, which have size one; without all such axes where none or no axis is given."""
    axes = numbers(node, 1, "axes")

    def forward(*inputs: Tensor) -> Tensor:
        x, given = inputs[0], axes(inputs)
        if not given:
            return x.squeeze()
        if any(x.shape[axis] != 1 for axis in given):
            raise node.refuse(f"squeezing axes {given} of shape {tuple(x.shape)}")
        return x.squeeze(tuple(given))

    return forward


@operator("Unsqueeze", kind="shape", window=_unsqueeze_window)
def unsqueeze(node: TorchNode) -> Forward:
    """With new axes of size one, counted in the output."""
    axes = numbers(node, 1, "axes")

    def forward(*inputs: Tensor) -> Tensor:
        x, given = inputs[0], axes(inputs)
        assert given is not None
        rank = x.dim() + len(given)
        for axis in sorted(axis % rank for axis in given):
            x = x.unsqueeze(axis)
        return x

    return forward


@operator("Expand", kind="shape", window=_repeat_window)
def expand(node: TorchNode) -> Forward:
    """Broadcast against a shape, in both directions."""
    wanted = numbers(node, 1)

    def forward(*inputs: Tensor) -> Tensor:
        x, shape = inputs[0], wanted(inputs)
        return x.expand(np.broadcast_shapes(x.shape, tuple(shape or ())))

    return forward


@operator("Tile", kind="shape", window=_repeat_window)
def tile(node: TorchNode) -> Forward:
    """The input again and again along each axis."""
    repeats = numbers(node, 1)

    def forward(*inputs: Tensor) -> Tensor:
        return inputs[0].repeat(repeats(inputs) or [])

    return forward


@operator("Shape", kind="shape")
def shape_of(node: TorchNode) -> Forward:
    """The sizes of the axes from ``start`` to ``end``."""
    import torch

    start, end = node.attr("start"), node.attr("end")
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


@operator("Size", kind="shape")
def size_of(_node: TorchNode) -> Forward:
    """The number of elements."""
    import torch

    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)
