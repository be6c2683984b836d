"""Feature invariance (Zeiler & Fergus 2014, section 4, figure 5): one image, one pixel at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, floor, radians, sin, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def at(channel: Array, fill: Array, row: int, column: int, edge: bool) -> float:
    """The pixel there; outside what fills the border, or the nearest pixel inside."""
    height, width = channel.shape
    if edge:
        return float(channel[min(max(row, 0), height - 1), min(max(column, 0), width - 1)])
    inside = 0 <= row < height and 0 <= column < width
    return float(channel[row, column]) if inside else float(fill[0, 0])


def shifted(image: Array, fill: Array, rows: int, edge: bool = False) -> Array:
    """Every pixel moved down by so many rows; ``fill`` is one colour in the shape of the image."""
    found = np.zeros_like(image)
    for c, i, j in np.ndindex(image.shape):
        found[c, i, j] = at(image[c], fill[c], i - rows, j, edge)
    return found


def linear(channel: Array, fill: Array, row: float, column: float, edge: bool) -> float:
    """Between the four pixels around a place."""
    top, left = floor(row), floor(column)
    total = 0.0
    for r in (top, top + 1):
        for c in (left, left + 1):
            weight = (1 - abs(row - r)) * (1 - abs(column - c))
            total += weight * at(channel, fill, r, c, edge)
    return total


def scaled(image: Array, fill: Array, zoom: float, edge: bool = False) -> Array:
    """About the middle: linear where it grows; where it shrinks, a triangle 1 / zoom to both sides."""
    height, width = image.shape[1:]
    found = np.zeros_like(image)
    wide = max(1.0, 1 / zoom)
    for c, i, j in np.ndindex(image.shape):
        row = (i - (height - 1) / 2) / zoom + (height - 1) / 2
        column = (j - (width - 1) / 2) / zoom + (width - 1) / 2
        total = weights = 0.0
        for r in range(floor(row - wide), floor(row + wide) + 2):
            for k in range(floor(column - wide), floor(column + wide) + 2):
                weight = max(0.0, 1 - abs(r - row) / wide) * max(0.0, 1 - abs(k - column) / wide)
                total += weight * at(image[c], fill[c], r, k, edge)
                weights += weight
        found[c, i, j] = total / weights
    return found


def turned(image: Array, fill: Array, degrees: float, edge: bool = False) -> Array:
    """Anticlockwise about the middle: each place is read where the turn back takes it."""
    height, width = image.shape[1:]
    found = np.zeros_like(image)
    angle = radians(degrees)
    for c, i, j in np.ndindex(image.shape):
        right, up = j - (width - 1) / 2, (height - 1) / 2 - i
        before_right = cos(angle) * right + sin(angle) * up
        before_up = cos(angle) * up - sin(angle) * right
        row, column = (height - 1) / 2 - before_up, before_right + (width - 1) / 2
        if edge:
            row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        if abs(row - round(row)) < 1e-9:
            row = round(row)
        if abs(column - round(column)) < 1e-9:
            column = round(column)
        found[c, i, j] = linear(image[c], fill[c], row, column, edge)
    return found


def distance(features: Callable[[Array], Array], image: Array, moved: Array) -> float:
    """Euclidean, between the feature vectors of two inputs."""
    one, other = features(image).reshape(-1), features(moved).reshape(-1)
    return sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True)))
