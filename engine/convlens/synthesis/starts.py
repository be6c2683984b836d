"""Where the search for a picture starts."""

from __future__ import annotations

import torch
from torch import Tensor

from convlens.synthesis.canvas import Canvas

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


KINDS = {"noise": noise, "grey": grey, "mean": mean}
"""Starts that need no photo."""
