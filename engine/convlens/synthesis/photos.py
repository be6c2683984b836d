"""Photos at their own size, as pictures that a search can start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convlens.synthesis.canvas import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.registry import Images
    from convlens.synthesis.canvas import Canvas


def photo(pixels: NDArray[np.uint8], canvas: Canvas, side: int | None = None) -> Tensor:
    """A photo as a picture, 1 x colours x height x width from 0 to 1, grey where the model takes grey.

    Args:
        pixels: height x width x 3, red, green, blue, 8 bits.
        canvas: what a picture is.
        side: the longer side is brought down to it, where it is longer.
    """
    image = Image.fromarray(pixels).convert("L" if canvas.channels == 1 else "RGB")
    plane = np.asarray(image).reshape(image.height, image.width, canvas.channels)
    whole = torch.from_numpy(plane.copy()).movedim(-1, 0)[None].to(getattr(torch, canvas.dtype)) / 255
    return limited(whole, side)


def own(images: Images, index: int, canvas: Canvas, side: int | None = None) -> Tensor:
    """Image ``index`` as a picture: a photo at its own size, an array as the model takes it.

    Args:
        images: the batch.
        index: of the image in it.
        canvas: what a picture is.
        side: the longest side is brought down to it, where it is longer.

    Raises:
        ImageError: the file cannot be read any more.
    """
    if canvas.photo and images.origins is not None:
        return photo(images.photo(index), canvas, side)
    return limited(canvas.picture(images.array[index : index + 1]), side)


def limited(pictures: Tensor, side: int | None) -> Tensor:
    """Pictures whose longest side is at most ``side``, in their own proportions."""
    longest = max(pictures.shape[2:])
    if side is None or longest <= side:
        return pictures
    size = tuple(max(1, round(length * side / longest)) for length in pictures.shape[2:])
    return resample(pictures, size)
