"""What is optimised in a picture's place: numbers from which the picture follows.

Each parametrisation holds leaf tensors and makes N pictures from them, N x channels x spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from convlens.synthesis.canvas import Canvas, resample

_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Root of the covariance of red, green and blue in ImageNet's photos (Olah et al. 2017, appendix)."""

_EDGE = 1e-3  # how close to black and white a start may come before its logit is taken


class Parametrisation(Protocol):
    """Leaves, and the pictures that follow from them."""

    @property
    def leaves(self) -> Sequence[Tensor]:
        """What the optimiser changes."""

    def pictures(self) -> Tensor:
        """N pictures, differentiable with respect to the leaves."""

    def put(self, pictures: Tensor) -> None:
        """Make the leaves stand for these pictures, as far as they can."""


@runtime_checkable
class Settling(Protocol):
    """A parametrisation whose leaves are brought back to where they may be after each step."""

    def settle(self, step: int) -> None:
        """Do it after step number ``step``, from 0."""


@dataclass
class Pixels:
    """The picture's own numbers (Erhan 2009; Simonyan et al. 2014)."""

    canvas: Canvas
    leaf: Tensor

    @classmethod
    def of(cls, canvas: Canvas, start: Tensor) -> Pixels:
        """Start from ``start``, N pictures."""
        plain = start.clone(memory_format=torch.contiguous_format)  # L-BFGS takes no other
        return cls(canvas, plain.requires_grad_())

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The pictures themselves."""
        return (self.leaf,)

    def pictures(self) -> Tensor:
        """As they are."""
        return self.leaf

    def put(self, pictures: Tensor) -> None:
        """Take them over; photos stay between black and white."""
        with torch.no_grad():
            self.leaf.copy_(pictures.clamp(0, 1) if self.canvas.photo else pictures)


@dataclass
class Fourier:
    """Frequencies scaled to equal energy, in decorrelated colours (Olah et al. 2017).

    A step of the optimiser then changes all frequencies alike, where in pixels the high ones win.
    """

    canvas: Canvas
    leaf: Tensor
    size: tuple[int, ...]

    @classmethod
    def of(cls, canvas: Canvas, start: Tensor) -> Fourier:
        """Start from ``start``, N pictures."""
        made = cls(canvas, torch.view_as_real(_rfftn(start)).clone(), tuple(start.shape[2:]))
        made.put(start)
        made.leaf.requires_grad_()
        return made

    @property
    def leaves(self) -> Sequence[Tensor]:
        """Real and imaginary parts of every frequency, before scaling."""
        return (self.leaf,)

    def pictures(self) -> Tensor:
        """The inverse transform, in colours, between black and white for photos."""
        spectrum = torch.view_as_complex(self.leaf) * _energy(self.size, self.leaf)
        axes = tuple(range(2, 2 + len(self.size)))
        found = torch.fft.irfftn(spectrum, s=self.size, dim=axes, norm="ortho")
        return _coloured(found, self.canvas)

    def put(self, pictures: Tensor) -> None:
        """The spectrum of these pictures."""
        with torch.no_grad():
            spectrum = _rfftn(_uncoloured(pictures, self.canvas))
            self.leaf.copy_(torch.view_as_real(spectrum / _energy(self.size, self.leaf)))


@dataclass
class Laplacian:
    """A sum of pictures, each half as large as the one before (Mordvintsev et al. 2015)."""

    canvas: Canvas
    levels: tuple[Tensor, ...]
    size: tuple[int, ...]

    @classmethod
    def of(cls, canvas: Canvas, start: Tensor) -> Laplacian:
        """Start from ``start``, N pictures; levels down to eight numbers a side."""
        size = tuple(start.shape[2:])
        levels, side = [], size
        while True:
            levels.append(start.new_zeros(*start.shape[:2], *side))
            if min(side) < 16:
                break
            side = tuple((length + 1) // 2 for length in side)
        made = cls(canvas, tuple(levels), size)
        made.put(start)
        for level in made.levels:
            level.requires_grad_()
        return made

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The levels, the finest first."""
        return self.levels

    def pictures(self) -> Tensor:
        """All levels brought to the full size and added."""
        total = sum((resample(level, self.size) for level in self.levels[1:]), self.levels[0])
        return _coloured(total, self.canvas)

    def put(self, pictures: Tensor) -> None:
        """Split these pictures by scale."""
        with torch.no_grad():
            left = _uncoloured(pictures, self.canvas)
            for level, coarser in zip(self.levels, [*self.levels[1:], None], strict=True):
                if coarser is None:
                    level.copy_(resample(left, tuple(level.shape[2:])))
                    break
                below = resample(left, tuple(coarser.shape[2:]))
                level.copy_(left - resample(below, tuple(left.shape[2:])))
                left = below


KINDS: dict[str, Callable[[Canvas, Tensor], Parametrisation]] = {
    "pixels": Pixels.of,
    "fourier": Fourier.of,
    "laplacian": Laplacian.of,
}
"""The parametrisations that start from a picture."""


def _rfftn(pictures: Tensor) -> Tensor:
    found: Tensor = torch.fft.rfftn(pictures, dim=tuple(range(2, pictures.ndim)), norm="ortho")
    return found


def _energy(size: tuple[int, ...], like: Tensor) -> Tensor:
    """What a frequency f (cycles per sample) is multiplied by: 1 / 4f, f one cycle a side at least."""
    parts = [torch.fft.fftfreq(length, device=like.device, dtype=like.dtype) for length in size[:-1]]
    parts.append(torch.fft.rfftfreq(size[-1], device=like.device, dtype=like.dtype))
    squares = torch.zeros(*(len(part) for part in parts), device=like.device, dtype=like.dtype)
    for axis, part in enumerate(parts):
        squares = squares + (part**2).view([-1 if a == axis else 1 for a in range(len(parts))])
    return 0.25 / squares.sqrt().clamp(min=1.0 / max(size))


def _mixing(like: Tensor) -> Tensor:
    """From decorrelated colours to red, green, blue; the strongest direction has length 1."""
    mixing = like.new_tensor(_COLOURS)
    scaled: Tensor = mixing / mixing.norm(dim=0).max()
    return scaled


def _coloured(free: Tensor, canvas: Canvas) -> Tensor:
    """Unbounded, decorrelated numbers as a picture."""
    if not canvas.photo:
        return free
    if canvas.channels == 3:
        free = torch.einsum("nc...,dc->nd...", free, _mixing(free))
    return torch.sigmoid(free)


def _uncoloured(pictures: Tensor, canvas: Canvas) -> Tensor:
    """The way of :func:`_coloured` back."""
    if not canvas.photo:
        return pictures
    free = torch.logit(pictures.clamp(_EDGE, 1 - _EDGE))
    if canvas.channels == 3:
        free = torch.einsum("nc...,dc->nd...", free, torch.linalg.inv(_mixing(free)))
    return free


def smoothed(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures under a Gaussian of ``sigma`` pixels, borders reflected (repeated where a side is short)."""
    if sigma <= 0:
        return pictures
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=pictures.dtype, device=pictures.device)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    space = pictures.ndim - 2
    rows = pictures.flatten(0, 1)[:, None]
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[space]
    for axis in range(space):
        shape = [1, 1, *(len(kernel) if a == axis else 1 for a in range(space))]
        pads = [0] * (2 * space)
        pads[2 * (space - 1 - axis)] = pads[2 * (space - 1 - axis) + 1] = radius
        mode = "reflect" if radius < rows.shape[2 + axis] else "replicate"
        rows = convolve(functional.pad(rows, pads, mode=mode), kernel.view(shape))
    return rows.view(pictures.shape)
