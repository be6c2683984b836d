"""Shapley values by their definition (Lundberg & Lee 2017, equation 4), LIME by its (Ribeiro et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import exp, factorial, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Value: TypeAlias = Callable[[frozenset[int]], float]


def shapley(count: int, value: Value) -> list[float]:
    """Each part's mean contribution over all orders: the sum over all coalitions without it."""
    known = {
        frozenset(chosen): value(frozenset(chosen))
        for size in range(count + 1)
        for chosen in combinations(range(count), size)
    }
    found = []
    for part in range(count):
        total = 0.0
        for coalition, before in known.items():
            if part not in coalition:
                size = len(coalition)
                weight = factorial(size) * factorial(count - size - 1) / factorial(count)
                total += weight * (known[coalition | {part}] - before)
        found.append(total)
    return found


def lime(
    keep: Sequence[Sequence[bool]], scores: Sequence[float], width: float, ridge: float
) -> tuple[list[float], float]:
    """Weighted ridge regression with an intercept that is not penalised, in closed form.

    Weights are exp(-d^2 / width^2) with d the cosine distance of what is kept from all ones. Centring by
    the weighted means takes the intercept out.
    """
    z, y = np.array(keep, dtype=float), np.array(scores)
    weights = np.array([_weight(row, width) for row in z])
    mean_z, mean_y = weights @ z / weights.sum(), float(weights @ y / weights.sum())
    centred = z - mean_z
    matrix = np.zeros((z.shape[1], z.shape[1]))
    right = np.zeros(z.shape[1])
    for row, weight, score in zip(centred, weights, y, strict=True):
        matrix += weight * np.outer(row, row)
        right += weight * row * (score - mean_y)
    found = np.linalg.inv(matrix + ridge * np.eye(len(right))) @ right
    return found.tolist(), mean_y - float(mean_z @ found)


def _weight(row: Array, width: float) -> float:
    ones = np.ones(len(row))
    length = sqrt(float(row @ row))
    cosine = float(row @ ones) / (length * sqrt(len(row))) if length else 0.0
    return exp(-((1 - cosine) ** 2) / width**2)


def kept(image: Array, fill: Array, parts: NDArray[np.int64], coalition: frozenset[int]) -> Array:
    """Channels x positions: the image at positions whose part is in the coalition, else the fill."""
    found = fill.copy()
    for place in np.ndindex(*parts.shape):
        if int(parts[place]) in coalition:
            found[(slice(None), *place)] = image[(slice(None), *place)]
    return found
