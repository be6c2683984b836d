"""One layer on a few images: the numbers of each channel that tallies are made of.

Every value of a network passes here, so the passes over them are made block by block in the processor's
cache; each image's numbers are the same whatever images come with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLAT = 0.99
"""Share of the mean in the mean square from which float32, which rounds the sums to about a millionth, leaves
less than four digits of the variance, so that values are taken from their mean before they are squared."""

_BLOCK = 1 << 17
"""Values that are worked on at once: with their marks 640 KB, which lie in the second level of the cache."""

_RUN = 4096
"""Values of one row that are added up in the layer's own precision; the sums of runs are added in float64."""

_SHORT = 128
"""Values of a row below which what numpy's argmax and BLAS cost for each row is more than their work."""


_BYTE = 255
"""Marks that one byte counts."""

_LEAST = 16
"""Words of several bytes in a piece below which adding up the pieces costs more than the words save."""


@dataclass(frozen=True)
class Seen:
    """Images x channels.

    Attributes:
        count: values of one channel on one image.
        most: the largest value.
        place: where it is, flat in ``extent``; the first where several are equal.
        total: sum of the values, in float64 from partial sums in the layer's own precision.
        square: sum of their squares.
        zeros: how many are exactly zero.
        extent: lengths of the spatial axes.
    """

    count: int
    most: NDArray[Any]
    place: NDArray[Any]
    total: NDArray[np.float64]
    square: NDArray[np.float64]
    zeros: NDArray[Any]
    extent: tuple[int, ...] = ()

    @cached_property
    def sound(self) -> NDArray[np.bool_] | None:
        """Where all values are numbers, and finite; None where that is everywhere."""
        with np.errstate(invalid="ignore"):
            if np.isfinite(self.total.sum() + self.square.sum()):
                return None
        found: NDArray[np.bool_] = np.isfinite(self.total) & np.isfinite(self.square)
        return found


def seen(value: NDArray[Any], channel_axis: int) -> Seen:
    """What a layer's value says of each channel.

    Args:
        value: N x ... with channels along ``channel_axis``; booleans and integers count as numbers.
        channel_axis: from 1 up.
    """
    moved = value if channel_axis == 1 else np.moveaxis(value, channel_axis, 1)
    (images, channels), extent = moved.shape[:2], moved.shape[2:]
    count = prod(extent)
    if count == 1:
        return _single(moved.reshape(images, channels), extent)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return _spatial(moved, count)


def joined(several: Sequence[Seen]) -> Seen:
    """Several of one layer and extent as one, images one after the other."""
    if len(several) == 1:
        return several[0]
    return replace(
        several[0],
        most=np.concatenate([one.most for one in several]),
        place=np.concatenate([one.place for one in several]),
        total=np.concatenate([one.total for one in several]),
        square=np.concatenate([one.square for one in several]),
        zeros=np.concatenate([one.zeros for one in several]),
    )


def _single(flat: NDArray[Any], extent: tuple[int, ...]) -> Seen:
    """From one value a channel."""
    most = flat.astype(_precision(flat.dtype))
    exact = most.astype(np.float64)
    nowhere = np.zeros(flat.shape, np.intp)
    return Seen(1, most, nowhere, exact, exact**2, (flat == 0).astype(np.uint32), extent)


def _precision(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float32 where it holds every number of a type, else float64."""
    return np.result_type(dtype, np.float32)


def _spatial(value: NDArray[Any], count: int) -> Seen:
    """From N x channels x spatial axes with ``count`` places."""
    dtype, rows = _precision(value.dtype), value.shape[0] * value.shape[1]
    runs, (word, pieces) = -(-count // _RUN), _counting(count)
    most, place = np.empty(rows, dtype), np.empty(rows, np.intp)
    total, square = np.empty((rows, runs), dtype), np.empty((rows, runs), dtype)
    zeros = np.empty((rows, pieces), np.uint32 if word == np.bool_ else word)
    short, whole = count < _SHORT, count // runs * runs
    rest = np.zeros((2, rows)) if whole < count else None
    marks, starts = np.empty((0, count), np.bool_), np.empty(0, np.intp)
    first = 0
    for flat in _blocks(value, count, dtype):
        own = slice(first, first := first + len(flat))
        if len(marks) < len(flat):
            marks = np.empty(flat.shape, np.bool_)
            starts = count * np.arange(len(flat))
        mark = marks[: len(flat)]
        parts = flat[:, :whole].reshape(len(flat), runs, -1)
        if short:
            most[own] = _largest(flat, starts[: len(flat)])
            np.equal(flat, most[own, None], out=mark)
            mark.argmax(axis=1, out=place[own])
            np.einsum("ijk,ijk->ij", parts, parts, out=square[own])
        else:
            flat.argmax(axis=1, out=place[own])
            flat.reshape(-1).take(starts[: len(flat)] + place[own], out=most[own], mode="clip")
            np.vecdot(parts, parts, out=square[own])
        np.einsum("ijk->ij", parts, out=total[own])
        np.equal(flat, 0, out=mark)
        if word == np.bool_:
            np.add.reduce(mark, axis=1, keepdims=True, out=zeros[own])
        else:
            np.einsum("ijk->ij", mark.view(word).reshape(len(flat), pieces, -1), out=zeros[own])
        if rest is not None:
            last = flat[:, whole:].astype(np.float64)
            rest[0, own], rest[1, own] = last.sum(axis=1), np.einsum("ij,ij->i", last, last)
    sums = [one.sum(axis=1, dtype=np.float64) for one in (total, square)]
    if rest is not None:
        sums = [one + other for one, other in zip(sums, rest, strict=True)]
    _mend(value, count, *sums)
    shape = value.shape[:2]
    return Seen(
        count,
        most.reshape(shape),
        place.reshape(shape),
        sums[0].reshape(shape),
        sums[1].reshape(shape),
        _counted(zeros if word == np.bool_ else zeros.view(np.uint8)).reshape(shape),
        value.shape[2:],
    )


@cache
def _counting(count: int) -> tuple[np.dtype[Any], int]:
    """How the marks of a row are counted: in words of several bytes, and in how many pieces.

    Each byte of a word counts for itself, so that a piece may hold no more words than a byte can count.
    """
    for size in (8, 4, 2, 1) if count > _BYTE else (1,):
        words, left = divmod(count, size)
        even = range(-(-words // _BYTE), max(2, words // _LEAST))
        pieces = next((pieces for pieces in even if words % pieces == 0), 0)
        if pieces and not left:
            return np.dtype(f"u{size}"), pieces
    return np.dtype(np.bool_), 1


def _counted(zeros: NDArray[Any]) -> NDArray[np.uint32]:
    """The sum of each row of counts."""
    found: NDArray[np.uint32] = zeros.sum(axis=1, dtype=np.uint32) if zeros.shape[1] > 1 else zeros[:, 0]
    return found.astype(np.uint32, copy=False)


def _largest(flat: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    """The largest number of each row."""
    if flat.dtype != np.float32:
        most: NDArray[Any] = flat.max(axis=1)
        return most
    bits = np.maximum.reduceat(flat.view(np.int32).reshape(-1), starts)  # in order but for negative numbers
    most = bits.view(np.float32)
    below = np.flatnonzero(bits < 0)
    if len(below):
        most[below] = flat[below].max(axis=1)
    return most


def _blocks(value: NDArray[Any], count: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Rows, one a channel of an image, a few at once and in one piece."""
    rows = max(1, _BLOCK // count)
    for piece in [value] if value.flags.c_contiguous else value[:, None]:
        flat = np.ascontiguousarray(piece).reshape(-1, count)
        for first in range(0, len(flat), rows):
            yield np.ascontiguousarray(flat[first : first + rows], dtype)


def _mend(value: NDArray[Any], count: int, total: NDArray[np.float64], square: NDArray[np.float64]) -> None:
    """Sum the rows again whose variance float32 loses, about their mean, or whose squares overflow it."""
    channels = value.shape[1]
    for wide in (False, True):
        if wide and np.isfinite(square.sum()):
            return
        lost = ~np.isfinite(square) if wide else total * total > _FLAT * count * square
        places, rows = np.flatnonzero(lost), max(1, _BLOCK // count)
        for first in range(0, len(places), rows):
            own = places[first : first + rows]
            flat = value[own // channels, own % channels].reshape(-1, count)
            flat = flat.astype(np.float64 if wide else _precision(value.dtype), copy=False)
            near = np.zeros(len(own), flat.dtype) if wide else (total[own] / count).astype(flat.dtype)
            flat -= near[:, None]
            apart, middle = np.einsum("ij->i", flat).astype(np.float64), near.astype(np.float64)
            total[own] = apart + count * middle
            square[own] = np.einsum("ij,ij->i", flat, flat) + middle * (2 * apart + count * middle)


def packed(places: NDArray[np.int64], extent: Sequence[int]) -> NDArray[np.int64]:
    """Flat places in an array of shape ``extent`` as one number each that does not depend on its lengths."""
    if len(extent) < 2:
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
