"""A picture as a small network from coordinates to colours, which can be drawn at any size afterwards.

Compositional pattern-producing networks (Stanley 2007), optimised by gradients as in Mordvintsev et al. 2018,
"Differentiable Image Parameterizations", https://distill.pub/2018/differentiable-parameterizations/. What is
optimised are the network's weights; what they can draw is smooth, with sharp edges where it pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convlens.synthesis.canvas import Canvas

if TYPE_CHECKING:
    from convlens.synthesis.parametrise import Parametrisation

LAYERS = 8
WIDTH = 24

_SPREAD = math.sqrt(3.0)  # coordinates from here to minus here have a mean square of 1
_ARC, _SQUARE = 0.67, 0.60
"""Root mean square of arctan(x) and of its square, for normal x: with these, layers keep the scale."""


@dataclass
class Cppn:
    """Networks in the place of pictures, one a picture: matrices and shifts of every layer.

    Hidden layers have 24 units and hand on arctan and its square, so that a network can draw odd and even
    patterns; the last layer starts with zeros, so that the first picture is grey.
    """

    canvas: Canvas
    weights: tuple[Tensor, ...]

    @classmethod
    def of(cls, canvas: Canvas, seeds: Sequence[int]) -> Cppn:
        """The network that follows from each seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        dtype = getattr(torch, canvas.dtype)
        widths = [len(canvas.size), *[WIDTH] * LAYERS, canvas.channels]
        weights = []
        for number, (given, made) in enumerate(pairwise(widths)):
            given = given if number == 0 else 2 * given
            last = number == LAYERS
            drawn = [torch.randn(made, given, generator=one, dtype=torch.float64) for one in generators]
            matrix = torch.stack(drawn) / math.sqrt(given)
            matrix = torch.zeros_like(matrix) if last else matrix
            for array in (matrix, matrix.new_zeros(len(matrix), made, 1)):
                weights.append(array.to(dtype).requires_grad_())
        return cls(canvas, tuple(weights))

    @property
    def leaves(self) -> Sequence[Tensor]:
        """Matrix and shift of each layer, N x units x inputs and N x units x 1."""
        return self.weights

    def pictures(self) -> Tensor:
        """Drawn at the size of the canvas."""
        return self.drawn(self.canvas.size)

    def drawn(self, size: tuple[int, ...]) -> Tensor:
        """The same pictures with ``size`` pixels along each axis."""
        x = _coordinates(size, self.weights[0])[None]
        pairs = list(zip(self.weights[::2], self.weights[1::2], strict=True))
        for number, (matrix, offset) in enumerate(pairs):
            x = matrix @ x + offset
            if number < len(pairs) - 1:
                arc = torch.atan(x)
                x = torch.cat([arc / _ARC, arc**2 / _SQUARE], dim=1)
        made = x.view(len(x), self.canvas.channels, *size)
        return torch.sigmoid(made) if self.canvas.photo else made

    def put(self, pictures: Tensor) -> None:
        """Nothing: there is no way from a picture back to its network."""


def form(seeds: Sequence[int]) -> Callable[[Canvas, Tensor], Parametrisation]:
    """What makes the parametrisation of one picture a seed."""
    return lambda canvas, _pictures: Cppn.of(canvas, seeds)


def _coordinates(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Where each pixel's middle lies, axes x pixels; the longest axis goes over the whole spread."""
    longest = max(size)
    ends = [_SPREAD * length / longest for length in size]
    axes = [
        torch.linspace(-end + end / length, end - end / length, length, dtype=like.dtype, device=like.device)
        for end, length in zip(ends, size, strict=True)
    ]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])
