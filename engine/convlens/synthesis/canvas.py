"""Between the picture that is optimised and the array that the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from convlens.errors import UnsupportedError
from convlens.graph.layers import shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model


@dataclass(frozen=True)
class Canvas:
    """What a picture is for one model, N x channels x its spatial axes.

    Of photos the channels are red, green, blue (or grey) and 0 to 1 is black to white; of anything
    else the numbers are those that the model takes.

    Attributes:
        channels: how many.
        size: length of each spatial axis, as the picture is optimised.
        fixed: the same as the model takes them; a picture of another size is resampled on the way.
        photo: whether it is a photo.
        scale: factor from pixel to input number, one a channel of the picture.
        shift: what is added after it.
        reverse: whether the model takes blue first.
        axes: the axes of the model's input in terms of the picture's (0 the batch, 1 channels, ...); -1
            for an axis of length 1 that is neither.
        dtype: of the numbers, ``float32`` or ``float64``.
        wrap: by how many pixels the picture is continued on each side by its other end before it goes in,
            so that the model sees it as one of many tiles.
    """

    channels: int
    size: tuple[int, ...]
    fixed: tuple[int | None, ...]
    photo: bool
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    reverse: bool
    axes: tuple[int, ...]
    dtype: str = "float32"
    wrap: int = 0

    def feed(self, picture: Tensor) -> Tensor:
        """The picture as the model takes it, differentiable."""
        if self.wrap:
            pads = [min(self.wrap, length) for length in reversed(picture.shape[2:]) for _ in range(2)]
            picture = functional.pad(picture, pads, mode="circular")
        wanted = tuple(o or s for o, s in zip(self.fixed, picture.shape[2:], strict=True))
        if wanted != tuple(picture.shape[2:]):
            picture = resample(picture, wanted)
        if self.photo:
            shape = (1, -1, *(1 for _ in self.size))
            x = picture * picture.new_tensor(self.scale).view(shape)
            x = x + picture.new_tensor(self.shift).view(shape)
            x = x.flip(1) if self.reverse else x
        else:
            x = picture
        x = x if 1 in self.axes else x[:, 0]
        held = [axis for axis in self.axes if axis >= 0]
        order = sorted(held)
        x = x.permute([order.index(axis) for axis in held])
        for place in (place for place, axis in enumerate(self.axes) if axis < 0):
            x = x.unsqueeze(place)
        return x

    def picture(self, array: NDArray[Any]) -> Tensor:
        """Arrays as the model takes them as pictures: the way of :meth:`feed` back."""
        x = torch.from_numpy(np.ascontiguousarray(array)).to(getattr(torch, self.dtype))
        x = x.squeeze([place for place, axis in enumerate(self.axes) if axis < 0])
        held = [axis for axis in self.axes if axis >= 0]
        x = x.permute([held.index(axis) for axis in sorted(held)])
        x = x if 1 in held else x[:, None]
        if not self.photo:
            return x
        x = x.flip(1) if self.reverse else x
        shape = (1, -1, *(1 for _ in self.size))
        x = (x - x.new_tensor(self.shift).view(shape)) / x.new_tensor(self.scale).view(shape)
        return x.clamp(0.0, 1.0)

    def views(self, picture: Tensor) -> NDArray[np.uint8]:
        """Photos as people look at them: N x height x width x channels, 8 bits."""
        pixels = picture.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.movedim(1, -1).cpu().numpy())


def canvas_for(model: Model, size: tuple[int, ...] | None = None, dtype: str = "float32") -> Canvas:
    """The canvas for a model.

    Args:
        model: the model.
        size: length of each spatial axis; the model's own, or the card's, without it.
        dtype: working precision.

    Raises:
        UnsupportedError: the input holds no real numbers, or an axis has no length and none is given.
        CardError: photos go in and the card does not say how.
    """
    source = model.source
    if source.dtype is not None and "float" not in source.dtype and not source.image:
        raise UnsupportedError(
            f"input {source.name!r} ({source.dtype}, {shape_text(source.shape)}) holds integers, which "
            "cannot be changed a little at a time; a picture can be sought where real numbers go in"
        )
    if source.image:
        prepare = model.preprocess
        count = 1 if prepare.channels == "GRAY" else 3
        span = prepare.high - prepare.low
        std = _each(prepare.std, count)
        mean = _each(prepare.mean, count)
        if prepare.channels == "BGR":
            std, mean = std[::-1], mean[::-1]
        fixed = source.size
        chosen = size or prepare.size
        return Canvas(
            count,
            chosen,
            fixed,
            True,
            tuple(span / s for s in std),
            tuple((prepare.low - m) / s for m, s in zip(mean, std, strict=True)),
            prepare.channels == "BGR",
            {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}.get(prepare.layout, (0, 2, 3)),
            dtype,
        )
    return _bare(model, size, dtype)


def _bare(model: Model, size: tuple[int, ...] | None, dtype: str) -> Canvas:
    """The canvas of an input that is no photo: its own numbers, channels first."""
    source = model.source
    own = source.numbers(size or model.card.input.size)
    if own is None or any(axis >= len(own) for axis in source.axes):
        example = {1: "16000", 3: "16,112,112"}.get(len(source.axes), "224,224")
        raise UnsupportedError(
            f"input {source.name!r} has no known shape; say its size, e.g. --size {example}"
        )
    spatial = source.spatial
    count = own[source.channel] if source.channel >= 0 and spatial else 1
    lengths = tuple(own[axis] for axis in source.axes)
    if spatial:
        order = {0: 0, **({source.channel: 1} if source.channel >= 0 else {})}
        order |= {axis: number for number, axis in enumerate(spatial, start=2)}
        alone = all(own[axis] == 1 for axis in range(len(own)) if axis not in order)
        axes = tuple(order.get(axis, -1) for axis in range(len(own))) if alone else ()
    else:
        axes = (0, 2)
    if not axes:
        raise UnsupportedError(
            f"input {source.name!r} ({shape_text(source.shape)}) has axes beside batch, channels and space"
        )
    fixed = source.size if spatial else lengths
    ones = (1.0,) * count
    return Canvas(count, lengths, fixed, False, ones, (0.0,) * count, False, axes, dtype)


def resample(picture: Tensor, size: tuple[int, ...]) -> Tensor:
    """A picture in another size, by linear interpolation along each spatial axis, without aliasing."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    smaller = any(new < old for new, old in zip(size, picture.shape[2:], strict=True))
    return functional.interpolate(
        picture, size=size, mode=mode, align_corners=False, antialias=smaller and len(size) == 2
    )


def _each(numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    return numbers * count if len(numbers) == 1 else numbers
