"""Where the search for a picture starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convlens.errors import ParameterError, nearest
from convlens.images import read_image
from convlens.synthesis.canvas import Canvas, resample

if TYPE_CHECKING:
    from convlens.model import Model

_GREY = 0.5
_SPREAD = 0.01
"""Standard deviation of the noise around grey, in units of the picture: visible only when magnified."""


def grey(canvas: Canvas, count: int, seed: int) -> Tensor:
    """The middle of the range of photos, zero for anything else; ``seed`` does not matter."""
    del seed
    value = _GREY if canvas.photo else 0.0
    return torch.full((count, canvas.channels, *canvas.size), value, dtype=getattr(torch, canvas.dtype))


def noise(canvas: Canvas, count: int, seed: int) -> Tensor:
    """Normal noise around grey, the same for each picture, so that a picture does not depend on its row."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(1, canvas.channels, *canvas.size, generator=generator, dtype=torch.float64)
    start = grey(canvas, count, seed)
    return start + _SPREAD * draw.to(start)


def mean(canvas: Canvas, count: int, seed: int) -> Tensor:
    """The photo that the model takes as zeros: the mean of its training; zero for anything else."""
    del seed
    start = grey(canvas, count, 0)
    if not canvas.photo:
        return start
    colours = [-shift / scale for shift, scale in zip(canvas.shift, canvas.scale, strict=True)]
    return (
        start.new_tensor(colours).clamp(0, 1).view(1, -1, *(1 for _ in canvas.size)).expand_as(start).clone()
    )


def black(canvas: Canvas, count: int, seed: int) -> Tensor:
    """Black photos, on which light strokes stand; zero for anything else."""
    return torch.zeros_like(grey(canvas, count, seed))


def white(canvas: Canvas, count: int, seed: int) -> Tensor:
    """White photos, on which dark strokes stand; zero for anything else."""
    return torch.full_like(grey(canvas, count, seed), 1.0 if canvas.photo else 0.0)


KINDS = {"noise": noise, "grey": grey, "mean": mean, "black": black, "white": white}
"""Starts that need no photo."""


def given(model: Model, canvas: Canvas, path: str, count: int) -> Tensor:
    """A photo in the size of the canvas, cut and scaled as the card says; an array where no photos go in.

    Args:
        model: the model.
        canvas: what a picture is.
        path: of the photo, or of the array as the model takes it.
        count: how many times.

    Raises:
        ParameterError: there is no such file, and no start of that name.
        ImageError: it cannot be read.
    """
    if not Path(path).is_file():
        hint = nearest(path, list(KINDS)) or ""
        raise ParameterError(
            f"start {path!r} is no file{hint}; expected {', '.join(KINDS)}, or the path of a photo"
        )
    if canvas.photo:
        height, width = canvas.size
        view = replace(model.preprocess, size=(height, width)).view(read_image(path))
        pixels = torch.from_numpy(view.copy()).movedim(-1, 0)[None]
        start = pixels.to(getattr(torch, canvas.dtype)) / 255
    else:
        start = canvas.picture(model.images(path).array[:1])
        start = start if tuple(start.shape[2:]) == canvas.size else resample(start, canvas.size)
    return start.expand(count, *start.shape[1:]).clone()
