"""RISE (Petsiuk et al. 2018, section 3), mask by mask and pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def enlarged(grid: Array, extent: Sequence[int], shift: Sequence[int]) -> Array:
    """A mask of two axes: the grid enlarged to (h + 1) cells by linear interpolation, cut out at ``shift``.

    A cell is as long as the input divided by the number of cells, rounded up; centres of pixels and of
    cells are compared, and beyond the outer centres the outer cells go on.
    """
    rows, columns = grid.shape
    cell = [ceil(size / count) for size, count in zip(extent, grid.shape, strict=True)]

    def between(at: int, count: int, side: int) -> tuple[int, int, float]:
        place = (at + 0.5) * count / ((count + 1) * side) - 0.5
        place = min(max(place, 0.0), count - 1.0)
        low = min(floor(place), count - 1)
        return low, min(low + 1, count - 1), place - low

    mask = np.zeros(tuple(extent))
    for y in range(extent[0]):
        top, bottom, down = between(y + shift[0], rows, cell[0])
        for x in range(extent[1]):
            left, right, along = between(x + shift[1], columns, cell[1])
            upper = grid[top, left] * (1 - along) + grid[top, right] * along
            lower = grid[bottom, left] * (1 - along) + grid[bottom, right] * along
            mask[y, x] = upper * (1 - down) + lower * down
    return mask


def saliency(masks: Sequence[Array], scores: Sequence[float]) -> tuple[Array, Array]:
    """For each position the mean score, weighted by the masks, and its standard error.

    The error is that of a ratio of two sums: the weighted squares of what is left of each score.
    """
    found, error = np.zeros(masks[0].shape), np.zeros(masks[0].shape)
    for place in np.ndindex(*masks[0].shape):
        kept = sum(float(mask[place]) for mask in masks)
        weighed = sum(float(mask[place]) * score for mask, score in zip(masks, scores, strict=True))
        found[place] = weighed / kept
        left = sum(
            (float(mask[place]) * (score - found[place])) ** 2
            for mask, score in zip(masks, scores, strict=True)
        )
        error[place] = sqrt(left) / kept
    return found, error


def masked(image: Array, fill: Array, mask: Array) -> Array:
    """Channels x rows x columns: the image where the mask is 1, the fill where it is 0."""
    found = np.zeros_like(image)
    for place in np.ndindex(*image.shape):
        found[place] = mask[place[1:]] * image[place] + (1 - mask[place[1:]]) * fill[place]
    return found
