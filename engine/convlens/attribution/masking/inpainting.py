"""Patches filled from their surroundings: what is around them, carried on smoothly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.runtime.patches import as_input

if TYPE_CHECKING:
    from numpy.typing import NDArray


def inpainted(
    image: NDArray[Any], axes: Sequence[int], starts: NDArray[np.int64], sides: Sequence[int]
) -> NDArray[Any]:
    """What stands in a patch at each of some places where only its surroundings are known.

    Each position becomes the mean of its neighbours along ``axes``, the patch's own and those of the ring
    around it, as the discrete Laplace equation has it (harmonic inpainting, Chan & Shen 2002); beyond the
    border of the image there are none. So a signal is bridged by a straight line, a slope is carried on,
    and no number lies outside of those of the ring. The ring is one position wide; nothing else is read.

    Args:
        image: one input without the batch axis.
        axes: its spatial axes, counted with the batch axis.
        starts: first position of each patch, patches x axes.
        sides: of all of them, along each axis; shorter than the image along one axis at least.

    Returns:
        Patches x the image's axes, in its type; whole numbers are rounded.
    """
    own = [axis - 1 for axis in axes]
    space = tuple(range(-len(own), 0))
    inside = np.moveaxis(image, own, space)
    extent = inside.shape[inside.ndim - len(own) :]
    found = np.empty((len(starts), *inside.shape[: inside.ndim - len(own)], *sides), np.float64)
    ends = np.stack([starts > 0, starts + np.asarray(sides) < np.asarray(extent)], axis=2)
    kinds, kind_of = np.unique(ends.reshape(len(starts), -1), axis=0, return_inverse=True)
    for number, kind in enumerate(kinds.reshape(-1, len(own), 2).tolist()):
        rows = np.flatnonzero(kind_of.reshape(-1) == number)
        rings = np.stack([_ring(inside, place, sides, kind) for place in starts[rows].tolist()])
        found[rows] = _solved(rings, sides, kind)
    return as_input(np.moveaxis(found, space, list(axes)), image.dtype)


def _ring(
    inside: NDArray[Any], place: Sequence[int], sides: Sequence[int], kind: Sequence[Sequence[bool]]
) -> NDArray[np.float64]:
    """At each position of a patch the sum of its neighbours that lie around the patch."""
    window = [slice(start, start + side) for start, side in zip(place, sides, strict=True)]
    found = np.zeros((*inside.shape[: inside.ndim - len(sides)], *sides))
    for axis, (start, side) in enumerate(zip(place, sides, strict=True)):
        for known, outer, inner in zip(kind[axis], (start - 1, start + side), (0, side - 1), strict=True):
            if known:
                read: list[Any] = [*window]
                into: list[Any] = [slice(None)] * len(sides)
                read[axis], into[axis] = outer, inner
                found[..., *into] += inside[..., *read]
    return found


def _solved(
    rings: NDArray[np.float64], sides: Sequence[int], kind: Sequence[Sequence[bool]]
) -> NDArray[np.float64]:
    """The Laplace equation on boxes, axis by axis in the eigenvectors of second differences."""
    if len(sides) == 1 and sides[0] > 1:  # the eigenvectors of a long signal are far too many; here is a line
        (low, high), (side,) = kind[0], sides
        share = np.arange(1, side + 1) / (side + 1) if low and high else np.full(side, float(high))
        return np.asarray(rings[..., :1] * (1 - share) + rings[..., -1:] * share)
    found, total = rings, np.zeros(())
    tables = [_vectors(side, *ends) for side, ends in zip(sides, kind, strict=True)]
    first = rings.ndim - len(sides)
    for axis, (values, vectors) in enumerate(tables):
        found = _along(found, vectors, first + axis)
        total = total[..., None] + values
    found = found / total
    for axis, (_, vectors) in enumerate(tables):
        found = _along(found, vectors.T, first + axis)
    return found


def _along(array: NDArray[np.float64], matrix: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.moveaxis(np.tensordot(array, matrix, axes=(axis, 0)), -1, axis)


@cache
def _vectors(side: int, low: bool, high: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and eigenvectors (columns) of how a line differs from its neighbours, known at its ends.

    Each position is taken as often as it has neighbours, those of the patch being taken off.
    """
    from scipy.linalg import eigh_tridiagonal

    count = np.full(side, 2.0)
    count[0] -= not low
    count[-1] -= not high
    values, vectors = eigh_tridiagonal(count, np.full(side - 1, -1.0))
    return values, vectors
