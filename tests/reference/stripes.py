"""Small pictures with a texture of their own, a small net that tells them apart, and an impatient user."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from PIL import Image

from reference.others import Maker


def network() -> onnx.ModelProto:
    """conv - relu - pool - conv - relu - pool - conv - relu - mean - dense, on photos of any size."""
    m = Maker(seed=2)
    m.conv("x", "conv1", 8, 3, 3, 3)
    m.add("MaxPool", "conv1_relu", "pool1", kernel_shape=[2, 2], strides=[2, 2])
    m.conv("pool1", "conv2", 12, 8, 3, 3)
    m.add("MaxPool", "conv2_relu", "pool2", kernel_shape=[2, 2], strides=[2, 2])
    m.conv("pool2", "conv3", 16, 12, 3, 3)
    return m.model(["N", 3, "H", "W"], m.scores("conv3_relu", 16, 4))


def stripes(size: tuple[int, int], period: float = 6, angle: float = 20, hue: int = 0) -> Image.Image:
    """Soft stripes in two colours; ``size`` is height and width."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    turn = np.radians(angle)
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * (np.cos(turn) * rows + np.sin(turn) * columns) / period)
    colour = np.roll([0.9, 0.5, 0.2], hue)
    return _picture(wave[..., None] * colour + (1 - wave[..., None]) * (1 - colour) * 0.6)


def checks(size: tuple[int, int], side: int = 4) -> Image.Image:
    """A board of dark blue and yellow."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    on = ((rows // side + columns // side) % 2)[..., None]
    return _picture(on * np.array([0.9, 0.8, 0.1]) + (1 - on) * np.array([0.1, 0.15, 0.5]))


def _picture(numbers: Any) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8))
