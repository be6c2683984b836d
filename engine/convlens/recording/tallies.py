"""What is kept of each channel of a layer over a data set: counts, moments, extremes, a histogram.

Every tally is a monoid: ``nothing`` is its identity and ``merged`` is associative, so that what shards of a
data set say adds up to what one pass says. Counts, extremes and histograms are equal to the last digit in
any order; means and variances, which round, are merged in the order of the shards to be so too (Chan,
Golub & LeVeque 1983 for the merging of variances).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.recording.seen import Seen

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
        rows = len(seen.most)
        sound = np.isfinite(seen.total) & np.isfinite(seen.square)
        counted = sound.sum(axis=0)
        values = counted * seen.count
        total, square = np.where(sound, seen.total, 0.0), np.where(sound, seen.square, 0.0)
        mean = np.divide(total.sum(axis=0), values, out=np.zeros(len(values)), where=values > 0)
        own = total / seen.count
        within = np.maximum(square - own * total, 0.0) + np.where(sound, (own - mean) ** 2, 0.0) * seen.count
        self.images += rows
        both = self.values + values
        share = np.divide(values, both, out=np.zeros(len(values)), where=both > 0)
        apart = mean - self.mean
        self.spread += within.sum(axis=0) + apart**2 * share * self.values
        self.mean += apart * share
        self.values = both
        self.zeros += np.where(sound, seen.zeros, 0).sum(axis=0)
        self.unsound += rows - counted
        np.maximum(self.most, np.where(sound, seen.most, -np.inf).max(axis=0), out=self.most)
        channels = np.broadcast_to(np.arange(len(values)), sound.shape)[sound]
        np.add.at(self.histogram, (channels, bins_of(seen.most[sound])), 1)

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


def bins_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each value; what is too large for all lies in the outermost."""
    magnitude = np.abs(values, dtype=np.float64)
    with np.errstate(divide="ignore"):
        place = np.floor((np.log2(magnitude) - EXPONENTS[0]) * STEPS)
    place = np.clip(place, -1, _HALF - 1).astype(np.int64) + 1
    found: NDArray[np.int64] = np.where(values < 0, _HALF - place, _HALF + place)
    return found


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
        """Take images ``numbers`` in; only channels that one of them changes are sorted again."""
        value = np.where(np.isfinite(seen.total), seen.most, -np.inf)
        changed = np.flatnonzero((value >= self.value[:, -1]).any(axis=0) & (value > -np.inf).any(axis=0))
        if not len(changed):
            return
        shape = (len(changed), len(numbers))
        number, known = np.broadcast_to(numbers, shape), np.isfinite(value[:, changed].T)
        new = Strongest(
            value[:, changed].T.astype(np.float64),
            np.where(known, number, -1),
            np.where(known, seen.place[:, changed].T, -1),
        )
        held = Strongest(self.value[changed], self.image[changed], self.place[changed]).merged(new)
        self.value[changed], self.image[changed], self.place[changed] = held.value, held.image, held.place

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Strongest:
        """What :meth:`arrays` told."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})
