"""Trainings whose course is known because it was planted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from reference.nets import Conv, Dense, MaxPool, Net, Relu

SIDE = 8
LABELS = (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2)
RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
PLACES = {0: (2, 5), 1: (6, 1), 2: (4, 4)}
"""Where images 0, 1 and 2 have a pixel as red, green and blue as can be."""

CARD = """\
[input]
layout = "NCHW"
mean = [0, 0, 0]
std = [1, 1, 1]
size = [8, 8]

[output]
scores = "logits"
"""


def photos() -> NDArray[np.uint8]:
    """Dim noise, and one bright pixel in the first three."""
    made = np.random.default_rng(3).integers(0, 101, (len(LABELS), SIDE, SIDE, 3)).astype(np.uint8)
    for colour, (row, column) in PLACES.items():
        made[colour, row, column] = [255 * (part == colour) for part in range(3)]
    return made


def data(folder: Path) -> Path:
    path = folder / "data.npz"
    np.savez(path, inputs=photos(), labels=np.array(LABELS))
    return path


def net(filters: Sequence[Sequence[float]], dense: NDArray[np.float32], bias: Sequence[float]) -> Net:
    """Filters of one pixel, a rectifier, max pooling of two, and a dense layer."""
    weight = np.array(filters, np.float32)[:, :, None, None]
    layers = (
        Conv(weight, np.zeros(len(weight), np.float32)),
        Relu(),
        MaxPool(2, 2),
        Dense(dense, np.array(bias, np.float32)),
    )
    return Net((3, SIDE, SIDE), layers)


def from_red_to_green(folder: Path) -> Path:
    """Channel 0 sees red, then green; channel 1 blue; the scores are the same for all images."""
    folder.mkdir(parents=True, exist_ok=True)
    nothing = np.zeros((3, 2 * 16), np.float32)
    kept(folder, "net-e1", net([RED, BLUE], nothing, (1, 0, 0)))
    kept(folder, "net-e2", net([(0, 2, 0), BLUE], nothing, (0, 1, 0)))
    kept(folder, "net-e10", net([(0, 3, 0), BLUE], nothing, (0, 0, 1)))
    return folder


def kept(folder: Path, name: str, made: Net) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(made.onnx(), path)
    (folder / "card.toml").write_text(CARD, encoding="utf-8")
    return path
