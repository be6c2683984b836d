"""What is kept of each channel of a layer over a data set: counts, moments, extremes, a histogram.

Every tally is a monoid: ``nothing`` is its identity and ``merged`` is associative, so that what shards of a
data set say adds up to what one pass says. Counts, extremes and histograms are equal to the last digit in
any order; means and variances, which round, are merged in the order of the shards to be so too (Chan,
Golub & LeVeque 1983 for the merging of variances).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.recording.seen import Seen, packed

EXPONENTS = (-16, 16)
"""Powers of two between which the histogram tells magnitudes apart."""

STEPS = 4
"""Bins a power of two, so that a quantile is known to within a tenth of itself."""

_HALF = (EXPONENTS[1] - EXPONENTS[0]) * STEPS
BINS = 2 * _HALF + 1
"""Negative magnitudes from large to small, zero and what is nearly so, positive ones from small to large."""


@dataclass
class Tally:
    """One layer's channels over the images so far.

    Attributes:
        images: how many images, one number for all channels.
        values: how many values were looked at, a channel.
        mean: of all values.
        spread: sum of squared distances from the mean.
        zeros: how many values were exactly zero.
        most: the largest value, -inf where there was none.
        unsound: images on which the channel had a value that is no number, or infinite; those images count
            in ``images`` and in none of the others.
        histogram: of each image's largest value, channels x :data:`BINS`.
    """

    images: NDArray[np.int64]
    values: NDArray[np.int64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    zeros: NDArray[np.int64]
    most: NDArray[np.float64]
    unsound: NDArray[np.int64]
    histogram: NDArray[np.int64]

    @classmethod
    def nothing(cls, channels: int) -> Tally:
        """No image yet."""
        return cls(
            images=np.zeros(1, np.int64),
            values=np.zeros(channels, np.int64),
            mean=np.zeros(channels),
            spread=np.zeros(channels),
            zeros=np.zeros(channels, np.int64),
            most=np.full(channels, -np.inf),
            unsound=np.zeros(channels, np.int64),
            histogram=np.zeros((channels, BINS), np.int64),
        )

    def merged(self, other: Tally) -> Tally:
        """Both together."""
        values = self.values + other.values
        share = np.divide(other.values, values, out=np.zeros(len(values)), where=values > 0)
        apart = other.mean - self.mean
        return Tally(
            images=self.images + other.images,
            values=values,
            mean=self.mean + apart * share,
            spread=self.spread + other.spread + apart**2 * share * self.values,
            zeros=self.zeros + other.zeros,
            most=np.maximum(self.most, other.most),
            unsound=self.unsound + other.unsound,
            histogram=self.histogram + other.histogram,
        )

    def add(self, seen: Seen) -> None:
        """Take some images in; the same as merging with their own tally, without making one."""
        rows, count = len(seen.most), seen.count
        total, square, most, zeros = seen.total, seen.square, seen.most, seen.zeros
        sound = seen.sound
        if sound is not None:
            total, square, zeros = (np.where(sound, array, 0) for array in (total, square, zeros))
            most = np.where(sound, most, -np.inf)
        counted = np.full(len(self.mean), rows) if sound is None else sound.sum(axis=0)
        values = counted * count
        mean = np.divide(total.sum(axis=0), values, out=np.zeros(len(values)), where=values > 0)
        own = total / count
        spread = np.maximum(square.sum(axis=0) - np.einsum("ij,ij->j", own, total), 0.0)  # within images
        own -= mean
        if sound is not None:
            own *= sound
        spread += np.einsum("ij,ij->j", own, own) * count
        self.images += rows
        both = self.values + values
        share = np.divide(values, both, out=np.zeros(len(values)), where=both > 0)
        apart = mean - self.mean
        self.spread += spread + apart**2 * share * self.values
        self.mean += apart * share
        self.values = both
        self.zeros += zeros.sum(axis=0, dtype=np.int64)
        self.unsound += rows - counted
        np.maximum(self.most, most.max(axis=0, initial=-np.inf), out=self.most)
        places = bins_of(most) + BINS * np.arange(len(values))
        np.add.at(self.histogram.reshape(-1), (places if sound is None else places[sound]).reshape(-1), 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Tally:
        """What :meth:`arrays` told."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @property
    def variance(self) -> NDArray[np.float64]:
        """Mean squared distance of the values from their mean, NaN where there is none."""
        unknown = np.full(len(self.mean), np.nan)
        known: NDArray[np.float64] = np.divide(self.spread, self.values, out=unknown, where=self.values > 0)
        return known

    def quantile(self, share: float) -> NDArray[np.float64]:
        """The value that ``share`` of the images' largest values do not exceed, NaN without images.

        Raises:
            ValueError: ``share`` is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; expected a number from 0 to 1")
        total = self.histogram.sum(axis=1)
        reached = np.cumsum(self.histogram, axis=1) >= np.maximum(1, np.ceil(share * total))[:, None]
        found = middles()[reached.argmax(axis=1)]
        known: NDArray[np.float64] = np.where(total > 0, np.minimum(found, self.most), np.nan)
        return known

    def share_below(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The share of the images whose largest value is surely below ``values``, ... x channels.

        The inverse of :meth:`quantile`: images in the bin of a value itself do not count, so the share is
        never told too large; zero where there are no images.
        """
        counted = np.cumsum(self.histogram, axis=1)
        total = counted[:, -1]
        place = bins_of(np.asarray(values))
        channels = np.arange(len(total))
        below = np.where(place > 0, counted[channels, np.maximum(place, 1) - 1], 0)
        below = np.where(values > self.most, total, below)
        found: NDArray[np.float64] = np.divide(below, total, out=np.zeros(below.shape), where=total > 0)
        return found


def bins_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each value; what is too large for all lies in the outermost."""
    real = values if values.dtype == np.float32 else np.asarray(values, np.float64)
    layout = np.finfo(real.dtype)
    bits = np.abs(real).view(layout.dtype.str.replace("f", "i"))  # in the order of the magnitudes
    place = ((bits >> layout.nmant) + (layout.minexp - 1 - EXPONENTS[0])) * STEPS + 1
    part = bits & ((1 << layout.nmant) - 1)
    for step in range(1, STEPS):
        place += part >= math.ceil((2 ** (step / STEPS) - 1) * (1 << layout.nmant))
    np.clip(place, 0, _HALF, out=place)
    return np.asarray(np.where(real < 0, _HALF - place, _HALF + place), np.int64)


def middles() -> NDArray[np.float64]:
    """The value in the middle of each bin."""
    edges = np.exp2(EXPONENTS[0] + (np.arange(_HALF) + 0.5) / STEPS)
    return np.concatenate([-edges[::-1], [0.0], edges])


@dataclass
class Strongest:
    """The places at which each channel was strongest, one an image, the strongest first.

    Equal values are ordered by the number of the image, so there is one right answer.

    Attributes:
        value: channels x k; -inf where there were fewer images.
        image: number of the image in the data set, -1 where there is none.
        place: position in the layer, all spatial axes as one.
    """

    value: NDArray[np.float64]
    image: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def nothing(cls, channels: int, k: int) -> Strongest:
        """No image yet."""
        shape = (channels, k)
        return cls(np.full(shape, -np.inf), np.full(shape, -1, np.int64), np.full(shape, -1, np.int64))

    def merged(self, other: Strongest) -> Strongest:
        """The strongest of both; no image is in both."""
        value = np.concatenate([self.value, other.value], axis=1)
        image = np.concatenate([self.image, other.image], axis=1)
        place = np.concatenate([self.place, other.place], axis=1)
        last = np.where(image < 0, np.iinfo(np.int64).max, image)
        order = np.lexsort((last, -value), axis=1)[:, : self.value.shape[1]]
        return Strongest(*(np.take_along_axis(array, order, axis=1) for array in (value, image, place)))

    def add(self, seen: Seen, numbers: NDArray[np.int64]) -> None:
        """Take images in; only channels that one of them changes are sorted again.

        Args:
            seen: what they did.
            numbers: theirs, ascending and above those that were taken in before.

        Raises:
            ValueError: they are not.
        """
        order = np.concatenate([[self.image.max(initial=-1)], numbers])
        if (np.diff(order) <= 0).any():
            raise ValueError(f"images {numbers.tolist()} after {order[0]}; expected ascending numbers")
        most = seen.most if seen.sound is None else np.where(seen.sound, seen.most, -np.inf)
        value = np.ascontiguousarray(most.T)
        best = value.max(axis=1, initial=-np.inf)
        changed = np.flatnonzero((best > self.value[:, -1]) & (best > -np.inf))
        if not len(changed):
            return
        own = value[changed]
        kept = self.value.shape[1]
        values = np.concatenate([self.value[changed].astype(own.dtype), own], axis=1)
        rank = _first(values, kept)
        old, new = np.minimum(rank, kept - 1), np.maximum(rank - kept, 0)
        image = np.where(np.take_along_axis(own, new, axis=1) > -np.inf, numbers[new], -1)
        place = packed(seen.place[new, changed[:, None]], seen.extent)
        self.value[changed] = np.take_along_axis(values, rank, axis=1)
        for held, found in ((self.image, image), (self.place, np.where(image < 0, -1, place))):
            held[changed] = np.where(rank < kept, np.take_along_axis(held[changed], old, axis=1), found)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Strongest:
        """What :meth:`arrays` told."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def _first(values: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest numbers of each row, the largest first, of equal ones the first."""
    if values.dtype != np.float32:
        return np.argsort(-values, axis=1, kind="stable")[:, :k]
    bits = (values + np.float32(0)).view(np.uint32)  # zero has one sign, and all are in order but for theirs
    falling = np.where(bits >> 31, bits, bits ^ np.uint32(0x7FFFFFFF)).astype(np.uint64)
    keys = falling << np.uint64(32) | np.arange(values.shape[1], dtype=np.uint64)
    keys.sort(axis=1)  # numbers that are all different: much faster than to sort places stably
    return (keys[:, :k] & np.uint64(0xFFFFFFFF)).astype(np.int64)
