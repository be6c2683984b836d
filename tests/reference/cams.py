"""Class activation maps from their papers: one image, one channel, one place at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reference import deconvnet
from reference.nets import Net

Array: TypeAlias = NDArray[np.float64]


def layer_and_gradient(net: Net, image: Array, name: str, target: int) -> tuple[Array, Array]:
    """A layer's value and the derivative of one class's score with respect to it."""
    part = net.until(name)
    value = deconvnet.forward(part, image).top
    rest = Net(value.shape, net.layers[len(part.layers) :])  # type: ignore[arg-type]
    trace = deconvnet.forward(rest, value)
    return value, deconvnet.backward(rest, trace, deconvnet.unit(trace.top.shape, (target,)), "plain")


def grad_cam(value: Array, gradient: Array) -> Array:
    """Selvaraju et al. 2017, equations 1 and 2, without the ReLU."""
    channels, height, width = value.shape
    found = np.zeros((height, width))
    for k in range(channels):
        alpha = 0.0
        for i in range(height):
            for j in range(width):
                alpha += gradient[k, i, j] / (height * width)
        found += alpha * value[k]
    return found


def grad_cam_plus_plus(value: Array, gradient: Array) -> Array:
    """Chattopadhay et al. 2018, equations 10 and 19, less the factor exp(score), without the ReLU.

    The class score is the exponential of the network's score, whose own second derivative vanishes.
    """
    channels, height, width = value.shape
    found = np.zeros((height, width))
    for k in range(channels):
        total = sum(value[k, a, b] for a in range(height) for b in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                first = gradient[k, i, j]
                below = 2 * first**2 + total * first**3
                alpha = first**2 / below if below != 0 else 0.0
                weight += alpha * max(first, 0.0)
        found += weight * value[k]
    return found


def layer_cam(value: Array, gradient: Array) -> Array:
    """Jiang et al. 2021, equations 5 to 7, without the last ReLU."""
    channels, height, width = value.shape
    found = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                found[i, j] += max(gradient[k, i, j], 0.0) * value[k, i, j]
    return found


def eigen_cam(value: Array, rounds: int = 2000) -> Array:
    """Muhammad & Yeasin 2020, section III: the first singular vector by repeated multiplication."""
    channels, height, width = value.shape
    places = np.array(
        [[value[k, i, j] for k in range(channels)] for i in range(height) for j in range(width)]
    )
    vector = np.ones(channels) + np.arange(channels) / 10
    for _ in range(rounds):
        vector = places.T @ (places @ vector)
        vector /= np.sqrt((vector**2).sum())
    found = (places @ vector).reshape(height, width)
    return -found if found.sum() < 0 else found


def stretched(coarse: Array, height: int, width: int) -> Array:
    """Bilinear, cells spread from edge to edge, each of them a square whose middle it stands for."""
    rows, columns = coarse.shape
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            r = min(max((y + 0.5) * rows / height - 0.5, 0.0), rows - 1)
            c = min(max((x + 0.5) * columns / width - 0.5, 0.0), columns - 1)
            i, j = min(int(r), max(rows - 2, 0)), min(int(c), max(columns - 2, 0))
            for a in {i, min(i + 1, rows - 1)}:
                for b in {j, min(j + 1, columns - 1)}:
                    found[y, x] += max(0.0, 1 - abs(r - a)) * max(0.0, 1 - abs(c - b)) * coarse[a, b]
    return found


def score_cam(
    image: Array, value: Array, read: Callable[[Array], float], softmax: bool = False
) -> tuple[Array, list[float]]:
    """Wang et al. 2020, definitions 3 and 4 (algorithm 1 with ``softmax``), no ReLU; and the weights."""
    empty = read(np.zeros_like(image))
    weights, counted = [], []
    for k in range(len(value)):
        mask = stretched(value[k], *image.shape[1:])
        span = mask.max() - mask.min()
        counted.append(span > 0)
        weights.append(read(image * (mask - mask.min()) / span) - empty if span > 0 else 0.0)
    if softmax:
        total = sum(exp(w) for w, own in zip(weights, counted, strict=True) if own)
        weights = [exp(w) / total if own else 0.0 for w, own in zip(weights, counted, strict=True)]
    found = np.zeros(value.shape[1:])
    for k, weight in enumerate(weights):
        found += weight * value[k]
    return found, weights
