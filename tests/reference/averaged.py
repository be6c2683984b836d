"""Gradients averaged over many points, as loops in float64: integrated gradients, SmoothGrad and its kin.

Gradients come from the explicit backward pass of ``reference.deconvnet``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reference import deconvnet
from reference.deconvnet import Rule
from reference.nets import Net

Array: TypeAlias = NDArray[np.float64]


def gradient(net: Net, image: Array, target: int, rule: Rule = "plain") -> Array:
    """The signal at one input from one number of the last layer."""
    trace = deconvnet.forward(net, image)
    return deconvnet.backward(net, trace, deconvnet.unit(trace.top.shape, (target,)), rule)


def score(net: Net, image: Array, target: int) -> float:
    """One number of the last layer."""
    return float(deconvnet.forward(net, image).top[target])


def integrated(
    net: Net, image: Array, baseline: Array, target: int, places: list[float], weights: list[float]
) -> Array:
    """Equation 1 of Sundararajan et al. 2017, the integral as a weighted sum of gradients."""
    total = np.zeros(image.shape)
    for place, weight in zip(places, weights, strict=True):
        total += weight * gradient(net, baseline + place * (image - baseline), target)
    return (image - baseline) * total


def bent(net: Net, image: Array, baseline: Array) -> list[float]:
    """Where on the way from ``baseline`` to ``image`` the net's slope may change, 0 and 1 included.

    Between two such places every rectifier and every switch stays as it is, so that the net is linear.
    They are found by halving intervals whose ends differ, down to 1e-12.
    """

    def state(place: float) -> list[Any]:
        trace = deconvnet.forward(net, baseline + place * (image - baseline))
        signs = [(value > 0).tobytes() for value in trace.values]
        return [signs, [switch.tobytes() for switch in trace.switches.values()]]

    found, open_intervals = [0.0, 1.0], [(k / 64, (k + 1) / 64) for k in range(64)]
    while open_intervals:
        low, high = open_intervals.pop()
        if state(low) == state(high):
            continue
        middle = (low + high) / 2
        if high - low < 1e-12:
            found.append(middle)
            continue
        open_intervals += [(low, middle), (middle, high)]
    return sorted(found)


def exactly(net: Net, image: Array, baseline: Array, target: int) -> Array:
    """The integral itself: the gradient inside each linear stretch, weighed by the stretch's length."""
    ends = bent(net, image, baseline)
    places = [(low + high) / 2 for low, high in pairwise(ends)]
    weights = [high - low for low, high in pairwise(ends)]
    return integrated(net, image, baseline, target, places, weights)


def smoothed(net: Net, copies: list[Array], target: int, statistic: str, rule: Rule = "plain") -> Array:
    """SmoothGrad (section 3 of Smilkov et al. 2017), VarGrad or SmoothGrad squared over noisy copies."""
    gradients = [gradient(net, copy, target, rule) for copy in copies]
    mean = np.zeros(copies[0].shape)
    for each in gradients:
        mean += each / len(gradients)
    if statistic == "mean":
        return mean
    found = np.zeros(mean.shape)
    for each in gradients:
        found += (each - (mean if statistic == "variance" else 0.0)) ** 2 / len(gradients)
    return found
