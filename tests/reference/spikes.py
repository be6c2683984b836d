"""Channels against a background, one at a time: the moderated t-statistic of Smyth 2004 in plain loops.

The derivatives of the gamma function are added up term by term, and so is the tail of Student's density.
"""

from __future__ import annotations

from math import erfc, exp, inf, lgamma, log, pi, sqrt

import torch

TERMS = torch.arange(1_000_000, dtype=torch.float64)


def digamma(x: float) -> float:
    """psi(x) = log(x + n) - sum of 1 / (x + k), k < n, for n that grows (a half term better)."""
    end = x + len(TERMS)
    return log(end) - 0.5 / end - float((1 / (x + TERMS)).sum())


def trigamma(x: float) -> float:
    """psi'(x), the sum of 1 / (x + k)^2, the rest as an integral."""
    end = x + len(TERMS)
    return float(((x + TERMS) ** -2).sum()) + 1 / end + 0.5 / end**2


def inverse_trigamma(y: float) -> float:
    """Newton's way of Smyth 2004, appendix: 1 / psi' is convex and nearly linear."""
    x = 0.5 + 1 / y
    for _ in range(100):
        tri, slope = trigamma(x), -2 * float(((x + TERMS) ** -3).sum())
        step = tri * (1 - tri / y) / slope
        x += step
        if abs(step) < 1e-13 * x:
            break
    return x


def prior(variances: list[float], own: int) -> tuple[float, float]:
    """d0 and s0 squared (section 6.2), from variances above zero; d0 a standard error too small."""
    e = [log(v) - digamma(own / 2) + log(own / 2) for v in variances]
    mean = sum(e) / len(e)
    apart = sum((x - mean) ** 2 for x in e) / (len(e) - 1)
    fourth = sum((x - mean) ** 4 for x in e) / len(e)
    beyond = apart + sqrt(max(0.0, fourth - apart**2) / len(e)) - trigamma(own / 2)
    if beyond <= 0:
        return inf, exp(mean)
    d0 = 2 * inverse_trigamma(beyond)
    return d0, exp(mean + digamma(d0 / 2) - log(d0 / 2))


def scores(samples: list[list[float]], values: list[list[float]]) -> tuple[list[float], float]:
    """For each channel its moderated t (images against background), and the degrees of freedom.

    Args:
        samples: background inputs x channels.
        values: images x channels, tested as one sample.
    """
    m, n, own = len(samples), len(values), len(samples) - 1
    means, variances = [], []
    for k in range(len(samples[0])):
        column = [row[k] for row in samples]
        mean = sum(column) / m
        means.append(mean)
        variances.append(sum((x - mean) ** 2 for x in column) / own)
    varies = sorted(v for v in variances if v > 0)
    middle = (varies[(len(varies) - 1) // 2] + varies[len(varies) // 2]) / 2
    d0, usual = prior([max(v, 1e-5 * middle) for v in varies], own)
    found = []
    for k, variance in enumerate(variances):
        pooled = usual if d0 == inf else (d0 * usual + own * variance) / (d0 + own)
        value = sum(row[k] for row in values) / n
        found.append((value - means[k]) / sqrt(pooled * (1 / n + 1 / m)))
    return found, d0 + own


def tail(t: float, freedom: float, steps: int = 200_000, far: float = 4000.0) -> float:
    """The chance that Student's t exceeds ``t``, by trapezoids in the logarithm of t."""
    if freedom == inf:
        return 0.5 * erfc(t / sqrt(2))
    scale = lgamma((freedom + 1) / 2) - lgamma(freedom / 2) - 0.5 * log(freedom * pi)
    grid = torch.linspace(log(t), log(far * t), steps, dtype=torch.float64)
    x = grid.exp()
    density = torch.exp(scale - (freedom + 1) / 2 * torch.log1p(x * x / freedom)) * x
    return float(torch.trapezoid(density, grid))
