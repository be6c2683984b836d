"""Kind ``kernels``: the weights of a convolution, as colour pictures or as a grid output x input."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import as_colour, paint, symmetric
from convlens.pictures.layout import sheet
from convlens.pictures.picture import Picture, slug

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 24
_COLOUR_TILE = 48
_LARGEST = 96
_ROOM = 560  # pixels that few kernels fill along the longer side


def draw(result: Result) -> Iterator[Picture]:
    """Filters that read three colours in colour; others as a grid, one row a filter."""
    weights = result.array.astype(np.float64)
    layer = result.hints["layer"]
    if weights.ndim == 5:
        weights = weights[:, :, weights.shape[2] // 2]
    if weights.ndim == 3:
        weights = weights[:, :, None, :].repeat(max(1, weights.shape[2] // 3), axis=2)  # strips to be seen
    if weights.shape[1] == 3 and result.hints.get("colour"):
        flip = -1 if result.hints.get("channels") == "BGR" else 1
        tiles = [_grow(as_colour(np.moveaxis(w, 0, -1)[..., ::flip], 100), _COLOUR_TILE) for w in weights]
        columns = max(1, min(16, ceil(sqrt(len(tiles)) * 1.4)))
        labels = [str(number) for number in range(len(tiles))]
        alt = (
            f"{len(tiles)} filters of {layer} in colour, each scaled by its own largest weight, grey is zero."
        )
        image = sheet(tiles, columns, labels=labels, gap=4)
        yield Picture(slug(layer), image, f"filters of {layer}", alt)
        return
    shown = result.hints.get("shown", weights.shape[0]), result.hints.get("inputs", weights.shape[1])
    part = weights[: shown[0], : shown[1]]
    scale = symmetric(part, f"weight of {layer}", 99.5)
    rows = [str(number) for number in range(len(part))]
    of = f"{len(part)} of {weights.shape[0]} filters, {part.shape[1]} of {weights.shape[1]} inputs"
    columns = part.shape[1]
    if columns == 1:  # depthwise: one kernel a filter
        columns = min(16, len(part))
        rows = [str(number) for number in range(0, len(part), columns)]
    side = max(_TILE, min(_LARGEST, _ROOM // max(columns, len(rows)))) if columns < 16 else _TILE
    tiles = [_grow(paint(kernel, scale), side) for row in part for kernel in row]
    order = "a filter each" if part.shape[1] == 1 else "one row a filter, one column an input channel"
    alt = f"Kernels of {layer}: {of}; {order}."
    yield Picture(slug(layer), sheet(tiles, columns, rows=rows), f"kernels of {layer}: {of}", alt, scale)


def _grow(pixels: NDArray[np.uint8], side: int = _TILE) -> Image.Image:
    image = Image.fromarray(pixels)
    factor = max(1, -(-side // max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
