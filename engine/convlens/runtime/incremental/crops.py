"""Cuts of a clean activation with recomputed windows laid over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.incremental.sliding import Slide


@dataclass(frozen=True)
class Windows:
    """Recomputed windows of one value: probes x the value's other axes, and where each begins."""

    start: NDArray[np.int64]
    array: NDArray[Any]

    def shows(self, start: NDArray[np.int64], size: Sequence[int], axes: Sequence[int]) -> bool:
        """Whether these are just the cuts of ``size`` at ``start``; ``axes`` without the batch axis."""
        same = all(self.array.shape[axis + 1] == length for axis, length in zip(axes, size, strict=True))
        return same and np.array_equal(self.start, start)

    def rows(self, first: int, stop: int) -> Windows:
        """Those of some probes."""
        return Windows(self.start[first:stop], self.array[first:stop])


@dataclass(frozen=True)
class Clean:
    """A value of the unchanged input, with room around it.

    Attributes:
        array: without the batch axis.
        front: how much room along each of ``axes``.
        axes: the picture's, counted without the batch axis.
        inner: where the room repeats the number at the border, how long the value itself is along ``axes``.
    """

    array: NDArray[Any]
    front: tuple[int, ...]
    axes: tuple[int, ...]
    inner: tuple[int, ...] = ()

    @classmethod
    def around(
        cls, value: NDArray[Any], axes: Sequence[int], slide: Slide | None = None, outputs: Sequence[int] = ()
    ) -> Clean:
        """A value (one image) as it is, or with the padding that an operator with ``outputs`` reads.

        ``axes`` are counted with the batch axis.
        """
        array, own = value[0], tuple(axis - 1 for axis in axes)
        if slide is None:
            return cls(array, (0,) * len(own), own)
        shape, into, out, front = (
            list(array.shape),
            [slice(None)] * array.ndim,
            [slice(None)] * array.ndim,
            [],
        )
        for axis, length, first in zip(own, slide.length(outputs), slide.first, strict=True):
            size = array.shape[axis]
            shape[axis] = length
            start = max(0, -first)
            kept = min(length - start, size - max(0, first))
            into[axis] = slice(start, start + kept)
            out[axis] = slice(max(0, first), max(0, first) + kept)
            front.append(-first)
        if shape == list(array.shape) and not any(front):
            return cls(array, tuple(front), own)
        if slide.crop.repeats:
            inner = tuple(array.shape[axis] for axis in own)
            room = [(0, 0)] * array.ndim
            for axis, before in zip(own, front, strict=True):
                room[axis] = (before, shape[axis] - before - array.shape[axis])
            return cls(np.pad(array, room, mode="edge"), tuple(front), own, inner)
        padded = np.full(shape, _beyond(slide, array.dtype), array.dtype)
        padded[tuple(into)] = array[tuple(out)]
        return cls(padded, tuple(front), own)

    def cut(self, start: NDArray[np.int64], size: Sequence[int], over: Windows | None) -> NDArray[Any]:
        """Cuts of ``size`` that begin at ``start`` (probes x axes, room counted), ``over`` laid on top.

        ``over`` is placed in positions of the value itself, without the room.
        """
        if over is not None and not any(self.front) and over.shows(start, size, self.axes):
            return over.array
        shape = list(self.array.shape)
        for axis, length in zip(self.axes, size, strict=True):
            shape[axis] = length
        found = np.empty((len(start), *shape), self.array.dtype)
        base: list[slice] = [slice(None)] * self.array.ndim
        starts = start.tolist()
        for row, place in enumerate(starts):
            for axis, first, length in zip(self.axes, place, size, strict=True):
                base[axis] = slice(first, first + length)
            found[row] = self.array[tuple(base)]
        if over is None:
            return found
        into: list[slice] = [slice(None)] * self.array.ndim
        out: list[slice] = [slice(None)] * self.array.ndim
        extent = [over.array.shape[axis + 1] for axis in self.axes]
        shift = (over.start + np.asarray(self.front) - start).tolist()
        for row, place in enumerate(shift):
            for axis, offset, length, width in zip(self.axes, place, size, extent, strict=True):
                low, high = max(0, offset), min(length, offset + width)
                into[axis] = slice(low, max(low, high))
                out[axis] = slice(low - offset, max(low, high) - offset)
            found[row][tuple(into)] = over.array[row][tuple(out)]
        if self.inner:
            self._repeat(found, starts)
        return found

    def _repeat(self, found: NDArray[Any], starts: Sequence[Sequence[int]]) -> None:
        """Set what stands beyond the border of each cut to the number at the border."""
        for cut, place in zip(found, starts, strict=True):
            for axis, first, front, length in zip(self.axes, place, self.front, self.inner, strict=True):
                along = np.moveaxis(cut, axis, 0)
                low, high = front - first, front + length - first
                if low > 0:
                    along[:low] = along[low]
                if high < len(along):
                    along[high:] = along[high - 1]

    def whole(self, *over: Windows) -> NDArray[Any]:
        """The value of each probe, whole, those of several groups behind each other."""
        found = np.empty((sum(len(each.start) for each in over), *self.array.shape), self.array.dtype)
        found[:] = self.array
        row, into = 0, [slice(None)] * self.array.ndim
        for each in over:
            for start, array in zip(each.start.tolist(), each.array, strict=True):
                for axis, first in zip(self.axes, start, strict=True):
                    into[axis] = slice(first, first + array.shape[axis])
                found[row][tuple(into)] = array
                row += 1
        return found


def _beyond(slide: Slide, dtype: np.dtype[Any]) -> float:
    """The number beyond the border; of whole numbers the least where it is no number."""
    padding = slide.crop.padding
    return padding if dtype.kind == "f" or np.isfinite(padding) else int(np.iinfo(dtype).min)
