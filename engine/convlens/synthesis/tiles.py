"""Gradients taken tile by tile, so that a picture of any size fits in memory.

At each step the picture is rolled by a random amount, what leaves on one side coming in on the other, and
then cut, so that no place lies at the edge of a tile for long (Mordvintsev, Olah and Tyka 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Look: TypeAlias = "Callable[[Tensor], tuple[Tensor, Tensor | None]]"
"""From N pictures to the objective of each, N, and its gradient, or None where none is needed."""


@dataclass(frozen=True)
class Tiles:
    """How a picture is cut.

    An axis that is no longer than a tile is one tile. A longer one is cut into tiles of one length, which
    overlap by the few pixels that are left over; where tiles overlap, the mean counts.

    Attributes:
        size: largest length of a tile along each axis.
        exact: per axis, whether a tile has just that length, because the model takes no other; a picture
            that is shorter is continued by itself.
        jitter: largest shift along an axis of one tile; along others it is anything up to a tile.
        together: tiles of one picture in a forward. The objective must take any number of rows where it
            is over 1.
    """

    size: tuple[int, ...]
    exact: tuple[bool, ...]
    jitter: int = 0
    together: int = 1

    def lengths(self, extent: Sequence[int]) -> tuple[int, ...]:
        """Length of a tile of a picture of that extent, axis by axis."""
        return tuple(
            most if same else -(-length // _count(length, most))
            for length, most, same in zip(extent, self.size, self.exact, strict=True)
        )

    def count(self, extent: Sequence[int]) -> int:
        """How many tiles a picture of that extent has."""
        return int(np.prod([_count(length, most) for length, most in zip(extent, self.size, strict=True)]))

    def shift(self, extent: Sequence[int], seed: int, step: int) -> tuple[int, ...]:
        """By how much the picture is rolled at a step, axis by axis."""
        rng = np.random.default_rng((seed, step, 2))
        found = []
        for length, most in zip(extent, self.size, strict=True):
            several = _count(length, most) > 1
            low, high = (0, min(length, most)) if several else (-self.jitter, self.jitter + 1)
            found.append(int(rng.integers(low, high)))
        return tuple(found)

    def over(self, pictures: Tensor, shift: Sequence[int], look: Look) -> tuple[Tensor, Tensor | None]:
        """The mean objective over all tiles, N, and its gradient in the pictures' shape.

        Of an objective that is a mean over places this is what the whole picture would give, except near
        the edges of tiles.

        Args:
            pictures: N pictures.
            shift: how far they are rolled first.
            look: the objective of tiles, N times as many rows as there are tiles at once, tile by tile.
        """
        extent, rows = pictures.shape[2:], len(pictures)
        lengths = self.lengths(extent)
        axes = [
            _spans(full, most, length, rolled)
            for full, most, length, rolled in zip(extent, self.size, lengths, shift, strict=True)
        ]
        places = list(product(*axes))
        at_once = self.together if rows == 1 else 1
        total = torch.zeros(rows, dtype=torch.float64)
        gradient: Tensor | None = None
        for first in range(0, len(places), at_once):
            chosen = places[first : first + at_once]
            scores, slopes = look(torch.cat([_taken(pictures, place) for place in chosen]))
            total += scores.detach().double().cpu().view(len(chosen), rows).sum(dim=0)
            if slopes is not None:
                gradient = torch.zeros_like(pictures) if gradient is None else gradient
                for number, place in enumerate(chosen):
                    _put(gradient, place, slopes[number * rows : (number + 1) * rows])
        if gradient is not None:
            share = float(np.prod([n / full for n, full in zip(lengths, extent, strict=True)]))
            gradient *= share
            for axis, spans in enumerate(axes):
                cover = torch.bincount(torch.cat(spans), minlength=extent[axis]).to(gradient)
                gradient /= cover.view([-1 if a == axis else 1 for a in range(len(axes))])
        return (total / len(places)).to(pictures), gradient


def _count(length: int, most: int) -> int:
    """Tiles along an axis."""
    return max(1, -(-length // most))


def _spans(extent: int, most: int, length: int, shift: int) -> list[Tensor]:
    """Places along one axis that each tile takes; those behind the end begin afresh."""
    count = _count(extent, most)
    starts = [number * extent // count - shift for number in range(count)]
    return [(torch.arange(length) + start) % extent for start in starts]


def _taken(pictures: Tensor, place: Sequence[Tensor]) -> Tensor:
    """One tile of each picture."""
    for axis, span in enumerate(place, start=2):
        pictures = pictures.index_select(axis, span.to(pictures.device))
    return pictures


def _put(gradient: Tensor, place: Sequence[Tensor], slope: Tensor) -> None:
    """Add the gradient of one tile to that of the pictures."""
    for axis, span in reversed(list(enumerate(place, start=2))[1:]):
        wider = slope.new_zeros(*slope.shape[:axis], gradient.shape[axis], *slope.shape[axis + 1 :])
        slope = wider.index_add_(axis, span.to(slope.device), slope)
    gradient.index_add_(2, place[0].to(gradient.device), slope)
