"""Occlusion (Zeiler & Fergus 2014, section 4.2): one image, one patch, one forward at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Read: TypeAlias = Callable[[Array], float]


def starts(size: int, patch: int, stride: int) -> list[int]:
    """First pixels along one side; the last patch is moved in so that it ends with the side."""
    found = []
    at = 0
    while at + patch < size:
        found.append(at)
        at += stride
    return [*found, size - patch]


def occlude(image: Array, fill: Array, patch: int, stride: int, read: Read) -> tuple[Array, Array, float]:
    """The target with each patch hidden, what it lost pixel by pixel, and the target of the whole image.

    Args:
        image: channels x height x width.
        fill: in the same shape; the patch shows it.
        patch: side of the square.
        stride: step.
        read: the target of one image.
    """
    height, width = image.shape[1:]
    rows, columns = starts(height, patch, stride), starts(width, patch, stride)
    base = read(image)
    found = np.zeros((len(rows), len(columns)))
    lost: list[list[list[float]]] = [[[] for _ in range(width)] for _ in range(height)]
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            hidden = image.copy()
            for y in range(top, top + patch):
                for x in range(left, left + patch):
                    hidden[:, y, x] = fill[:, y, x]
            found[i, j] = read(hidden)
            for y in range(top, top + patch):
                for x in range(left, left + patch):
                    lost[y][x].append(base - found[i, j])
    drop = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            if lost[y][x]:
                drop[y, x] = sum(lost[y][x]) / len(lost[y][x])
    return found, drop, base


def pixel(value: float, shape: tuple[int, int, int], mean: list[float], std: list[float]) -> Array:
    """A picture of one pixel value (0 to 255) in the model's numbers: to 0..1, less mean, over std."""
    found = np.zeros(shape)
    for channel in range(shape[0]):
        found[channel] = (value / 255 - mean[channel]) / std[channel]
    return found


def colour_mean(image: Array) -> Array:
    """Each channel's mean everywhere."""
    found = np.zeros_like(image)
    for channel in range(len(image)):
        found[channel] = image[channel].sum() / image[channel].size
    return found


def blurred(image: Array, sigma: float) -> Array:
    """A Gaussian blur cut off at three sigma, pixels beyond the border being the border's."""
    reach = max(1, round(3 * sigma))
    _, height, width = image.shape
    found = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            total = 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    weight = exp(-(dy * dy + dx * dx) / (2 * sigma * sigma))
                    row, column = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                    found[:, y, x] += weight * image[:, row, column]
                    total += weight
            found[:, y, x] /= total
    return found


def extremes(grid: Array, base: float, patch: int, stride: int, extent: tuple[int, int]) -> list[dict]:  # type: ignore[type-arg]
    """Up to three places where hiding lowers the target most, then raises it most, none overlapping."""
    rows, columns = starts(extent[0], patch, stride), starts(extent[1], patch, stride)
    found = []
    for effect, sign in (("falls", 1.0), ("rises", -1.0)):
        places = [
            (sign * (grid[i, j] - base), top, left)
            for i, top in enumerate(rows)
            for j, left in enumerate(columns)
        ]
        kept: list[tuple[int, int]] = []
        for change, top, left in sorted(places):
            apart = all(abs(top - a) >= patch or abs(left - b) >= patch for a, b in kept)
            if change < 0 and apart and len(kept) < 3:
                kept.append((top, left))
                found.append({"effect": effect, "from": [top, left], "change": sign * change})
    return found


def three_maps(
    image: Array,
    fill: Array,
    patch: int,
    stride: int,
    target: Read,
    maps: Callable[[Array], Array],
    classes: Callable[[Array], Array],
) -> tuple[list[list[tuple[float, float, int]]], int, float]:
    """Figure 7, b, d and e: at each position total activity, target and most probable class.

    Args:
        image: channels x height x width.
        fill: in the same shape.
        patch: side of the square.
        stride: step.
        target: of one image.
        maps: a layer's feature maps, channels x height x width.
        classes: one number a class.

    Returns:
        For each row of positions, for each of them the three numbers; the feature map of the largest
        total on the whole image, and that total.
    """
    totals = [sum(float(number) for number in plane.reshape(-1)) for plane in maps(image)]
    strongest = totals.index(max(totals))
    found = []
    for top in starts(image.shape[1], patch, stride):
        row = []
        for left in starts(image.shape[2], patch, stride):
            hidden = image.copy()
            hidden[:, top : top + patch, left : left + patch] = fill[
                :, top : top + patch, left : left + patch
            ]
            activity = sum(float(number) for number in maps(hidden)[strongest].reshape(-1))
            ranked = classes(hidden).tolist()
            row.append((activity, target(hidden), ranked.index(max(ranked))))
        found.append(row)
    return found, strongest, totals[strongest]


def harmonic(image: Array, place: tuple[int, ...], sides: tuple[int, ...]) -> Array:
    """A box filled by the discrete Laplace equation, one dense system of linear equations a channel.

    Args:
        image: channels x space, of any number of axes.
        place: first position of the box.
        sides: its lengths.

    Returns:
        The image with the box filled: each of its positions is the mean of its direct neighbours.
    """
    box = [tuple(at) for at in np.ndindex(*sides)]
    number = {at: row for row, at in enumerate(box)}
    matrix = np.zeros((len(box), len(box)))
    known = np.zeros((len(image), len(box)))
    for row, at in enumerate(box):
        for axis in range(len(sides)):
            for step in (-1, 1):
                near = tuple(i + step * (k == axis) for k, i in enumerate(at))
                where = tuple(start + i for start, i in zip(place, near, strict=True))
                if not all(0 <= i < size for i, size in zip(where, image.shape[1:], strict=True)):
                    continue
                matrix[row, row] += 1
                if near in number:
                    matrix[row, number[near]] -= 1
                else:
                    known[:, row] += image[(slice(None), *where)]
    found = image.copy()
    for channel in range(len(image)):
        for at, value in zip(box, np.linalg.solve(matrix, known[channel]), strict=True):
            found[(channel, *(start + i for start, i in zip(place, at, strict=True)))] = value
    return found
