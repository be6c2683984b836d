"""Layer-wise relevance propagation as the papers write it: every layer as a matrix, every share as a number.

z_ij = x_i w_ij is the contribution of input i to output j, and R_i = sum_j share_ij R_j, with the shares of
Bach et al. 2015 (equations 58 and 60), Montavon et al. 2017 (z-B, w-square) and 2019 (gamma), Andéol et
al. 2021 (gamma for inputs and outputs of both signs) and Lapuschkin et al. 2019 (flat).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reference import deconvnet
from reference.nets import Conv, Dense, MaxPool, Net, Relu

Array: TypeAlias = NDArray[np.float64]
Share: TypeAlias = Callable[[Array, Array, Array, Array], Array]
"""(inputs, weights outputs x inputs, biases, relevance of the outputs) -> relevance of the inputs"""


def epsilon(size: float) -> Share:
    def share(x: Array, w: Array, b: Array, relevance: Array) -> Array:
        found = np.zeros_like(x)
        for j, row in enumerate(w):
            z = float((x * row).sum() + b[j])
            z += size if z >= 0 else -size
            if z != 0:
                found += x * row / z * relevance[j]
        return found

    return share


def alpha_beta(alpha: float, bias: bool = True) -> Share:
    def share(x: Array, w: Array, b: Array, relevance: Array) -> Array:
        found = np.zeros_like(x)
        for j, row in enumerate(w):
            z = x * row
            own = b[j] if bias else 0.0
            up, down = np.where(z > 0, z, 0), np.where(z < 0, z, 0)
            over, under = up.sum() + max(own, 0), down.sum() + min(own, 0)
            if over != 0:
                found += alpha * up / over * relevance[j]
            if under != 0:
                found -= (alpha - 1) * down / under * relevance[j]
        return found

    return share


def gamma(size: float) -> Share:
    def share(x: Array, w: Array, b: Array, relevance: Array) -> Array:
        found = np.zeros_like(x)
        for j, row in enumerate(w):
            z = x * row
            total = z.sum() + b[j]
            if total == 0:
                continue
            side = np.maximum if total > 0 else np.minimum
            favoured = z + size * side(z, 0)
            found += favoured / (favoured.sum() + b[j] + size * side(b[j], 0)) * relevance[j]
        return found

    return share


def box(low: Array, high: Array) -> Share:
    def share(x: Array, w: Array, _b: Array, relevance: Array) -> Array:
        found = np.zeros_like(x)
        for j, row in enumerate(w):
            z = x * row - low * np.maximum(row, 0) - high * np.minimum(row, 0)
            found += z / z.sum() * relevance[j]
        return found

    return share


def flat(x: Array, w: Array, _b: Array, relevance: Array) -> Array:
    """Every input that an output reads gets the same."""
    reads = (w != 0).astype(np.float64)
    found = np.zeros_like(x)
    for j, row in enumerate(reads):
        found += row / row.sum() * relevance[j]
    return found


def w_square(x: Array, w: Array, _b: Array, relevance: Array) -> Array:
    found = np.zeros_like(x)
    for j, row in enumerate(w):
        found += row**2 / (row**2).sum() * relevance[j]
    return found


def matrix(layer: Conv | Dense, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The weights of a layer on inputs of ``shape``, outputs x inputs, and one bias an output."""
    if isinstance(layer, Dense):
        return layer.weight.astype(np.float64), layer.bias.astype(np.float64)
    bare = Conv(layer.weight, np.zeros_like(layer.bias), layer.stride, layer.pad)
    size = int(np.prod(shape))
    columns = []
    for i in range(size):
        one = np.zeros(size)
        one[i] = 1
        columns.append(deconvnet.filtered(one.reshape(shape), bare))
    bias = np.broadcast_to(layer.bias.astype(np.float64)[:, None, None], columns[0].shape)
    return np.stack([column.reshape(-1) for column in columns], axis=1), bias.reshape(-1)


def propagate(
    net: Net, image: Array, top: Array, dense: Share, conv: Share, first: Share | None = None
) -> Array:
    """The relevance ``top`` of the last layer's values, handed down to the image.

    Rectifiers pass all of it, max pooling gives it to the winner.
    """
    trace = deconvnet.forward(net, image)
    relevance = top
    for index in reversed(range(len(net.layers))):
        layer, x = net.layers[index], trace.values[index]
        if isinstance(layer, Relu):
            continue
        if isinstance(layer, MaxPool):
            relevance = deconvnet.unpool(relevance, trace.switches[index], x.shape)
            continue
        share = dense if isinstance(layer, Dense) else conv
        share = first if index == 0 and first is not None else share
        found = share(x.reshape(-1), *matrix(layer, x.shape), relevance.reshape(-1))
        relevance = found.reshape(x.shape)
    return relevance
