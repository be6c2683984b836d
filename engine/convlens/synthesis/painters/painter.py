"""The feed-forward network that paints a photo in one style: its form, and its twin in torch.

Strided convolutions, residual blocks and upsampling (Johnson, Alahi and Fei-Fei 2016, supplementary
material) with instance normalisation (Ulyanov, Vedaldi and Lempitsky 2016), reflected edges, and nearest
neighbours before a convolution where the original has a transposed one, which leaves a checkerboard (Odena,
Dumoulin and Olah 2016). :mod:`convlens.synthesis.painters.painting` writes the same form as ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPSILON = 1e-5
"""Added to the variance of a channel before it is divided by its root."""

LEAST = 5
"""Pixels of the smallest side of a photo: the widest edge that is reflected is 4."""


@dataclass(frozen=True)
class Piece:
    """A convolution with what stands around it.

    Attributes:
        name: of the convolution.
        inputs: channels that go in.
        outputs: channels that come out.
        kernel: side of the window; half of it is reflected at each edge.
        stride: pixels between two windows.
        grows: whether each pixel is doubled before it, and the size cut to that before ``halves`` more.
        halves: of what is grown: how many halvings are left afterwards.
        normed: whether each channel of each photo is normalised after it.
        rectified: whether negative numbers become zero at its end.
        begins: whether a residual block begins here; ``ends``, whether it is added up here.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    grows: bool = False
    halves: int = 0
    normed: bool = True
    rectified: bool = True
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True)
class Form:
    """How large a network is.

    Attributes:
        channels: colours of a photo, 1 or 3.
        width: channels at full size; twice and four times as many where the size is halved.
        blocks: residual blocks at a quarter of the size.
    """

    channels: int = 3
    width: int = 32
    blocks: int = 5

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The network from photo to picture; a sigmoid follows the last piece."""
        w = self.width
        found = [
            Piece("begin", self.channels, w, kernel=9),
            Piece("down1", w, 2 * w, stride=2),
            Piece("down2", 2 * w, 4 * w, stride=2),
        ]
        for number in range(1, self.blocks + 1):
            found.append(Piece(f"block{number}_a", 4 * w, 4 * w, begins=True))
            found.append(Piece(f"block{number}_b", 4 * w, 4 * w, rectified=False, ends=True))
        return (
            *found,
            Piece("up1", 4 * w, 2 * w, grows=True, halves=1),
            Piece("up2", 2 * w, w, grows=True),
            Piece("end", w, self.channels, kernel=9, normed=False, rectified=False),
        )


class Painter(nn.Module):
    """The network in torch: photos to pictures, both N x colours x height x width from 0 to 1."""

    def __init__(self, form: Form, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        """Draw the weights: of zero mean, their scale such that signals keep theirs (He et al. 2015)."""
        super().__init__()
        self.form = form
        source = torch.Generator().manual_seed(seed)
        for piece in form.pieces:
            count = piece.inputs * piece.kernel**2
            shape = (piece.outputs, piece.inputs, piece.kernel, piece.kernel)
            weight = torch.randn(shape, generator=source, dtype=torch.float64) * (2 / count) ** 0.5
            self._hold(f"{piece.name}_weight", weight.to(dtype))
            if piece.normed:
                self._hold(f"{piece.name}_scale", torch.ones(piece.outputs, dtype=dtype))
            self._hold(f"{piece.name}_bias", torch.zeros(piece.outputs, dtype=dtype))

    def forward(self, photos: Tensor) -> Tensor:
        """Paint; sides are :data:`LEAST` or more."""
        sizes = [tuple(photos.shape[2:])]
        x = inside = photos
        for piece in self.form.pieces:
            if piece.begins:
                inside = x
            if piece.grows:
                height, width = sizes[piece.halves]
                x = functional.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, :height, :width]
            x = self._computed(piece, x)
            if piece.ends:
                x = x + inside
            if piece.stride > 1:
                sizes.append(tuple(x.shape[2:]))
        return torch.sigmoid(x)

    def paint(self, photo: NDArray[Any]) -> NDArray[Any]:
        """One photo painted: colours x height x width from 0 to 1."""
        with torch.no_grad():
            given = torch.from_numpy(np.ascontiguousarray(photo[None])).to(next(self.parameters()))
            return np.asarray(self(given)[0].cpu().numpy())

    def _computed(self, piece: Piece, x: Tensor) -> Tensor:
        edge = piece.kernel // 2
        x = functional.pad(x, (edge,) * 4, mode="reflect")
        weight, bias = getattr(self, f"{piece.name}_weight"), getattr(self, f"{piece.name}_bias")
        if not piece.normed:  # a bias in front of a normalisation is taken away by it
            return functional.conv2d(x, weight, bias, piece.stride)
        x = functional.conv2d(x, weight, None, piece.stride)
        x = functional.instance_norm(x, weight=getattr(self, f"{piece.name}_scale"), bias=bias, eps=EPSILON)
        return functional.relu(x) if piece.rectified else x

    def _hold(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value))
