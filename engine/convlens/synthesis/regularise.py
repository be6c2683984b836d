"""What keeps a picture natural: penalties on it, and repairs of it after a step.

A penalty is a number per picture that is subtracted from the objective, times its weight; a repair
changes the picture itself every so many steps. Distances are from the recipe's ground, grey unless said
otherwise (zero where the input is no photo).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from convlens.synthesis.parametrise import smoothed

Penalty = Callable[[Tensor], Tensor]


def l2(offset: Tensor) -> Tensor:
    """Mean square (Simonyan et al. 2014, equation 1, per pixel)."""
    return (offset**2).flatten(1).mean(dim=1)


def l1(offset: Tensor) -> Tensor:
    """Mean magnitude, which empties what is not needed (Lee 2020, for digits)."""
    return offset.abs().flatten(1).mean(dim=1)


def p6(offset: Tensor) -> Tensor:
    """Mean sixth power, which bounds the range (Mahendran & Vedaldi 2015, section 3, alpha = 6)."""
    return (offset**6).flatten(1).mean(dim=1)


def tv(offset: Tensor) -> Tensor:
    """Total variation: mean length of the picture's own slope (Mahendran & Vedaldi 2015, beta = 1)."""
    return (_steepness(offset) + 1e-12).sqrt().flatten(1).mean(dim=1)


def tv2(offset: Tensor) -> Tensor:
    """Mean square of that length, which leaves no spikes (Mahendran & Vedaldi 2015, beta = 2)."""
    return _steepness(offset).flatten(1).mean(dim=1)


def _steepness(offset: Tensor) -> Tensor:
    """Square of the slope at each place, over all axes; outside, the picture goes on as it ends."""
    total = torch.zeros_like(offset)
    for axis in range(2, offset.ndim):
        step = offset.diff(dim=axis)
        lost = list(step.shape)
        lost[axis] = 1
        total = total + torch.cat([step, step.new_zeros(lost)], dim=axis) ** 2
    return total


PENALTIES: dict[str, Penalty] = {"l2": l2, "l1": l1, "p6": p6, "tv": tv, "tv2": tv2}


@dataclass(frozen=True)
class Repairs:
    """What is done to the picture after a step.

    Attributes:
        decay: share of the distance from grey that is lost at each step (Yosinski et al. 2015, L2 decay).
        blur: standard deviation of the Gaussian, in pixels; 0 for none.
        blur_every: steps between two blurs (Yosinski et al. 2015, section 3).
        small: share of the pixels, those of smallest magnitude, that are set to grey.
        idle: share of the pixels, those of smallest contribution (pixel times gradient), set to grey.
    """

    decay: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    small: float = 0.0
    idle: float = 0.0

    @property
    def none(self) -> bool:
        """Whether nothing is done."""
        return not (self.decay or self.blur or self.small or self.idle)

    def mended(self, pictures: Tensor, gradient: Tensor | None, step: int, middle: float) -> Tensor:
        """The pictures after step number ``step`` (from 0); ``gradient`` is the objective's."""
        offset = (pictures - middle) * (1 - self.decay)
        if self.blur and (step + 1) % self.blur_every == 0:
            offset = smoothed(offset, self.blur)
        if self.small:
            offset = _without_lowest(offset, offset.norm(dim=1, keepdim=True), self.small)
        if self.idle and gradient is not None:
            worth = (offset * gradient).sum(dim=1, keepdim=True).abs()
            offset = _without_lowest(offset, worth, self.idle)
        return offset + middle


def weakest_dropped(gradient: Tensor, share: float) -> Tensor:
    """A gradient without the given share of its places, those where it is weakest over the colours.

    Of each picture only the places that count most move at a step, so that a picture is built up from few
    strong marks; the counterpart for gradients of the clipping in Yosinski et al. 2015, section 3.
    """
    return _without_lowest(gradient, gradient.norm(dim=1, keepdim=True), share)


def _without_lowest(offset: Tensor, worth: Tensor, share: float) -> Tensor:
    """``offset`` with zeros at the given share of places, those of least ``worth``, picture by picture."""
    flat = worth.flatten(1)
    count = int(share * flat.shape[1])
    if not count:
        return offset
    bound = flat.kthvalue(count, dim=1).values.view(-1, *(1 for _ in worth.shape[1:]))
    return torch.where(worth <= bound, torch.zeros_like(offset), offset)
