"""The parts of an input that are ranked, hidden and shown together, and orders in which that is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source

_WHOLE = frozenset({"board", "tokens", "vector"})  # each point, token or feature is a part
_ALONG = {1: 56, 2: 14, 3: 6}  # parts along an axis of an input with that many
_DIGITS = 6  # of the largest number; what differs by less is rounding, and ranks alike
_SPREAD = 4  # the centred Gaussian's standard deviation is the extent divided by it


@dataclass(frozen=True)
class Parts:
    """Positions of an input in blocks.

    ``index`` gives each position's part, in the shape of the input's spatial axes; ``side`` is the
    length of a part along each of them (the last part of an axis may be shorter).
    """

    index: NDArray[Any]
    side: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many parts."""
        return int(self.index.max()) + 1

    def means(self, values: NDArray[Any]) -> NDArray[Any]:
        """The mean of one number a position over each part."""
        flat = self.index.reshape(-1)
        total = np.bincount(flat, values.reshape(-1).astype(np.float64), self.count)
        return np.asarray(total / np.bincount(flat, minlength=self.count))

    def ranked(self, values: NDArray[Any], seed: int = 0) -> NDArray[Any]:
        """Part numbers, the one with the largest mean first; ties are broken by ``seed``.

        Positions whose number is not finite come last.
        """
        finite = np.isfinite(values)
        scale = float(np.abs(values[finite]).max(initial=0.0)) or 1.0
        means = self.means(np.where(finite, values / scale, 0.0))
        # a part with a number that is not finite has no place of its own
        broken = self.means((~finite).astype(np.float64)) > 0
        rounded = np.where(broken, -np.inf, np.round(means, _DIGITS))
        lots = np.random.default_rng([seed, 7]).permutation(self.count)
        return np.lexsort((lots, -rounded))

    def random(self, seed: int, number: int) -> NDArray[Any]:
        """Part numbers in a random order, the ``number``-th of those that belong to ``seed``."""
        return np.random.default_rng([seed, 11, number]).permutation(self.count)

    def centred(self) -> NDArray[Any]:
        """Part numbers from the middle of the input outwards: the order of a centred Gaussian."""
        extent = self.index.shape
        total = np.zeros(extent)
        for axis, size in enumerate(extent):
            away = (np.arange(size) - (size - 1) / 2) / (size / _SPREAD)
            total += (away**2).reshape([-1 if a == axis else 1 for a in range(len(extent))])
        return self.ranked(np.exp(-total / 2))


def parts_of(source: Source, extent: Sequence[int], side: int | Sequence[int] | None = None) -> Parts:
    """The parts of an input of the spatial size ``extent``.

    Args:
        source: what the input is.
        extent: its length along each of ``source.axes``.
        side: length of a part, or one an axis; by default a fourteenth of the shorter side of an image,
            and each point, token or feature by itself where such go in.

    Raises:
        ParameterError: as many numbers as there are not axes, or a part larger than the input.
    """
    count = len(extent)
    if side is None and source.kind in _WHOLE:
        side = 1
    elif side is None:
        along = _ALONG[min(3, count)]
        alike = source.kind in ("photo", "image")
        side = [max(1, (min(extent) if alike else size) // along) for size in extent]
    sides = (side,) * count if isinstance(side, int) else tuple(side)
    if len(sides) != count:
        raise ParameterError(
            f"part has {len(sides)} numbers; expected 1 or {count} ({', '.join(source.axis_names)})"
        )
    if any(one > size for one, size in zip(sides, extent, strict=True)):
        text = " x ".join(map(str, sides))
        most = " x ".join(map(str, extent))
        raise ParameterError(f"part is {text}; expected at most {most} ({', '.join(source.axis_names)})")
    index = np.zeros(tuple(extent), np.int64)
    for axis, (one, size) in enumerate(zip(sides, extent, strict=True)):
        number = np.arange(size) // one
        along_axis = number.reshape([-1 if a == axis else 1 for a in range(count)])
        index = index * (int(number[-1]) + 1) + along_axis
    return Parts(index, sides)
