"""Blocks, windows and stretches of a tensor put in their places."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from convlens.ops.given import numbers
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor


@operator("Col2Im", kind="shape")
def column_to_image(node: TorchNode) -> Forward:
    """Columns of patches added up to an image: the transpose of cutting patches out."""
    image, block = numbers(node, 1), numbers(node, 2)

    def forward(*inputs: Tensor) -> Tensor:
        x, size, kernel = inputs[0], image(inputs) or [], block(inputs) or []
        n = len(size)
        strides, dilations = node.attr("strides") or [1] * n, node.attr("dilations") or [1] * n
        pads = node.attr("pads") or [0] * (2 * n)
        full = [s + pads[a] + pads[n + a] for a, s in enumerate(size)]
        steps = [
            (f - (k - 1) * d - 1) // s + 1
            for f, k, d, s in zip(full, kernel, dilations, strides, strict=True)
        ]
        columns = x.reshape(x.shape[0], -1, prod(kernel), *steps)
        out = x.new_zeros(x.shape[0], columns.shape[1], *full)
        for tap, place in enumerate(product(*(range(k) for k in kernel))):
            where = [
                slice(p * d, p * d + (count - 1) * s + 1, s)
                for p, d, count, s in zip(place, dilations, steps, strides, strict=True)
            ]
            part = x.new_zeros(out.shape)
            part[(slice(None), slice(None), *where)] = columns[:, :, tap]
            out = out + part
        for axis in range(n):
            out = out.narrow(2 + axis, pads[axis], size[axis])
        return out

    return forward


@operator("CenterCropPad", kind="pad")
def center_crop_pad(node: TorchNode) -> Forward:
    """The middle of the input, or the input with zeros around, in the size that is asked for."""
    from torch.nn import functional as F

    wanted, along = numbers(node, 1), node.attr("axes")

    def forward(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        axes = list(range(x.dim())) if along is None else [axis % x.dim() for axis in along]
        pairs = [(0, 0)] * x.dim()
        for axis, size in zip(axes, wanted(inputs) or [], strict=True):
            missing = size - x.shape[axis]
            if missing < 0:
                x = x.narrow(axis, -missing // 2, size)
            else:
                pairs[axis] = (missing // 2, missing - missing // 2)
        return F.pad(x, [amount for pair in reversed(pairs) for amount in pair])

    return forward


@operator("ReverseSequence", kind="index")
def reverse_sequence(node: TorchNode) -> Forward:
    """The first part of each sequence backwards; how long it is differs from one to the next."""
    import torch

    time, batch = int(node.attr("time_axis", 0)), int(node.attr("batch_axis", 1))

    def forward(x: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(x.shape[time], device=x.device)[:, None]
        lengths = lengths.to(x.device)
        places = torch.where(steps < lengths, lengths - 1 - steps, steps)
        places = places if (time, batch) == (0, 1) else places.t()
        return torch.gather(x, time, places.view(*places.shape, *[1] * (x.dim() - 2)).expand(x.shape))

    return forward


@operator("TensorScatter", kind="index")
def tensor_scatter(node: TorchNode) -> Forward:
    """A cache with new entries written into it, at a place of its own for each image."""
    import torch

    axis, circular = int(node.attr("axis", -2)), node.attr("mode", "linear") == "circular"

    def forward(cache: Tensor, update: Tensor, start: Tensor | None = None) -> Tensor:
        at = axis % cache.dim()
        places = torch.arange(update.shape[at], device=cache.device)[None, :]
        if start is not None:
            places = places + start.to(cache.device)[:, None]
        if circular:
            places = places % cache.shape[at]
        shape = [1] * cache.dim()
        shape[0], shape[at] = places.shape
        return cache.scatter(at, places.reshape(shape).expand(update.shape), update)

    return forward


@operator("EyeLike", kind="constant")
def eye_like(node: TorchNode) -> Forward:
    """Ones on a diagonal, in the shape of the input."""
    import torch

    kind, shift = node.attr("dtype"), int(node.attr("k", 0))
    dtype = None if kind is None else node.dtype(int(kind))

    def forward(x: Tensor) -> Tensor:
        rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
        return (rows[:, None] + shift == columns).to(dtype or x.dtype)

    return forward


@operator("Unique", kind="index")
def unique(node: TorchNode) -> Forward:
    """Every number or slice once: them, where they stand first, which one each is, and their counts."""
    import torch

    axis, ordered = node.attr("axis"), bool(node.attr("sorted", 1))

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        _, first, inverse, counts = np.unique(
            x.detach().cpu().numpy(), return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        order = np.arange(len(first)) if ordered else np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        places = (first[order], rank[inverse.reshape(-1)], counts[order])
        at, which, count = (torch.from_numpy(p.astype(np.int64)).to(x.device) for p in places)
        return (x.flatten()[at] if axis is None else x.index_select(int(axis), at)), at, which, count

    return forward
