"""Random masks over an input (Petsiuk et al. 2018, section 3.2), and inputs seen through masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ParameterError
from convlens.hiding import sizes_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.source import Source

BLOCK = 64
"""Masks that are drawn from one seed, so that none depends on how many go into a forward."""

_WHOLE = frozenset({"board", "tokens", "vector"})  # masked point by point
_CELLS = {1: 14, 2: 7, 3: 4}  # along each of so many axes
_CACHED = 1 << 18  # numbers that are mixed at once: twice as many fit into a core's own cache


@dataclass(frozen=True)
class Masks:
    """Grids of zeros and ones, enlarged by linear interpolation and cut out at a random place.

    Attributes:
        extent: lengths of the input's spatial axes.
        cells: of the grid, one number an axis.
        keep: probability of a cell to be 1.
        seed: of the masks.
        smooth: whether grids are enlarged; else ``cells`` is ``extent``, and the masks are the grids.
    """

    extent: tuple[int, ...]
    cells: tuple[int, ...]
    keep: float
    seed: int
    smooth: bool

    @property
    def sides(self) -> tuple[int, ...]:
        """Length of a cell along each axis."""
        return tuple(-(-size // count) for size, count in zip(self.extent, self.cells, strict=True))

    def batches(self, count: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """``count`` masks, up to ``size`` at a time: the number of the first, B x ``extent`` from 0 to 1."""
        for start in range(0, count, BLOCK):
            rng = np.random.default_rng([self.seed, start // BLOCK])
            grids = (rng.random((BLOCK, *self.cells)) < self.keep).astype(np.float32)
            shifts = rng.integers(0, self.sides, (BLOCK, len(self.cells)))
            stop = min(BLOCK, count - start)
            for at in range(0, stop, size):
                rows = slice(at, min(at + size, stop))
                yield start + at, self._enlarged(grids[rows], shifts[rows])

    def _enlarged(self, grids: NDArray[np.float32], shifts: NDArray[Any]) -> NDArray[np.float32]:
        if not self.smooth:
            return grids
        count, found = len(grids), grids
        for axis, (size, table) in enumerate(zip(self.extent, self._tables, strict=True)):
            taken = table[shifts[:, axis, None] + np.arange(size)]  # B x size x cells
            before, after = prod(self.extent[:axis]), prod(self.cells[axis + 1 :])
            if after == 1:  # in this order the mask lies in memory as the input does
                found = found.reshape(count, before, -1) @ taken.transpose(0, 2, 1)
            else:
                found = taken[:, None] @ found.reshape(count, before, self.cells[axis], after)
        return found.reshape(count, *self.extent)

    @cached_property
    def _tables(self) -> list[NDArray[np.float32]]:
        """For each axis what a grid enlarged to one cell more than the input takes from each of its cells."""
        tables = []
        for count, side in zip(self.cells, self.sides, strict=True):
            long = (count + 1) * side
            at = np.clip((np.arange(long) + 0.5) * count / long - 0.5, 0, count - 1)
            share = 1 - np.abs(at[:, None] - np.arange(count))
            tables.append(np.clip(share, 0, 1).astype(np.float32))
        return tables


def masks_for(
    source: Source, extent: Sequence[int], cells: int | tuple[int, ...] | None, keep: float, seed: int
) -> Masks:
    """Masks for an input of the spatial size ``extent``.

    Boards, tokens and vectors are masked point by point unless ``cells`` says otherwise; so are inputs
    that have no more positions than cells.

    Raises:
        ParameterError: as many numbers as there are not axes, or more cells than positions.
    """
    count, names = len(extent), ", ".join(source.axis_names)
    if cells is None:
        own = extent if source.kind in _WHOLE else [min(_CELLS[count], size) for size in extent]
    else:
        own = (cells,) * count if isinstance(cells, int) else cells
    if len(own) != count:
        raise ParameterError(f"cells has {len(own)} numbers; expected 1 or {count} ({names})")
    if any(number > size for number, size in zip(own, extent, strict=True)):
        raise ParameterError(f"cells is {sizes_text(own)}; expected at most {sizes_text(extent)} ({names})")
    return Masks(tuple(extent), tuple(own), keep, seed, smooth=tuple(own) != tuple(extent))


def seen_through(
    image: NDArray[Any], fill: NDArray[Any], masks: NDArray[Any], axes: Sequence[int]
) -> NDArray[Any]:
    """One image through each mask: itself where the mask is 1, ``fill`` where it is 0, else a mixture.

    Args:
        image: one input without the batch axis.
        fill: in its shape.
        masks: B x the lengths of ``axes``, 0 to 1; of an input of whole numbers the mixture is rounded.
        axes: spatial axes of the input, counted with the batch axis, in rising order.

    Returns:
        B x the shape of ``image``, in its type.
    """
    shape = [size if axis + 1 in axes else 1 for axis, size in enumerate(image.shape)]
    share = masks.reshape(len(masks), *shape)
    if masks.dtype == bool:
        return np.where(share, image, fill)
    if image.dtype.kind == "f":
        share, gap = share.astype(image.dtype, copy=False), image - fill
        found = np.empty((len(masks), *image.shape), image.dtype)
        step = max(1, _CACHED // max(1, image.size))
        for start in range(0, len(masks), step):
            rows = slice(start, start + step)
            np.multiply(share[rows], gap, out=found[rows])
            np.add(fill, found[rows], out=found[rows])
        return found
    mixed = fill + share.astype(np.float64) * (image.astype(np.float64) - fill)
    return np.asarray(np.rint(mixed).astype(image.dtype))
