"""Arrays in a model's layout as height x width x channels in RGB order, and tiles on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.picture import font

_INK = (34, 34, 40)


def channels_last(array: NDArray[Any], layout: str, colours: str = "RGB") -> NDArray[Any]:
    """One input-shaped array (no batch axis) as height x width x channels, colours in RGB order."""
    moved = array if layout == "NHWC" else np.moveaxis(array, 0, -1)
    return moved[..., ::-1] if colours == "BGR" and moved.shape[-1] == 3 else moved


def placed(index: int | Sequence[int]) -> int | tuple[int, ...]:
    """An index as numpy takes it: several numbers are one for each axis, also where JSON made them a list."""
    return index if isinstance(index, int) else tuple(index)


def photo(view: NDArray[Any]) -> Image.Image:
    """What the model saw, as a picture."""
    return Image.fromarray(view.repeat(3, axis=2) if view.shape[2] == 1 else view[..., :3])


def as_photo(picture: NDArray[Any]) -> Image.Image:
    """Colours x height x width from 0 (black) to 1 (white), as a picture."""
    return photo(np.rint(np.clip(np.moveaxis(picture, 0, -1), 0, 1) * 255).astype(np.uint8))


def sheet(
    tiles: Sequence[Image.Image],
    columns: int,
    labels: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    gap: int = 2,
) -> Image.Image:
    """Tiles on a white sheet, each in the middle of its cell, with a text under each or before each row."""
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    under = 15 if labels is not None else 0
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    front = max((int(pen.textlength(text, font(11))) for text in rows), default=0) + 6 if rows else 0
    count = -(-len(tiles) // columns)
    size = (front + columns * (width + gap) - gap, count * (height + under + gap) - gap)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = front + column * (width + gap), row * (height + under + gap)
        page.paste(tile, (x + (width - tile.width) // 2, y + (height - tile.height) // 2))
        if labels is not None:
            text = labels[index]
            while text and pen.textlength(text, font(11)) > width + gap:
                text = text[:-1]
            pen.text((x, y + height), text, fill=_INK, font=font(11))
    for row, text in enumerate(rows or ()):
        y = row * (height + under + gap) + (height - 12) // 2
        pen.text((0, y), text, fill=_INK, font=font(11))
    return page
