"""What the model itself says of pictures that were made for a class, by onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from convlens.registry import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas

LOOKS = 16
"""Moved copies of each picture."""

_SHIFT = 1 / 14  # of the side: 16 of 224 pixels
_SCALE = 0.15


def class_probabilities(
    model: Model, canvas: Canvas, pictures: Tensor, classes: Sequence[int], batch_size: int
) -> NDArray[np.float64]:
    """The probability of its class for each picture, N."""
    with torch.no_grad():
        fed = canvas.feed(pictures).cpu().numpy()
    wanted = model.source.dtype
    array = fed if wanted in (None, fed.dtype.name) else fed.astype(wanted)
    names = tuple(str(row) for row in range(len(array)))
    found = model.probabilities(Images(array, names), batch_size)
    return np.asarray(found[np.arange(len(found)), list(classes)], np.float64)


def robust_probabilities(
    model: Model, canvas: Canvas, pictures: Tensor, classes: Sequence[int], batch_size: int, seed: int
) -> NDArray[np.float64]:
    """The same of copies in 8 bits, scaled by 0.85 to 1.15 and shifted by up to a fourteenth of the side.

    The copies are made by Pillow on grey ground, from random numbers of their own, so that none was seen in
    the search.

    Returns:
        N x 16.
    """
    found = []
    for row, view in enumerate(canvas.views(pictures)):
        copies = moved(view, LOOKS, seed)
        made = torch.from_numpy(copies).movedim(-1, 1).to(pictures) / 255
        found.append(class_probabilities(model, canvas, made, [classes[row]] * LOOKS, batch_size))
    return np.stack(found)


def moved(view: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """Copies of one photo, height x width x colours: scaled bicubically and shifted by whole pixels."""
    rng = np.random.default_rng((seed, 3))
    height, width = view.shape[:2]
    made = []
    for _ in range(count):
        size = rng.uniform(1 - _SCALE, 1 + _SCALE)
        down, right = (int(rng.integers(-round(n * _SHIFT), round(n * _SHIFT) + 1)) for n in (height, width))
        image = Image.fromarray(view.squeeze(-1) if view.shape[-1] == 1 else view)
        image = image.resize(
            (max(1, round(width * size)), max(1, round(height * size))), Image.Resampling.BICUBIC
        )
        ground = Image.new(image.mode, (width, height), (128,) * len(image.getbands()))
        ground.paste(image, ((width - image.width) // 2 + right, (height - image.height) // 2 + down))
        made.append(np.asarray(ground).reshape(view.shape))
    return np.stack(made)
