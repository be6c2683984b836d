"""Small changes of a picture at every step, so that what is found holds under all of them.

A picture that excites a unit only at one exact place is noise to a person (Olah et al. 2017; Mordvintsev
et al. 2015 for jitter). Shifts, sizes and angles are drawn anew at each step, from the seed and the number
of the step alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional

from convlens.synthesis.canvas import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Robustness:
    """How far a picture is moved at each step.

    Attributes:
        jitter: largest shift along each axis, in pixels.
        scale: largest change of size, as a share: 0.1 is between 0.9 and 1.1.
        rotate: largest angle, in degrees; only for pictures of two axes.
        crop: largest share of each side that is cut away; what is left is brought to the full size.
    """

    jitter: int = 0
    scale: float = 0.0
    rotate: float = 0.0
    crop: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing is changed."""
        return not (self.jitter or self.scale or self.rotate or self.crop)

    def moved(self, pictures: Tensor, seed: int, step: int, border: float) -> Tensor:
        """The pictures as this step shows them, in their own size; ``border`` is what lies around them."""
        if self.idle:
            return pictures
        rng = np.random.default_rng((seed, step, 1))
        space = pictures.ndim - 2
        shift = rng.integers(-self.jitter, self.jitter + 1, space)
        size = float(rng.uniform(1 - self.scale, 1 + self.scale))
        angle = float(np.radians(rng.uniform(-self.rotate, self.rotate)))
        if space != 2 or (size == 1.0 and angle == 0.0):
            moved = _shifted(pictures, shift.tolist(), border)
        else:
            moved = _warped(pictures, shift.tolist(), size, angle, border)
        return _cropped(moved, rng.uniform(0, self.crop), rng.uniform(size=space)) if self.crop else moved


def _shifted(pictures: Tensor, shift: Sequence[int], border: float) -> Tensor:
    """Moved by whole pixels; what comes in is ``border``."""
    pads: list[int] = []
    for amount in reversed(shift):
        pads += [amount, -amount]
    return functional.pad(pictures, pads, value=border)


def _cropped(pictures: Tensor, share: float, place: NDArray[np.float64]) -> Tensor:
    """A window whose sides are shorter by ``share``, brought back to the full size.

    ``place`` says where it lies along each axis, from 0 (at the start) to 1 (at the end).
    """
    size = tuple(pictures.shape[2:])
    window: list[slice] = [slice(None), slice(None)]
    for length, at in zip(size, place.tolist(), strict=True):
        kept = max(1, round(length * (1 - share)))
        first = round(at * (length - kept))
        window.append(slice(first, first + kept))
    return resample(pictures[tuple(window)], size)


def _warped(pictures: Tensor, shift: Sequence[int], size: float, angle: float, border: float) -> Tensor:
    """Turned about the middle, enlarged by ``size`` and moved, by linear interpolation."""
    height, width = pictures.shape[2:]
    cos, sin = float(np.cos(angle)) / size, float(np.sin(angle)) / size
    aspect = width / height
    theta = [
        [cos, -sin / aspect, -2 * shift[1] / width],
        [sin * aspect, cos, -2 * shift[0] / height],
    ]
    matrix = pictures.new_tensor(theta)[None].expand(len(pictures), 2, 3)
    grid = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures - border, grid, padding_mode="zeros", align_corners=False)
    return moved + border
