"""Running sums over masks and targets: a map, its standard error, and how two halves of it agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.convergence import agreement, relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CACHED = 1 << 16
"""Numbers of masks that are summed at once: they stay in a core's own cache, and so small a product is not
spread over cores that the model runs on."""


class MaskSums:
    """Weighted means of a target over masks, position by position, from sums alone.

    Args:
        extent: shape of a mask.
        base: a number near the targets; sums are taken of the differences from it, or their squares
            would cancel out where the target hardly moves.
    """

    def __init__(self, extent: Sequence[int], base: float) -> None:
        """Start with nothing."""
        self.extent = tuple(extent)
        self.base = base
        size = int(np.prod(self.extent))
        self._plain = np.zeros((4, size))  # masks, masks x target; then those of odd number alone
        self._squared = np.zeros((3, size))  # squared masks times 1, target, squared target
        self._targets = np.zeros(2)  # how many, their sum

    def add(self, first: int, masks: NDArray[Any], targets: NDArray[Any]) -> None:
        """Take in masks (B x ``extent``, 0 to 1), the number of the first of them, and their targets (B)."""
        flat = masks.reshape(len(masks), -1)
        y = targets.astype(np.float64) - self.base
        odd = ((first + np.arange(len(masks))) % 2).astype(np.float64)
        plain, squared = np.stack([np.ones_like(y), y, odd, odd * y]), np.stack([np.ones_like(y), y, y * y])
        width = max(1, _CACHED // max(1, len(masks)))
        for start in range(0, flat.shape[1], width):
            places = slice(start, start + width)
            some = flat[:, places].astype(np.float64)
            self._plain[:, places] += plain @ some
            self._squared[:, places] += squared @ np.square(some, out=some)
        self._targets += (len(y), y.sum())

    def mean(self) -> float:
        """The mean target over all masks."""
        return float(self.base + self._targets[1] / max(self._targets[0], 1))

    def map(self) -> NDArray[np.float64]:
        """The target expected where a position is kept; the mean where no mask kept it."""
        return self.base + self._ratio(*self._plain[:2])

    def error(self) -> NDArray[np.float64]:
        """The standard error of :meth:`map`, that of a ratio of two means (Cochran 1977, section 6.4)."""
        centred = self._ratio(*self._plain[:2]).reshape(-1)
        ones, once, twice = self._squared
        total = np.maximum(twice - 2 * centred * once + centred**2 * ones, 0)
        kept = self._plain[0]
        return np.asarray(np.sqrt(total) / np.where(kept > 0, kept, 1)).reshape(self.extent)

    def relative_error(self) -> float:
        """See :func:`convlens.attribution.convergence.relative_error`."""
        return relative_error(self.map(), self.error())

    def agreement(self) -> float:
        """How the maps of the masks of odd and of even number correlate."""
        kept, weighed, odd_kept, odd_weighed = self._plain
        odd = self._ratio(odd_kept, odd_weighed)
        return agreement(odd, self._ratio(kept - odd_kept, weighed - odd_weighed))

    def _ratio(self, kept: NDArray[Any], weighed: NDArray[Any]) -> NDArray[np.float64]:
        seen = kept > 1e-12
        mean = self._targets[1] / max(self._targets[0], 1)
        found = np.where(seen, weighed / np.where(seen, kept, 1), mean)
        return np.asarray(found).reshape(self.extent)
