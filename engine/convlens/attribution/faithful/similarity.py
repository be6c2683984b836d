"""How alike two maps are: by rank (Spearman) and by structure (Wang et al. 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = 7  # positions along each axis over which structure is compared
_STEADY = (0.01**2, 0.03**2)  # constants of Wang et al., for maps that reach from 0 to 1


def ranks(values: NDArray[Any]) -> NDArray[Any]:
    """The rank of each number, from 1; equal ones share the mean of their ranks. Flat, float64."""
    flat = np.asarray(values, np.float64).reshape(-1)
    _, group, counts = np.unique(flat, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group.reshape(-1)])


def spearman(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The correlation of the ranks, -1 to 1; 0 where one of the two is the same everywhere."""
    a, b = ranks(one), ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def ssim(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Structural similarity, the mean over windows of 7 positions along each axis; 1 for equal maps.

    Each map is brought to the range from 0 to 1 first, so that only its pattern counts.
    """
    a, b = _stretched(one), _stretched(other)
    sides = [min(_WINDOW, size) for size in a.shape]
    means = [_windowed(each, sides) for each in (a, b, a * a, b * b, a * b)]
    ma, mb, aa, bb, ab = means
    count = int(np.prod(sides))
    unbiased = count / (count - 1) if count > 1 else 1.0
    va, vb, cov = (unbiased * part for part in (aa - ma * ma, bb - mb * mb, ab - ma * mb))
    first, second = _STEADY
    top = (2 * ma * mb + first) * (2 * cov + second)
    bottom = (ma * ma + mb * mb + first) * (va + vb + second)
    return float((top / bottom).mean())


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    found = np.asarray(values, np.float64)
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else np.zeros_like(found)


def _windowed(values: NDArray[Any], sides: list[int]) -> NDArray[Any]:
    """The mean over every window that lies inside."""
    found = values
    for axis, side in enumerate(sides):
        found = np.lib.stride_tricks.sliding_window_view(found, side, axis).mean(axis=-1)
    return found
