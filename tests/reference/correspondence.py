"""Correspondence analysis (Zeiler & Fergus 2014, section 4.3): one image, one feature, one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Box: TypeAlias = tuple[int, int, int, int]


def covered(image: Array, fill: Array, box: Box) -> Array:
    """The image with rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the box filled."""
    top, bottom, left, right = box
    found = image.copy()
    for c in range(len(image)):
        for row in range(top, bottom):
            for column in range(left, right):
                found[c, row, column] = fill[c, row, column]
    return found


def sign(number: float, bound: float) -> int:
    """-1, 0 or 1; 0 where it is no larger than the bound."""
    if abs(number) <= bound:
        return 0
    return 1 if number > 0 else -1


def changes(
    features: Callable[[Array], Array], image: Array, fill: Array, box: Box, share: float
) -> list[int]:
    """The signs of what is lost when the box is covered, feature by feature."""
    before = [float(number) for number in features(image).reshape(-1)]
    after = [float(number) for number in features(covered(image, fill, box)).reshape(-1)]
    bound = share * max(abs(number) for number in before)
    return [sign(one - other, bound) for one, other in zip(before, after, strict=True)]


def hamming(one: Sequence[int], other: Sequence[int]) -> float:
    """The share of places at which two sequences differ."""
    return sum(a != b for a, b in zip(one, other, strict=True)) / len(one)


def consistency(signs: Sequence[Sequence[int]]) -> float:
    """Delta: the mean over all ordered pairs of different images."""
    pairs = [(i, j) for i in range(len(signs)) for j in range(len(signs)) if i != j]
    return sum(hamming(signs[i], signs[j]) for i, j in pairs) / len(pairs)
