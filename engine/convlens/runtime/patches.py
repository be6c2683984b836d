"""Copies of an input with a patch put over one place each, made a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def positions(
    extent: Sequence[int], patch: int | Sequence[int], stride: int | Sequence[int]
) -> list[list[int]]:
    """Where a patch starts along each axis; the last position is moved in so that the border is covered.

    ``patch`` and ``stride`` are one number, or one an axis.
    """
    sides, steps = each(patch, len(extent)), each(stride, len(extent))
    return [
        [*range(0, size - side, step), size - side]
        for size, side, step in zip(extent, sides, steps, strict=True)
    ]


def each(number: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One number an axis."""
    return (number,) * count if isinstance(number, int) else tuple(number)


def spread(
    numbers: NDArray[Any],
    places: Sequence[tuple[int, ...]],
    extent: Sequence[int],
    patch: int | Sequence[int],
) -> NDArray[Any]:
    """One number a patch, averaged over the patches that cover each position; 0 where none does."""
    total, count = np.zeros(extent), np.zeros(extent)
    sides = each(patch, len(extent))
    for number, place in zip(numbers, places, strict=True):
        window = tuple(slice(start, start + side) for start, side in zip(place, sides, strict=True))
        total[window] += number
        count[window] += 1
    return np.asarray(total / np.maximum(count, 1))


def blur(array: NDArray[Any], axes: Sequence[int], sigma: float) -> NDArray[Any]:
    """A Gaussian along ``axes``, the border repeated; float64."""
    reach = max(1, round(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    found = array.astype(np.float64)
    for axis in axes:
        pads = [(reach, reach) if a == axis else (0, 0) for a in range(array.ndim)]
        padded, length = np.pad(found, pads, mode="edge"), array.shape[axis]
        parts = (tap * padded.take(range(i, i + length), axis=axis) for i, tap in enumerate(taps))
        found = np.asarray(sum(parts))
    return found


def as_input(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers in an input's own type; whole ones are rounded, not cut off."""
    return (array if dtype.kind == "f" else np.rint(array)).astype(dtype)
