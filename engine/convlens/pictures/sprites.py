"""Kind ``sprites``: every channel of a layer side by side, one sheet an image."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convlens.pictures.colour import Scale, paint, positive, symmetric
from convlens.pictures.layout import sheet
from convlens.pictures.picture import Picture, slug

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 28  # smaller maps are enlarged to it
_STRIP = 12  # rows of the strip by which a channel without height is drawn
_LARGEST = 96  # larger ones are reduced to it, or a sheet of 64 channels would fill a wall


def draw(result: Result) -> Iterator[Picture]:
    """One sheet an image: channels in rows, the number of the first one in front of each row."""
    layer = result.hints["layer"]
    for index, name in enumerate(result.images):
        maps = result.array[index].astype(np.float64)
        if maps.ndim < 2:
            maps = maps.reshape(-1, 1, 1)
        if maps.ndim == 2:
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
        factor = max(1, -(-_TILE // max(height, width))) if max(height, width) < _TILE else 1
        if max(height, width) == 1:
            factor = 10
        tiles = []
        for channel in maps:
            tile = Image.fromarray(paint(channel, scale))
            tile = tile.resize((width * factor, height * factor), Image.Resampling.NEAREST)
            if max(tile.size) > _LARGEST:
                tile.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
            tiles.append(tile)
        columns = max(1, ceil(sqrt(len(tiles) * tiles[0].height / tiles[0].width)))
        columns = min(len(tiles), max(columns, min(16, len(tiles))))
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
