"""Ten classes of the bundled classifier under the default preset, from noise: reached, and robustly so."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.registry import Images

CLASSES = {
    1: "goldfish",
    130: "flamingo",
    281: "tabby",
    340: "zebra",
    402: "acoustic guitar",
    417: "balloon",
    574: "golf ball",
    817: "sports car",
    932: "pretzel",
    985: "daisy",
}
COPIES = 24
SHIFT, SCALE = 16, 0.15


def copies(view: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Scaled by 0.85 to 1.15 with Pillow's bicubic filter, cut or laid on grey, moved by whole pixels."""
    rng = np.random.default_rng(seed)
    side = len(view)
    found = []
    for _ in range(COPIES):
        length = round(side * rng.uniform(1 - SCALE, 1 + SCALE))
        scaled = np.asarray(Image.fromarray(view).resize((length, length), Image.Resampling.BICUBIC))
        board = np.full((3 * side, 3 * side, 3), 128, np.uint8)
        corner = (3 * side - length) // 2
        board[corner : corner + length, corner : corner + length] = scaled
        down, right = side + rng.integers(-SHIFT, SHIFT + 1, 2)
        found.append(board[down : down + side, right : right + side])
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("index", CLASSES, ids=CLASSES.values())
def test_a_class_is_reached_and_keeps_when_moved(index: int) -> None:
    model = convlens.load("efficientnet-lite0", threads=1)
    found = model.run("visualise", None, index)
    (picture,) = found.array
    view = np.rint(picture.clip(0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
    views = np.concatenate([view[None], copies(view, 1000 + index)])
    names = tuple(str(number) for number in range(len(views)))
    share = model.probabilities(Images(model.preprocess.array(views), names))[:, index]
    assert share[0] > 0.9
    assert found.rows[0]["probability"] == pytest.approx(share[0], abs=0.02)  # rounded to 8 bits here
    assert share[1:].min() > 0.5
