"""Which channels tell which class apart, and how much of that chance alone would show.

Everything here is about an image's largest value of a channel, from the moments that a recording keeps of
each class. A class mean that lies far above the mean of all images need not mean anything: with few images
a class, one image on which a rare channel fires is enough. So each difference is held against what would
come about if the labels were dealt out anew: for a class of n images, by Bernstein's inequality for draws
without replacement (Hoeffding 1963; Bardenet & Maillard 2015), its mean exceeds the mean of all by

    t = (b l / 3 + sqrt((b l / 3)^2 + 2 n s^2 l)) / n,    l = log(1 / chance)

with no more than that chance, where s^2 is the variance over all images and b the distance from the mean
to the largest value. That holds for any distribution, so also for channels that fire once in a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import TYPE_CHECKING

import numpy as np

from convlens.attribution.sets.moderated import prior_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.byclass import ByClass

_FEWEST = 3  # images from which on two groups have a variance


@dataclass(frozen=True)
class Selectivity:
    """Of one layer.

    Attributes:
        separation: d', classes x channels: how far the mean of the class lies above that of all other images,
            in standard deviations within the two; those of single channels are drawn towards what is usual
            in the layer (Smyth 2004).
        noise: the d' that chance alone exceeds for any channel and class of the layer with no more than the
            given chance, classes x channels; infinite where nothing can be told.
        index: a channel's (highest - rest) / (highest + rest), of the class means (Morcos et al. 2018); NaN
            where a class mean is negative or unknown, or none is above zero.
        best: the class of the highest mean, one a channel.
    """

    separation: NDArray[np.float64]
    noise: NDArray[np.float64]
    index: NDArray[np.float64]
    best: NDArray[np.int64]


def selectivity_of(told: ByClass, largest: NDArray[np.float64], level: float) -> Selectivity:
    """How well the channels of a layer tell classes apart.

    Args:
        told: means and variances of each class; two classes or more.
        largest: the largest value of each channel.
        level: chance that anything in the layer is taken for selective by accident.
    """
    sound: NDArray[np.bool_] = np.isfinite(told.mean + told.variance).min(axis=0)
    mean, variance = np.where(sound, told.mean, 0.0), np.where(sound, told.variance, 0.0)
    images = told.images[:, None].astype(np.float64)
    whole = float(images.sum())
    share = images / whole
    centre = (share * mean).sum(axis=0)
    total = (images * (variance + (mean - centre) ** 2)).sum(axis=0)
    others = whole - images
    above = (mean - centre) * whole / others
    spread = np.maximum(total - images * others / whole * above**2, 0.0)
    deviation = _deviation(total, spread, whole)
    separation = np.divide(above, deviation, out=np.zeros_like(above), where=deviation > 0)
    needed = _bernstein(np.maximum(largest - centre, 0.0), total / whole, images, mean.size, level)
    noise = np.divide(
        needed * whole / others, deviation, out=np.full_like(above, inf), where=(deviation > 0) & sound
    )
    return Selectivity(separation, noise, _index(mean, sound), mean.argmax(axis=0))


def _deviation(total: NDArray[np.float64], spread: NDArray[np.float64], whole: float) -> NDArray[np.float64]:
    """Standard deviation within a class and the rest, classes x channels, drawn towards the usual one."""
    if whole < _FEWEST:
        return np.zeros_like(spread)
    own = whole - 2
    prior, usual = prior_of(total / (whole - 1), whole - 1)
    if prior == inf:
        return np.full_like(spread, np.sqrt(usual))
    return np.asarray(np.sqrt((prior * usual + spread) / (prior + own)))


def _bernstein(
    reach: NDArray[np.float64],
    variance: NDArray[np.float64],
    images: NDArray[np.float64],
    tests: int,
    level: float,
) -> NDArray[np.float64]:
    """What the mean of ``images`` drawn of all lies above the mean of all by chance, classes x channels."""
    rarity = log(tests / level)
    linear = reach * rarity / 3
    return np.asarray((linear + np.sqrt(linear**2 + 2 * images * variance * rarity)) / images)


def _index(mean: NDArray[np.float64], sound: NDArray[np.bool_]) -> NDArray[np.float64]:
    highest = mean.max(axis=0)
    rest = (mean.sum(axis=0) - highest) / (len(mean) - 1)
    known = sound & (mean.min(axis=0) >= 0) & (highest > 0)
    index: NDArray[np.float64] = np.full(rest.shape, np.nan)
    np.divide(highest - rest, highest + rest, out=index, where=known)
    return index
