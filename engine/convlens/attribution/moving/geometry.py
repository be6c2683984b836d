"""Inputs shifted, scaled and turned about their middle, with something defined at the border.

A pixel is a point at a whole number. A moved input is ``fill + M (x - fill)`` with weights M that add up
to one over a grid without end: what lies outside the input counts as ``fill``. Normalising is affine, so
it does not matter whether a photo is moved before or after it.
"""

from __future__ import annotations

from math import ceil, cos, radians, sin
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stretching(
    length: int, shift: float = 0.0, zoom: float = 1.0, edge: bool = False
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where each number along one axis is read when it is shifted and scaled, and with which weights.

    The number at place i is read at ``(i - middle - shift) / zoom + middle``: linearly between its two
    neighbours, or for a zoom below one with a triangle that is wide enough to count every number once.

    Args:
        length: of the axis.
        shift: by how many numbers what is seen moves towards the end.
        zoom: above one, what is seen becomes larger.
        edge: what lies outside counts as the last number inside; else its weight is zero.

    Returns:
        Places and weights, both length x taps.
    """
    middle = (length - 1) / 2
    at = (np.arange(length) - middle - shift) / zoom + middle
    wide = max(1.0, 1 / zoom)
    reach = ceil(wide)
    taps = np.floor(at)[:, None].astype(int) + np.arange(1 - reach, reach + 1)
    weights = np.maximum(0.0, 1 - np.abs(taps - at[:, None]) / wide)
    weights /= weights.sum(axis=1, keepdims=True)
    if not edge:
        weights = np.where((taps >= 0) & (taps < length), weights, 0.0)
    return taps.clip(0, length - 1), weights


def stretched(
    x: NDArray[Any], fill: NDArray[Any], taps: dict[int, tuple[NDArray[Any], NDArray[Any]]]
) -> NDArray[Any]:
    """``x`` read along each axis named as :func:`stretching` says; float64."""
    found = x.astype(np.float64) - fill
    for axis, (places, weights) in taps.items():
        shape = [-1 if each == axis else 1 for each in range(x.ndim)]
        parts = (
            weights[:, tap].reshape(shape) * found.take(places[:, tap], axis=axis)
            for tap in range(places.shape[1])
            if weights[:, tap].any()
        )
        found = sum(parts, start=np.zeros_like(found))
    return np.asarray(found + fill)


def turned(
    x: NDArray[Any], fill: NDArray[Any], axes: tuple[int, int], degrees: float, edge: bool = False
) -> NDArray[Any]:
    """``x`` turned anticlockwise in the plane of rows and columns, read linearly; float64.

    Args:
        x: an input.
        fill: what lies outside, in the shape of ``x``.
        axes: rows and columns.
        degrees: by how much.
        edge: what lies outside counts as the nearest number inside instead.
    """
    moved = np.moveaxis(x.astype(np.float64) - fill, axes, (-2, -1))
    height, width = moved.shape[-2:]
    flat = moved.reshape(-1, height * width)
    c, s = (round(f(radians(degrees)), 12) for f in (cos, sin))  # quarter turns hit the grid exactly
    y = np.arange(height)[:, None] - (height - 1) / 2
    x_ = np.arange(width)[None, :] - (width - 1) / 2
    row = s * x_ + c * y + (height - 1) / 2
    column = c * x_ - s * y + (width - 1) / 2
    if edge:
        row, column = row.clip(0, height - 1), column.clip(0, width - 1)
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    found = np.zeros_like(flat)
    for down in (0, 1):
        for right in (0, 1):
            r, k = top + down, left + right
            weight = (1 - np.abs(row - r)) * (1 - np.abs(column - k))
            weight = np.where((r >= 0) & (r < height) & (k >= 0) & (k < width), weight, 0.0)
            index = r.clip(0, height - 1) * width + k.clip(0, width - 1)
            found += weight.reshape(-1) * flat[:, index.reshape(-1)]
    return np.asarray(np.moveaxis(found.reshape(moved.shape), (-2, -1), axes) + fill)
