"""What textures and styles are made with: which layers, which sizes, and samples from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from convlens.errors import LayerError, ParameterError, UnsupportedError
from convlens.graph.layers import shape_text
from convlens.images import expand, read_image
from convlens.synthesis.canvas import resample
from convlens.synthesis.photos import photo
from convlens.synthesis.styles import gram

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas

_RESOLUTIONS = 5
_CONTENT_STRIDE = 8
_COARSEST = 128


def style_layers(model: Model, named: Sequence[str]) -> list[Layer]:
    """The layers whose Gram matrices count: those named, else the first rectified one of each resolution.

    Of at most five resolutions; in VGG16 they are relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, those of
    Gatys, Ecker & Bethge 2016.

    Raises:
        LayerError: a layer has no channels or no places.
        UnsupportedError: the model has no layer of the kind.
    """
    found = [model[name] for name in named]
    if not found:
        first: dict[tuple[float, ...], Layer] = {}
        for layer in _placed(model):
            assert layer.field is not None
            first.setdefault(layer.field.stride, layer)
        found = [first[stride] for stride in sorted(first)][:_RESOLUTIONS]
    gram.check(found)
    return found


def content_layers(model: Model, named: Sequence[str]) -> list[Layer]:
    """The layers whose values count: those named, else the second of the last resolution up to 1 in 8.

    The second rectified one, the first where there is no other; in VGG16 it is relu4_2, as in Gatys,
    Ecker & Bethge 2016.

    Raises:
        LayerError: there is no such layer.
        UnsupportedError: the model has no layer of the kind.
    """
    if named:
        return [model[name] for name in named]
    placed = _placed(model)
    near = [layer for layer in placed if layer.field and max(layer.field.stride) <= _CONTENT_STRIDE]
    chosen = near or placed[:1]
    last = chosen[-1].field
    alike = [layer for layer in chosen if layer.field and last and layer.field.stride == last.stride]
    return [alike[min(1, len(alike) - 1)]]


def _placed(model: Model) -> list[Layer]:
    layers = [
        layer
        for layer in model.layers.placed()
        if layer.field is not None and layer.channel_axis is not None and layer.spatial_axes
    ]
    if not layers:
        raise UnsupportedError(
            "the model has no layer whose units have a place in the input; textures and styles are means "
            "over places"
        )
    return layers


def shares(what: str, given: Sequence[float], count: int, of: str) -> list[float]:
    """Weights as shares of 1: those given, else all alike.

    Raises:
        ParameterError: another number of them, one below 0, or nothing but zeros.
    """
    if not given:
        return [1 / count] * count
    if len(given) != count:
        raise ParameterError(f"{len(given)} {what} for {count} {of}; give one each, or none")
    if any(not weight >= 0 for weight in given) or not 0 < sum(given) < float("inf"):
        text = ", ".join(f"{weight:g}" for weight in given)
        raise ParameterError(f"{what} {text}: expected numbers from 0 up, at least one above it")
    return [weight / sum(given) for weight in given]


def coarsest(layers: Sequence[Layer]) -> int:
    """How short a side may be at least: two units of the coarsest layer."""
    strides = [max(layer.field.stride) for layer in layers if layer.field is not None]
    return 2 * int(max(strides, default=1))


def pyramid(
    canvas: Canvas, size: tuple[int, ...], scales: int | None, steps: int, least: int
) -> list[tuple[tuple[int, ...], int]]:
    """Sizes from coarse to full, each twice the one before, with their steps.

    From coarse to fine, as in Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer",
    section 6; each size gets as many steps, the last one what is left over, too.

    Args:
        canvas: what a picture is.
        size: the full one.
        scales: how many; None begins where the longest side of a photo is 128 at most, and takes anything
            else, whose numbers mean something at their own rate only, as it is.
        steps: of all stages together.
        least: no side becomes shorter, unless it is already.
    """
    count = 1
    while canvas.photo and (max(size) >> (count - 1)) > _COARSEST and scales is None:
        count += 1
    count = count if scales is None else scales
    while count > 1 and (min(size) >> (count - 1)) < least:
        count -= 1
    count = min(count, steps)
    parts = [*[steps // count] * (count - 1), steps - steps // count * (count - 1)]
    sizes = [tuple(max(1, round(n / 2**number)) for n in size) for number in reversed(range(count))]
    return list(zip(sizes, parts, strict=True))


def brought(picture: Tensor, side: int) -> Tensor:
    """A picture whose longest side is ``side``, in its own proportions."""
    longest = max(picture.shape[2:])
    return resized(picture, tuple(max(1, round(length * side / longest)) for length in picture.shape[2:]))


def resized(picture: Tensor, size: tuple[int, ...]) -> Tensor:
    """A picture of the given size."""
    return picture if size == tuple(picture.shape[2:]) else resample(picture, size)


def at_least(picture: Tensor, side: int) -> Tensor:
    """A picture enlarged, where it is smaller, until its shortest side is ``side``."""
    shortest = min(picture.shape[2:])
    return picture if shortest >= side else brought(picture, -(-max(picture.shape[2:]) * side // shortest))


def read_sample(model: Model, canvas: Canvas, path: str) -> Tensor:
    """What lies at ``path``, as a picture at its own size: a photo, or whatever the model takes.

    Raises:
        UsageError: there is no such file.
        ImageError: it cannot be read, or does not fit the model.
        ParameterError: it holds several.
    """
    if canvas.photo:
        files = expand([path])
        if len(files) != 1:
            raise ParameterError(f"{path} holds {len(files)} pictures; expected one")
        return photo(np.asarray(read_image(files[0]).convert("RGB")), canvas)
    given = model.images(path)
    if len(given) != 1:
        raise ParameterError(f"{path} holds {len(given)} inputs; expected one")
    return canvas.picture(given.array)


def read_mask(canvas: Canvas, path: str, size: tuple[int, ...]) -> Tensor:
    """A mask from a picture, white where it holds, as numbers from 0 to 1 in the given size.

    Raises:
        UsageError: there is no such file.
        ImageError: it cannot be read.
        ParameterError: it is black all over, or the model takes no pictures.
    """
    if not canvas.photo:
        raise ParameterError("masks are pictures over photos, and the model takes none")
    image = read_image(expand([path])[0]).convert("L")
    whole = torch.from_numpy(np.array(image, np.float32) / 255)[None, None]
    mask = resample(whole, size)[0, 0].clamp(0, 1).to(getattr(torch, canvas.dtype))
    if not bool(mask.any()):
        raise ParameterError(f"mask {Path(path).name} is black all over; white is where a style goes")
    return mask


def check_masked(layers: Sequence[Layer], space: int, what: str) -> None:
    """Refuse layers over which a mask cannot be laid; ``what`` needs one.

    Raises:
        LayerError: one has lost an axis of the picture.
    """
    for layer in layers:
        if len(layer.spatial_axes) != space:
            raise LayerError(
                f"layer {layer.alias!r} ({shape_text(layer.shape)}) has lost an axis of the picture; {what} "
                "need all of them"
            )


def said_of_size(canvas: Canvas, sizes: Sequence[tuple[int, ...]]) -> list[str]:
    """What a person should know of a model that takes one size only."""
    fixed = canvas.fixed
    if all(own is None or own == n for size in sizes for own, n in zip(fixed, size, strict=True)):
        return []
    text = shape_text(tuple("any" if own is None else own for own in fixed))
    return [
        f"the model takes {text} only, so that pictures and samples of other sizes are resampled on the way "
        "in and their detail is seen as coarse as that"
    ]
