"""Sampling between the pixels: grids, regions of interest and deformable convolution."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from convlens.graph.graph import Node
from convlens.ops.geometry import Geometry
from convlens.ops.given import numbers, wide
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from torch import Tensor

_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest"} | dict.fromkeys(
    ("bicubic", "cubic"), "bicubic"
)


def _between(at: Tensor, size: int, border: bool) -> tuple[Tensor, Tensor]:
    """Per coordinate the two pixels around it and their linear weights, both on a new last axis.

    With ``border``, up to one pixel outside counts as the outermost pixel and all beyond is zero, as
    RoiAlign has it; without, each pixel outside the image is zero.
    """
    import torch

    if border:
        inside = ((at >= -1) & (at <= size)).to(at.dtype)
        at = at.clamp(0, size - 1)
        low = at.detach().floor().clamp(max=max(size - 2, 0))
        weights = torch.stack([1 - (at - low), at - low], dim=-1) * inside.unsqueeze(-1)
        places = torch.stack([low, low + 1], dim=-1)
    else:
        low = at.detach().floor()
        places = torch.stack([low, low + 1], dim=-1)
        weights = torch.stack([1 - (at - low), at - low], dim=-1)
        weights = weights * ((places >= 0) & (places < size)).to(at.dtype)
    return places.clamp(0, size - 1).to(torch.int64), weights


def _taps(y: Tensor, x: Tensor, size: Sequence[int], border: bool = False) -> tuple[Tensor, Tensor]:
    """The four pixels around each point as flat positions, and their bilinear weights; last axis: 4."""
    height, width = size
    rows, down = _between(y, height, border)
    columns, across = _between(x, width, border)
    places = rows.unsqueeze(-1) * width + columns.unsqueeze(-2)
    return places.flatten(-2), (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(-2)


@operator("GridSample", "com.microsoft.GridSample", kind="sample")
def grid_sample(node: TorchNode) -> Forward:
    """The image read at the points of a grid, in two or three dimensions."""
    from torch.nn import functional as F

    mode = _MODES.get(node.attr("mode", "bilinear" if node.version < 20 else "linear"))
    padding = node.attr("padding_mode", "zeros")
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise node.refuse(
            f"mode {node.attr('mode')!r} with padding {padding!r}",
            f"{', '.join(sorted(_MODES))} with zeros, border or reflection",
        )
    corners = bool(node.attr("align_corners", 0))

    def forward(x: Tensor, grid: Tensor) -> Tensor:
        if x.dim() not in (4, 5) or (mode == "bicubic" and x.dim() != 4):
            raise node.refuse(f"{mode} sampling over {x.dim() - 2} axes", "two axes, three without cubic")
        return F.grid_sample(x, grid, mode, padding, corners)

    return forward


@operator("AffineGrid", kind="sample")
def affine_grid(node: TorchNode) -> Forward:
    """Where an affine map sends the points of an even grid."""
    from torch.nn import functional as F

    corners = bool(node.attr("align_corners", 0))
    wanted = numbers(node, 1)

    def forward(*inputs: Tensor) -> Tensor:
        theta = inputs[0]
        return F.affine_grid(wide(theta), wanted(inputs) or [], corners).to(theta.dtype)

    return forward


@operator("RoiAlign", kind="sample")
def roi_align(node: TorchNode) -> Forward:
    """Boxes of the image brought to one size: means (or maxima) of bilinear samples (He et al. 2017).

    With ``max`` the maximum goes over the weighted pixels, as in onnxruntime, not over their sums.
    """
    import torch
    from torch.nn import functional as F

    out = (int(node.attr("output_height", 1)), int(node.attr("output_width", 1)))
    ratio, scale = int(node.attr("sampling_ratio", 0)), float(node.attr("spatial_scale", 1.0))
    default = "half_pixel" if node.version >= 16 else "output_half_pixel"
    half = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    mode = node.attr("mode", "avg")
    if mode not in ("avg", "max"):
        raise node.refuse(f"mode {mode!r}")

    def pooled(pixels: Tensor, size: Sequence[int], boxes: Tensor, images: Tensor, grid: list[int]) -> Tensor:
        """Boxes (first and extent on both axes) of which each bin is sampled on a grid of this size."""
        first, extent = boxes
        points = []
        for axis in (0, 1):
            count = out[axis] * grid[axis]
            steps = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5) / grid[axis]
            points.append(first[:, axis, None] + steps * (extent[:, axis, None] / out[axis]))
        y, x = points[0].unsqueeze(2), points[1].unsqueeze(1)
        places, weights = _taps(y, x, size, border=True)
        places = places + (images * prod(size)).view(-1, 1, 1, 1)
        shape = (len(images), out[0], grid[0], out[1], grid[1], 4)
        bins = [t.reshape(shape).transpose(2, 3).flatten(3) for t in (places, weights)]
        rows, shares = (t.reshape(-1, t.shape[-1]) for t in bins)
        if mode == "max":
            found = (pixels[rows] * shares.unsqueeze(-1)).max(dim=1).values
        else:
            shares = shares / max(prod(grid), 1)
            found = F.embedding_bag(rows, pixels, per_sample_weights=shares, mode="sum")
        each: Tensor = found.view(len(images), *out, -1).permute(0, 3, 1, 2)
        return each

    def forward(data: Tensor, rois: Tensor, images: Tensor) -> Tensor:
        x = wide(data)
        images = images.to(x.device, torch.int64)
        corners = wide(rois).to(x.device) * scale - (0.5 if half else 0.0)
        first, extent = corners[:, [1, 0]], corners[:, [3, 2]] - corners[:, [1, 0]]
        if not half:
            extent = extent.clamp(min=1)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        sizes = torch.full_like(extent, ratio) if ratio > 0 else _ceil(extent, out)
        grids, member = torch.unique(sizes.long(), dim=0, return_inverse=True)
        result = x.new_zeros(len(rois), x.shape[1], *out)
        for which, grid in enumerate(grids.tolist()):
            at = (member == which).nonzero().reshape(-1)
            if min(grid) > 0:
                boxes = torch.stack([first[at], extent[at]])
                part = pooled(pixels, x.shape[2:], boxes, images[at], grid)
                result = result.index_copy(0, at, part)
        return result.to(data.dtype)

    return forward


def _ceil(extent: Tensor, out: Sequence[int]) -> Tensor:
    return (extent.detach() / extent.new_tensor(out)).ceil()


@operator("MaxRoiPool", kind="pool")
def max_roi_pool(node: TorchNode) -> Forward:
    """The maximum in each cell of a box that is rounded to whole pixels (Girshick 2015)."""
    import torch

    out, scale = tuple(node.attr("pooled_shape")), float(node.attr("spatial_scale", 1.0))

    def cells(first: int, last: int, count: int, size: int) -> list[slice]:
        extent = max(last - first + 1, 1)
        edges = torch.arange(count + 1, dtype=torch.float32) * (
            torch.tensor(extent, dtype=torch.float32) / count
        )
        starts, ends = (edges[:-1].floor() + first).clamp(0, size), (edges[1:].ceil() + first).clamp(0, size)
        return [slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]

    def best(x: Tensor, parts: list[slice], axis: int) -> Tensor:
        found = []
        for part in parts:
            piece = x.narrow(axis, part.start, max(part.stop - part.start, 0))
            empty = x.new_zeros(()).expand([n for a, n in enumerate(x.shape) if a != axis])
            found.append(piece.max(dim=axis).values if piece.shape[axis] else empty)
        return torch.stack(found, dim=axis)

    def forward(x: Tensor, rois: Tensor) -> Tensor:
        scaled = rois.detach()[:, 1:] * scale
        corners = (scaled.sign() * (scaled.abs() + 0.5).floor()).long().tolist()
        result = []
        for image, (x1, y1, x2, y2) in zip(rois[:, 0].long().tolist(), corners, strict=True):
            rows = best(x[image], cells(y1, y2, out[0], x.shape[2]), 1)
            result.append(best(rows, cells(x1, x2, out[1], x.shape[3]), 2))
        return torch.stack(result) if result else x.new_zeros(0, x.shape[1], *out)

    return forward


def _deform_macs(_node: Node, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return prod(output) * prod(inputs[1][1:])


@operator("DeformConv", kind="conv", macs=_deform_macs)
def deform_conv(node: TorchNode) -> Forward:
    """A convolution that reads beside its places, by offsets (Dai et al. 2017, Zhu et al. 2018)."""
    import torch
    from torch.nn import functional as F

    groups, shifts = int(node.attr("group", 1)), int(node.attr("offset_group", 1))

    def forward(
        x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if x.dim() != 4:
            raise node.refuse(f"a deformable convolution over {x.dim() - 2} axes")
        dtype, x, w, offset = x.dtype, wide(x), wide(w), wide(offset)
        g = Geometry.of(node, w.shape[2:])
        batch, channels, *size = x.shape
        out, inner = list(offset.shape[2:]), prod(g.kernel)
        moves = offset.reshape(batch, shifts, *g.kernel, 2, *out)
        points = []
        for axis in (0, 1):
            pixels = (
                torch.arange(out[axis], device=x.device, dtype=x.dtype) * g.strides[axis] - g.before[axis]
            )
            tap = torch.arange(g.kernel[axis], device=x.device, dtype=x.dtype) * g.dilations[axis]
            shape = [1, 1, 1, 1]
            shape[axis], shape[2 + axis] = len(tap), len(pixels)
            points.append(moves[:, :, :, :, axis] + (tap[:, None] + pixels).view(shape))
        places, weights = _taps(points[0], points[1], size)
        if mask is not None:
            weights = weights * wide(mask).reshape(batch, shifts, *g.kernel, *out, 1)
        planes = torch.arange(batch * shifts, device=x.device).view(batch, shifts, *[1] * 5) * prod(size)
        pixels = x.reshape(batch * shifts, channels // shifts, -1).transpose(1, 2).flatten(0, 1)
        rows = F.embedding_bag(
            (places + planes).reshape(-1, 4), pixels, per_sample_weights=weights.reshape(-1, 4), mode="sum"
        )
        # (batch, shift, tap, place, channel) to (batch, group, channel and tap, place)
        columns = rows.view(batch, shifts, inner, prod(out), -1).permute(0, 1, 4, 2, 3)
        columns = columns.reshape(batch, groups, channels // groups * inner, prod(out))
        matrix = w.reshape(groups, w.shape[0] // groups, -1)
        result = (matrix @ columns).reshape(batch, -1, *out)
        return (result if bias is None else result + wide(bias).view(-1, 1, 1)).to(dtype)

    return forward
