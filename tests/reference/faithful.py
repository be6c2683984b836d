"""Slow twins for faithfulness, written from the papers with plain loops, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


def blocks(height: int, width: int, side: int) -> list[list[tuple[int, int]]]:
    """The pixels of each block of ``side`` x ``side``, row by row; smaller ones at the far borders."""
    found = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            rows, columns = range(top, min(top + side, height)), range(left, min(left + side, width))
            found.append([(row, column) for row in rows for column in columns])
    return found


def ordered(heat: NDArray[Any], groups: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Blocks by their mean heat, the hottest first."""
    means = [sum(float(heat[pixel]) for pixel in group) / len(group) for group in groups]
    return sorted(range(len(groups)), key=lambda number: -means[number])


def curve(
    score: Callable[[NDArray[Any]], float],
    image: NDArray[Any],
    other: NDArray[Any],
    groups: Sequence[Sequence[tuple[int, int]]],
    order: Sequence[int],
    steps: int,
) -> list[float]:
    """Algorithm 1 of Petsiuk et al. 2018: the score while ``image`` becomes ``other``, block by block."""
    found = []
    for step in range(steps + 1):
        mixed = image.copy()
        for number in order[: round(step * len(order) / steps)]:
            for row, column in groups[number]:
                mixed[:, row, column] = other[:, row, column]
        found.append(score(mixed))
    return found


def area(numbers: Sequence[float], x: Sequence[float]) -> float:
    """Trapezia."""
    pairs = zip(zip(x, numbers, strict=True), zip(x[1:], numbers[1:], strict=False), strict=False)
    return sum((b - a) * (p + q) / 2 for (a, p), (b, q) in pairs)


def rank_of(values: Sequence[float]) -> list[float]:
    """One more than the count of smaller numbers, and half of the other equal ones."""
    return [
        1 + sum(other < own for other in values) + (sum(other == own for other in values) - 1) / 2
        for own in values
    ]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation of the ranks."""
    a, b = rank_of(one), rank_of(other)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return top / sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def ssim(one: NDArray[Any], other: NDArray[Any], side: int) -> float:
    """Wang et al. 2004, equation 13, over every window of ``side`` x ``side`` that lies inside."""
    a = (one - one.min()) / (one.max() - one.min())
    b = (other - other.min()) / (other.max() - other.min())
    found = []
    for top in range(a.shape[0] - side + 1):
        for left in range(a.shape[1] - side + 1):
            x = a[top : top + side, left : left + side].ravel()
            y = b[top : top + side, left : left + side].ravel()
            cov = ((x - x.mean()) * (y - y.mean())).sum() / (len(x) - 1)
            top_ = (2 * x.mean() * y.mean() + 0.01**2) * (2 * cov + 0.03**2)
            spread = x.var(ddof=1) + y.var(ddof=1)
            found.append(top_ / ((x.mean() ** 2 + y.mean() ** 2 + 0.01**2) * (spread + 0.03**2)))
    return float(np.mean(found))
