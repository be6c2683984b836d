"""Small pictures of one unit each: the signal that it sends back, and the part of an input that it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import Scale, as_colour
from convlens.pictures.layout import channels_last, photo
from convlens.pictures.scenes import reduced, scene

if TYPE_CHECKING:
    from convlens.results import Result

_EMPTY = (238, 238, 240)


def signal_tile(signal: NDArray[Any], box: Sequence[int], hints: Mapping[str, Any], side: int) -> Image.Image:
    """What arrives at a photo from one unit, in the photo's colours, cut to what the unit sees.

    Args:
        signal: in the input's shape, without the batch axis.
        box: top, left, bottom, right.
        hints: the Result's, with ``layout`` and ``channels``.
        side: of the square, in pixels.
    """
    top, left, bottom, right = (int(v) for v in box)
    layout, colours = hints.get("layout", "NCHW"), hints.get("channels", "RGB")
    shown = channels_last(signal.astype(np.float64), layout, colours)
    if shown.shape[2] != 3:  # no colours: one grey picture
        with np.errstate(invalid="ignore"):  # infinities of both signs: no number, drawn grey
            shown = shown.sum(axis=2, keepdims=True).repeat(3, axis=2)
    return fitted(Image.fromarray(as_colour(shown[top:bottom, left:right])), side)


def patch_tile(view: NDArray[Any], box: Sequence[int], side: int) -> Image.Image:
    """The part of a photo that a unit sees."""
    top, left, bottom, right = (int(v) for v in box)
    return fitted(photo(view).crop((left, top, right, bottom)), side)


def fitted(image: Image.Image | None, side: int) -> Image.Image:
    """A picture in the middle of a square, as large as it can be; an empty square without one."""
    square = Image.new("RGB", (side, side), _EMPTY)
    if image is not None:
        scale = side / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        how = Image.Resampling.BICUBIC if scale < 4 else Image.Resampling.NEAREST
        square.paste(image.resize(size, how), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def signal_scene(
    result: Result, signal: NDArray[Any], image: int, box: Sequence[int], scale: Scale
) -> Image.Image:
    """What arrives at an input that is no photo, over all of it, with a box around what the unit sees."""
    info = result.hints["input"]
    count, half = len(info["spatial"]), len(box) // 2
    values = reduced(signal.astype(np.float64), info, "signed")
    top = np.where(np.isfinite(values), np.abs(values), 0.0).max() or 1.0
    start, end = [int(v) for v in box[half - count : half]], [int(v) for v in box[2 * half - count :]]
    own = {**result.hints["each"][image], "marks": [{"from": start, "to": end, "effect": "rises"}]}
    return scene(info, values / top, result.arrays["input"][image], scale, own, small=True)


def alike(tiles: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures on white pages of one size, that of the largest."""
    side = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    pages = [Image.new("RGB", side, "white") for _ in tiles]
    for page, tile in zip(pages, tiles, strict=True):
        page.paste(tile, (0, 0))
    return pages
