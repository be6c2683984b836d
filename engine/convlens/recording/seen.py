"""One layer on a few images: the numbers of each channel that tallies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLAT = 0.999
"""Share of the mean in the mean square from which float32, which rounds the sums to about a millionth, leaves
less than three digits of the variance, so that float64 is needed."""


@dataclass(frozen=True)
class Seen:
    """Images x channels.

    Attributes:
        count: values of one channel on one image.
        most: the largest value.
        place: where it is, as :func:`packed` writes it; the first where several are equal.
        total: sum of the values, in float64 from partial sums in the layer's own precision.
        square: sum of their squares.
        zeros: how many are exactly zero.
    """

    count: int
    most: NDArray[Any]
    place: NDArray[np.int64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]
    zeros: NDArray[np.int64]


def seen(value: NDArray[Any], channel_axis: int) -> Seen:
    """What a layer's value says of each channel.

    Args:
        value: N x ... with channels along ``channel_axis``; booleans and integers count as numbers.
        channel_axis: from 1 up.
    """
    if value.dtype.kind != "f" or value.dtype.itemsize == 2:
        value = value.astype(np.float32)
    count = value.size // max(1, len(value) * value.shape[channel_axis])
    if count == 1:
        flat = value.reshape(len(value), -1)
        exact = flat.astype(np.float64)
        nowhere = np.zeros(flat.shape, np.int64)
        return Seen(1, flat, nowhere, exact, exact**2, (flat == 0).astype(np.int64))
    return _rows(np.ascontiguousarray(np.moveaxis(value, channel_axis, 1)))


def packed(places: NDArray[np.int64], extent: Sequence[int]) -> NDArray[np.int64]:
    """Flat places in an array of shape ``extent`` as one number each that does not depend on its lengths."""
    if len(extent) == 1:
        return places
    bits = 63 // len(extent)
    found = np.zeros_like(places)
    for axis in np.unravel_index(places, tuple(extent)):
        found = (found << bits) | axis
    return found


def unpacked(places: NDArray[np.int64], axes: int) -> tuple[NDArray[np.int64], ...]:
    """The coordinates that :func:`packed` was made from, one array an axis."""
    if axes < 2:
        return (places,) * axes
    bits = 63 // axes
    mask = (1 << bits) - 1
    return tuple((places >> (bits * (axes - 1 - axis))) & mask for axis in range(axes))


def _rows(value: NDArray[Any]) -> Seen:
    """From N x channels x spatial axes, in one piece."""
    images, channels = value.shape[:2]
    count = int(np.prod(value.shape[2:]))
    flat = value.reshape(images * channels, count)
    place = flat.argmax(axis=1)
    most = flat[np.arange(len(flat)), place]
    with np.errstate(over="ignore", invalid="ignore"):
        total = (flat @ np.ones(count, flat.dtype)).astype(np.float64)
        square = np.einsum("ij,ij->i", flat, flat).astype(np.float64)
        lost = np.flatnonzero(total * total > _FLAT * count * square)
        if len(lost):
            exact = flat[lost].astype(np.float64)
            total[lost], square[lost] = exact.sum(axis=1), np.einsum("ij,ij->i", exact, exact)
    shape = (images, channels)
    return Seen(
        count,
        most.reshape(shape),
        packed(place, value.shape[2:]).reshape(shape),
        total.reshape(shape),
        square.reshape(shape),
        _zeros(flat).reshape(shape),
    )


def _zeros(flat: NDArray[Any]) -> NDArray[np.int64]:
    """Zeros in each row; eight truth values are counted as one word where the length allows."""
    marks = flat == 0
    if flat.shape[1] % 8 == 0:
        return np.asarray(np.bitwise_count(marks.view(np.uint64)).sum(axis=1, dtype=np.int64))
    return np.asarray(marks.view(np.uint8).sum(axis=1, dtype=np.int64))
