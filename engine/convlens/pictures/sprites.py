"""Kind ``sprites``: every channel of a layer side by side, one sheet an image."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, paint, positive, symmetric
from convlens.pictures.layout import sheet
from convlens.pictures.picture import Picture, font, slug
from convlens.pictures.signals import WIDTH, strongest, ticks_below

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 28  # smaller maps are enlarged to it
_ROOM = 560  # pixels that a row of few channels fills
_STRIP = 12  # rows of the strip by which a channel without height is drawn
_LARGEST = 96  # larger ones are reduced to it, or a sheet of 64 channels would fill a wall


def draw(result: Result) -> Iterator[Picture]:
    """One sheet an image: channels in rows, the number of the first one in front of each row."""
    layer = result.hints["layer"]
    for index, name in enumerate(result.images):
        maps = result.array[index].astype(np.float64)
        if maps.ndim < 2:
            maps = maps.reshape(-1, 1, 1)
        if "input" in result.hints and maps.ndim == 3 and min(maps.shape[1:]) == 1:
            maps = maps.reshape(len(maps), -1)
        if maps.ndim == 2:
            if maps.shape[1] > 1 and (maps.shape[1] > _LARGEST or "input" in result.hints):
                yield _strips(result, index, name, maps)
                continue
            maps = maps[:, None, :].repeat(_STRIP, axis=1)
        if maps.ndim == 4:
            maps = maps[:, maps.shape[1] // 2]
        signed = bool((maps < 0).any())
        label = f"activation of {layer}"
        scale = symmetric(maps, label, 99.9) if signed else positive(maps, label, 99.9)
        if result.hints.get("own_scale"):
            scale = Scale(
                -1.0 if signed else 0.0, 1.0, f"{label}, each channel by its own maximum", scale.colours
            )
            top = np.where(np.isfinite(maps), np.abs(maps), 0.0).max(axis=(1, 2), keepdims=True)
            maps = np.divide(maps, top, out=np.where(np.isfinite(maps), 0.0, maps), where=top > 0)
        height, width = maps.shape[1:]
        columns = max(1, ceil(sqrt(len(maps) * height / width)))
        columns = min(len(maps), max(columns, min(16, len(maps))))
        side = max(_TILE, min(_LARGEST, _ROOM // columns)) if columns < 16 else _TILE
        factor = max(-(-_TILE // max(height, width)), side // max(height, width), 1)
        if max(height, width) == 1:
            factor = 10
        tiles = []
        for channel in maps:
            tile = Image.fromarray(paint(channel, scale))
            tile = tile.resize((width * factor, height * factor), Image.Resampling.NEAREST)
            if max(tile.size) > _LARGEST:
                tile.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
            tiles.append(tile)
        rows = [str(first) for first in range(0, len(tiles), columns)]
        silent = int((np.abs(maps).max(axis=(1, 2)) == 0).sum())
        alt = f"All {len(tiles)} channels of {layer} for {name}; {silent} of them silent."
        yield Picture(
            slug(f"{name.rsplit('.', 1)[0]}-{layer}"),
            sheet(tiles, columns, rows=rows),
            f"every channel of {layer}, {name}",
            alt,
            scale,
            index,
            f"every channel of {layer}",
        )


def _strips(result: Result, index: int, name: str, maps: NDArray[Any]) -> Picture:
    """Channels of a layer that runs along one axis: one row a channel, the axis from left to right."""
    layer, own = result.hints["layer"], bool(result.hints.get("own_scale"))
    signed, label = bool((maps < 0).any()), f"activation of {layer}"
    if own:
        top = np.where(np.isfinite(maps), np.abs(maps), 0.0).max(axis=1, keepdims=True)
        maps = np.divide(maps, top, out=np.where(np.isfinite(maps), 0.0, maps), where=top > 0)
        label = f"{label}, each channel by its own maximum"
    scale = symmetric(maps, label, 99.9) if signed else positive(maps, label, 99.9)
    count, length = maps.shape
    height = max(4, min(20, 480 // count))
    pixels = paint(strongest(maps, WIDTH), scale)
    image = Image.fromarray(pixels.repeat(height, axis=0))
    left, below = 36, 34
    page = Image.new("RGB", (WIDTH + left + 10, image.height + below), "white")
    page.paste(image, (left, 0))
    pen = ImageDraw.Draw(page)
    every = max(1, -(-14 // height))
    for channel in range(0, count, every):
        text = str(channel)
        at = left - 6 - pen.textlength(text, font(11)), channel * height + (height - 13) / 2
        pen.text((at[0], max(0.0, at[1])), text, fill=(34, 34, 40), font=font(11))
    ticks_below(pen, left, image.height, WIDTH, float(length), f"position along {layer}; one row a channel")
    silent = int((np.abs(maps).max(axis=1) == 0).sum())
    alt = f"All {count} channels of {layer} for {name}, one row each; {silent} of them silent."
    stem = slug(f"{name.rsplit('.', 1)[0]}-{layer}")
    title = f"every channel of {layer}"
    return Picture(stem, page, f"{title}, {name}", alt, scale, index, title, True)
