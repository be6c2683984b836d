"""Forward with switches, and three ways back, as explicit loops in float64.

The deconvnet follows Zeiler & Fergus 2014, section 2.1, layer by layer from the top: *unpool* (put
each pooled value where the switch says its maximum was), *rectify* (max(., 0) on the reconstruction)
and *filter* (the transposed filters). The gradient and guided backpropagation (Springenberg et al.
2015, section 3.4) differ from it in the rectifier alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reference.nets import Conv, Dense, MaxPool, Net, Relu

Array: TypeAlias = NDArray[np.float64]
Rule: TypeAlias = Literal["plain", "deconvnet", "guided"]
Overlap: TypeAlias = Literal["add", "overwrite"]


@dataclass(frozen=True, eq=False)
class Trace:
    """What one image left in the net: the input and every layer's value, and the switches of each pool."""

    values: tuple[Array, ...]
    switches: dict[int, NDArray[np.int64]]

    @property
    def top(self) -> Array:
        """The value of the last layer."""
        return self.values[-1]


def forward(net: Net, image: Array) -> Trace:
    """One image (channels x height x width) through the net."""
    values, switches = [np.asarray(image, np.float64)], {}
    for index, layer in enumerate(net.layers):
        x = values[-1]
        if isinstance(layer, Conv):
            values.append(filtered(x, layer))
        elif isinstance(layer, Relu):
            values.append(np.where(x > 0, x, 0.0))
        elif isinstance(layer, MaxPool):
            pooled, switches[index] = pool(x, layer)
            values.append(pooled)
        else:
            values.append(layer.weight.astype(np.float64) @ x.reshape(-1) + layer.bias.astype(np.float64))
    return Trace(tuple(values), switches)


def backward(net: Net, trace: Trace, signal: Array, rule: Rule, overlap: Overlap = "add") -> Array:
    """``signal`` at the top of the net, sent back to the input.

    Args:
        net: the net.
        trace: what :func:`forward` left.
        signal: in the shape of the last layer's value.
        rule: what a rectifier does.
        overlap: whether signals that meet in one place of an unpooled map add, or the last one stands.
    """
    for index in reversed(range(len(net.layers))):
        layer, x = net.layers[index], trace.values[index]
        if isinstance(layer, Conv):
            signal = transposed(signal, layer, x.shape)
        elif isinstance(layer, Relu):
            signal = rectified(signal, x, rule)
        elif isinstance(layer, MaxPool):
            signal = unpool(signal, trace.switches[index], x.shape, overlap)
        else:
            assert isinstance(layer, Dense)
            signal = (layer.weight.astype(np.float64).T @ signal).reshape(x.shape)
    return signal


def unit(shape: tuple[int, ...], index: tuple[int, ...]) -> Array:
    """1 at one unit, 0 elsewhere."""
    found = np.zeros(shape)
    found[index] = 1.0
    return found


def filtered(x: Array, layer: Conv) -> Array:
    """A convolution (a correlation, as networks have it), output by output."""
    weight = layer.weight.astype(np.float64)
    outputs, _, height, width = weight.shape
    padded = _padded(x, layer.pad)
    rows = (padded.shape[1] - height) // layer.stride + 1
    columns = (padded.shape[2] - width) // layer.stride + 1
    y = np.zeros((outputs, rows, columns))
    for o in range(outputs):
        for r in range(rows):
            for c in range(columns):
                top, left = r * layer.stride, c * layer.stride
                window = padded[:, top : top + height, left : left + width]
                y[o, r, c] = (window * weight[o]).sum() + float(layer.bias[o])
    return y


def transposed(signal: Array, layer: Conv, shape: tuple[int, ...]) -> Array:
    """Each output's signal laid down through its filter, at the place that the filter had read."""
    weight = layer.weight.astype(np.float64)
    _, _, height, width = weight.shape
    found = _padded(np.zeros(shape), layer.pad)
    for o, r, c in np.ndindex(signal.shape):
        top, left = r * layer.stride, c * layer.stride
        found[:, top : top + height, left : left + width] += signal[o, r, c] * weight[o]
    return found[:, layer.pad : layer.pad + shape[1], layer.pad : layer.pad + shape[2]]


def rectified(signal: Array, x: Array, rule: Rule) -> Array:
    """What a rectifier whose input was ``x`` passes of ``signal``."""
    found = np.zeros_like(signal)
    for place in np.ndindex(signal.shape):
        on = x[place] > 0
        positive = signal[place] > 0
        keep = {"plain": on, "deconvnet": positive, "guided": on and positive}[rule]
        found[place] = signal[place] if keep else 0.0
    return found


def pool(x: Array, layer: MaxPool) -> tuple[Array, NDArray[np.int64]]:
    """Max pooling, and the row and column of each maximum (the switches)."""
    channels, height, width = x.shape
    rows = (height - layer.kernel) // layer.stride + 1
    columns = (width - layer.kernel) // layer.stride + 1
    y = np.zeros((channels, rows, columns))
    switches = np.zeros((channels, rows, columns, 2), np.int64)
    for k in range(channels):
        for r in range(rows):
            for c in range(columns):
                best = -np.inf
                for i in range(r * layer.stride, r * layer.stride + layer.kernel):
                    for j in range(c * layer.stride, c * layer.stride + layer.kernel):
                        if x[k, i, j] > best:
                            best = x[k, i, j]
                            switches[k, r, c] = i, j
                y[k, r, c] = best
    return y, switches


def unpool(
    signal: Array, switches: NDArray[np.int64], shape: tuple[int, ...], overlap: Overlap = "add"
) -> Array:
    """Each pooled signal at the place of its maximum; windows are visited in reading order."""
    found = np.zeros(shape)
    for k, r, c in np.ndindex(signal.shape):
        i, j = switches[k, r, c]
        found[k, i, j] = signal[k, r, c] + (found[k, i, j] if overlap == "add" else 0.0)
    return found


def shared(switches: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Of how many windows each place is the maximum."""
    found = np.zeros(shape, np.int64)
    for k, r, c in np.ndindex(switches.shape[:3]):
        i, j = switches[k, r, c]
        found[k, i, j] += 1
    return found


def _padded(x: Array, pad: int) -> Array:
    return np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
