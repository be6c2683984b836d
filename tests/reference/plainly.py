"""``predict``, ``activations`` and the choice of ``channels`` as trivial loops."""

from __future__ import annotations

from math import exp
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def softmax(scores: Array) -> list[float]:
    """Probabilities from scores."""
    largest = max(float(s) for s in scores)
    powers = [exp(float(s) - largest) for s in scores]
    return [p / sum(powers) for p in powers]


def sigmoid(scores: Array) -> list[float]:
    """Each score as a probability of its own."""
    return [1 / (1 + exp(-float(s))) for s in scores]


def ranking(probabilities: list[float], top: int) -> list[int]:
    """Classes from the most to the least probable; of equal ones the lower index first."""
    left = list(range(len(probabilities)))
    found = []
    while left and len(found) < top:
        best = left[0]
        for index in left[1:]:
            if probabilities[index] > probabilities[best]:
                best = index
        left.remove(best)
        found.append(best)
    return found


def over_space(value: Array) -> tuple[list[float], list[float]]:
    """Largest and mean activation of each channel of one image's layer (channels x height x width)."""
    largest, means = [], []
    for plane in value:
        numbers = [float(number) for number in plane.reshape(-1)]
        largest.append(max(numbers))
        means.append(sum(numbers) / len(numbers))
    return largest, means


def strongest(value: Array, top: int) -> list[tuple[int, tuple[int, int], float]]:
    """The channels with the largest units: channel, row and column of its first largest unit, value."""
    units = []
    for channel, plane in enumerate(value):
        place, best = (0, 0), -np.inf
        for row in range(plane.shape[0]):
            for column in range(plane.shape[1]):
                if plane[row, column] > best:
                    place, best = (row, column), float(plane[row, column])
        units.append((channel, place, best))
    return sorted(units, key=lambda unit: (-unit[2], unit[0]))[:top]
