"""Whether a number is larger than a few others let expect, for many channels at once.

The moderated t-statistic of Smyth 2004 (https://doi.org/10.2202/1544-6115.1027): a handful of samples says
little of one channel's variance, but all channels together say what variances are like here. Each
variance is drawn towards that, as if ``prior`` further samples had shown it. How many, is estimated one
standard error to the careful side: with few channels and few samples the plain estimate now and then
takes all channels for the same, and finds what is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import exp, inf, lgamma, log, pi, sqrt, tan
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST = 1e-5  # of the median variance; what is smaller counts as this, or its logarithm would rule
_SURE = 1e8  # degrees of freedom at which Student's distribution is the normal one
_SHIFT = 10.0  # from which on the series of digamma and trigamma hold to the last digits


@dataclass(frozen=True)
class Reference:
    """What is known of each channel from samples of the background.

    Attributes:
        mean: of each channel.
        spread: standard deviation of each channel, drawn towards what is usual.
        count: samples.
        freedom: degrees of freedom behind ``spread``, those of the prior included.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    count: int
    freedom: float

    def score(self, value: NDArray[np.float64], images: int = 1) -> NDArray[np.float64]:
        """How many standard errors ``value``, the mean of so many images, lies above the background.

        Channels that do not vary at all anywhere have a score of zero.
        """
        error = self.spread * sqrt(1 / images + 1 / self.count)
        above = value - self.mean
        return np.divide(above, error, out=np.zeros_like(above), where=error > 0)

    def threshold(self, level: float) -> float:
        """The score that one channel or more of them exceeds with a chance of ``level`` (Bonferroni)."""
        return student(level / len(self.mean), self.freedom)


def reference(samples: NDArray[np.float64]) -> Reference:
    """The background's channels from samples x channels, at least two samples."""
    count = len(samples)
    own, variance = count - 1.0, samples.var(axis=0, ddof=1)
    prior, usual = prior_of(variance, own)
    if prior == inf:
        pooled = np.full_like(variance, usual)
        return Reference(samples.mean(axis=0), np.sqrt(pooled), count, inf)
    pooled = (prior * usual + own * variance) / (prior + own)
    return Reference(samples.mean(axis=0), np.sqrt(pooled), count, prior + own)


def prior_of(variance: NDArray[np.float64], own: float) -> tuple[float, float]:
    """Degrees of freedom and variance of the prior (Smyth 2004, section 6.2).

    Args:
        variance: of all channels.
        own: degrees of freedom behind each.
    """
    if len(variance) < 2 or not variance.any():
        return 0.0, float(variance.mean())
    varies = variance[variance > 0]  # silent channels say nothing of how others vary
    varies = np.maximum(varies, _SMALLEST * np.median(varies))
    logs = np.log(varies) - _digamma(own / 2) + log(own / 2)
    if len(logs) < 2:
        return 0.0, float(variance.mean())
    middle, apart = float(logs.mean()), float(logs.var(ddof=1))
    error = sqrt(max(0.0, float(((logs - middle) ** 4).mean()) - apart**2) / len(logs))
    beyond = apart + error - _trigamma(own / 2)
    if beyond <= 0:
        return inf, exp(middle)
    half = _inverse_trigamma(beyond)
    return 2 * half, exp(middle + _digamma(half) - log(half))


def student(chance: float, freedom: float) -> float:
    """What Student's t exceeds with this ``chance``, up to a half.

    The tail is integrated as a power of a cosine: with t = sqrt(freedom) tan(angle) the density is
    cos(angle)^(freedom - 1), which is smooth up to its end.
    """
    freedom = min(freedom, _SURE)
    nodes, weights = _nodes()
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)

    def tail(angle: float) -> float:
        # the power falls off within a few of its own widths, which are narrow for many degrees of freedom
        end = min(pi / 2, angle + 40 / sqrt(freedom))
        half = (end - angle) / 2
        return float(scale * half * (weights * np.cos(angle + half * (1 + nodes)) ** (freedom - 1)).sum())

    low, high = 0.0, pi / 2
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > chance else (low, middle)
    return sqrt(freedom) * tan(low)


@cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places and weights of an integral from -1 to 1 (Gauss and Legendre)."""
    return np.polynomial.legendre.leggauss(200)


def _digamma(x: float) -> float:
    """The logarithmic derivative of the gamma function, x > 0."""
    found = 0.0
    while x < _SHIFT:
        found -= 1 / x
        x += 1
    square = 1 / (x * x)
    return (
        found + log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    )


def _trigamma(x: float) -> float:
    """The derivative of :func:`_digamma`, x > 0."""
    found = 0.0
    while x < _SHIFT:
        found += 1 / (x * x)
        x += 1
    square = 1 / (x * x)
    series = 1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))
    return found + 1 / x + square / 2 + square / x * series


def _inverse_trigamma(value: float) -> float:
    """Where the trigamma function has this value; it falls all the way from infinity to zero."""
    low, high = 1e-8, 1e8
    for _ in range(200):
        middle = sqrt(low * high)
        low, high = (middle, high) if _trigamma(middle) > value else (low, middle)
    return low
