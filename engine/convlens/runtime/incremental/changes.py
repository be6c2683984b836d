"""What is changed in an image, probe by probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Content = Callable[[NDArray[np.int64]], NDArray[Any]]


@dataclass(frozen=True)
class Changes:
    """What is changed in an image.

    Attributes:
        starts: first changed position along each spatial axis, probes x axes.
        sides: how many positions change along each.
        content: what stands there for some probes, probes x the input's axes without the batch.
    """

    starts: NDArray[np.int64]
    sides: tuple[int, ...]
    content: Content

    def __len__(self) -> int:
        """How many probes."""
        return len(self.starts)

    def whole(self, image: NDArray[Any], axes: Sequence[int], rows: NDArray[np.int64]) -> NDArray[Any]:
        """The changed inputs of some probes; ``image`` without its batch axis, ``axes`` counted with it."""
        batch = np.repeat(image[None], len(rows), axis=0)
        for row, (place, part) in enumerate(zip(self.starts[rows].tolist(), self.content(rows), strict=True)):
            batch[row][_window(image.ndim, axes, place, self.sides)] = part
        return batch


def _window(rank: int, axes: Sequence[int], place: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    """Where a patch lies in an input without its batch axis; ``axes`` are counted with it."""
    window = [slice(None)] * rank
    for axis, start, side in zip(axes, place, sides, strict=True):
        window[axis - 1] = slice(start, start + side)
    return tuple(window)
