"""Photos side by side with boxes around their parts, in the colours of the curves that tell of them.

``hints["boxes"]`` has for each image, for each of ``hints["covered"]``, ``[[top, bottom], [left, right]]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from convlens.pictures.layout import photo, sheet
from convlens.pictures.picture import Picture
from convlens.pictures.plots import COLOURS

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 192
_COLUMNS = 5


def outlined(result: Result) -> Picture:
    """All photos on one sheet."""
    tiles, told = [], []
    parts = result.hints["covered"]
    assert result.views is not None
    for name, view, boxes in zip(result.images, result.views, result.hints["boxes"], strict=True):
        image = photo(view)
        scale = _TILE / max(image.size)
        tile = Image.new("RGB", (_TILE, _TILE), "white")
        side = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        tile.paste(image.resize(side, Image.Resampling.BICUBIC))
        pen = ImageDraw.Draw(tile)
        words = []
        for number, (part, ((top, bottom), (left, right))) in enumerate(zip(parts, boxes, strict=True)):
            corners = [round(edge * scale) for edge in (left, top, right, bottom)]
            corners[2:] = max(corners[0], corners[2] - 1), max(corners[1], corners[3] - 1)
            pen.rectangle(corners, outline="white", width=4)
            pen.rectangle(corners, outline=COLOURS[number % len(COLOURS)], width=2)
            words.append(f"{part} in rows {top} to {bottom - 1}, columns {left} to {right - 1}")
        tiles.append(tile)
        told.append(f"{name}: {', '.join(words)}")
    image = sheet(tiles, min(_COLUMNS, len(tiles)), labels=list(result.images), gap=6)
    title = f"what was covered: {', '.join(parts)}"
    return Picture("covered", image, title, f"{title}. {'; '.join(told)}.", short=title, wide=True)
