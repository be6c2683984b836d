"""Videos as a row of frames, volumes as their three middle slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.layout import sheet
from convlens.pictures.signals import blended, draw_marks, grey_of

if TYPE_CHECKING:
    from convlens.pictures.scenes import Scene

_FRAMES = 8
_TILE = 150
_SMALL = 84


def frames(scene: Scene) -> Image.Image:
    """Up to eight frames, evenly spread, each under the colours of its own numbers."""
    count = scene.values.shape[0]
    chosen = np.unique(np.linspace(0, count - 1, min(_FRAMES, count)).round().astype(int))
    grey = grey_of(scene.given.mean(axis=0))
    tiles, labels = [], []
    for index in chosen.tolist():
        marks = [mark for mark in scene.marks if mark["from"][0] <= index < mark["to"][0]]
        tiles.append(_tile(grey[index], scene.values[index], scene, marks))
        labels.append(f"frame {index}")
    columns = min(4, len(tiles)) if not scene.small else len(tiles)
    return sheet(tiles, columns, labels=labels, gap=6)


def middles(scene: Scene) -> Image.Image:
    """The slice through the middle across each of the three axes."""
    grey = grey_of(scene.given.mean(axis=0))
    tiles, labels = [], []
    for axis, name in enumerate(("slice", "row", "column")):
        size = scene.values.shape[axis]
        at = size // 2
        marks = [
            {**mark, "from": _without(mark["from"], axis), "to": _without(mark["to"], axis)}
            for mark in scene.marks
            if mark["from"][axis] <= at < mark["to"][axis]
        ]
        tiles.append(_tile(grey.take(at, axis=axis), scene.values.take(at, axis=axis), scene, marks))
        labels.append(f"{name} {at} of {size}")
    side = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    return sheet([_centred(tile, side) for tile in tiles], 3, labels=labels, gap=6)


def _without(place: Any, axis: int) -> list[int]:
    return [number for index, number in enumerate(place) if index != axis]


def _tile(grey: NDArray[Any], values: NDArray[Any], scene: Scene, marks: Any) -> Image.Image:
    side = _SMALL if scene.small else _TILE
    factor = side / max(values.shape)
    image = Image.fromarray(blended(grey, values, scene.scale))
    size = max(8, round(image.width * factor)), max(8, round(image.height * factor))
    image = image.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    draw_marks(image, marks, (size[1] / values.shape[0], size[0] / values.shape[1]))
    return image


def _centred(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    page = Image.new("RGB", size, (238, 238, 240))
    page.paste(tile, ((size[0] - tile.width) // 2, (size[1] - tile.height) // 2))
    return page
