"""Whose colours a stylised picture has: two ways of keeping those of the photo.

Both are from Gatys, Bethge, Hertzmann & Shechtman 2016, "Preserving Color in Neural Artistic Style
Transfer": the style's colours are moved to those of the photo before anything else (section 3.1), or only
brightness is transferred (section 3.2). Pictures are N x 3 x height x width, red, green, blue from 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convlens.synthesis.canvas import Canvas
from convlens.synthesis.parametrise import Pixels

_WEIGHTS = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue: the Y of YIQ."""

_FLAT = 1e-6  # of the largest variance; below it a direction of colours holds nothing that could be stretched


def brightness(pictures: Tensor) -> Tensor:
    """Y of each pixel: N x 1 x height x width."""
    weights = pictures.new_tensor(_WEIGHTS).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def greyed(pictures: Tensor) -> Tensor:
    """Pictures without colour, still N x 3 x height x width."""
    return brightness(pictures).expand_as(pictures)


def as_bright(style: Tensor, photo: Tensor) -> Tensor:
    """The style in grey, with the mean and the spread of the photo's brightness."""
    own, wanted = brightness(style), brightness(photo)
    spread = own.std(correction=0)
    stretch = wanted.std(correction=0) / spread if float(spread) > 0 else spread
    return ((own - own.mean()) * stretch + wanted.mean()).expand_as(style)


def as_coloured(style: Tensor, photo: Tensor) -> Tensor:
    """The style with the mean and the covariance of the photo's colours, by a linear map of colours.

    The map is the symmetric one, root of the wanted covariance times inverse root of the present one.
    Directions in which the style has no colours, as all but one of a grey picture, stay empty.
    """
    mean, covariance = _moments(style)
    wanted_mean, wanted = _moments(photo)
    turn = _power(wanted, 0.5) @ _power(covariance, -0.5)
    flat = turn @ (style.flatten(2)[0].double() - mean[:, None]) + wanted_mean[:, None]
    return flat.to(style).view_as(style)


def recoloured(photo: Tensor, pictures: Tensor) -> Tensor:
    """The photo with the brightness of grey pictures.

    Red, green and blue of a pixel are moved by one and the same amount, which leaves I and Q as they are;
    where that would leave the range of colours, by as much as there is room for.
    """
    change = brightness(pictures) - brightness(photo)
    room = 1 - photo.amax(dim=1, keepdim=True)
    change = torch.maximum(torch.minimum(change, room), -photo.amin(dim=1, keepdim=True))
    return photo + change


class Grey(Pixels):
    """Pixels whose three colours are one."""

    @classmethod
    def of(cls, canvas: Canvas, start: Tensor) -> Grey:
        """Start from the mean colour of each pixel of ``start``."""
        return cls(canvas, start.mean(dim=1, keepdim=True).contiguous().requires_grad_())

    def pictures(self) -> Tensor:
        """As they are, three times."""
        return self.leaf.expand(-1, 3, -1, -1)

    def put(self, pictures: Tensor) -> None:
        """Take over the mean colour of each pixel."""
        super().put(pictures.mean(dim=1, keepdim=True))


def _moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, 3, and covariance, 3 x 3, of the colours of one picture, in double precision."""
    flat = picture[0].flatten(1).double()
    mean = flat.mean(dim=1)
    away = flat - mean[:, None]
    return mean, away @ away.T / flat.shape[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric matrix; what has no variance stays nothing."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > _FLAT * values.max().clamp(min=1e-30)
    powers = torch.where(kept, values.clamp(min=1e-30) ** exponent, torch.zeros_like(values))
    found: Tensor = vectors @ torch.diag(powers) @ vectors.T
    return found
