"""Kind ``judged``: curves (see :mod:`convlens.pictures.curves`), and one map again and again as a strip.

``hints["strip"]`` names ``first``, the array of the map itself, ``array``, that of the others (images x
stages x the input's spatial axes), ``usable`` (images x stages, 0 where there is no map), ``labels``, one
a map, and ``title``. Magnitudes are drawn, each in its own scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures import curves
from convlens.pictures.colour import paint, positive
from convlens.pictures.grid import grid, tile_of
from convlens.pictures.layout import photo
from convlens.pictures.picture import Picture, slug
from convlens.pictures.scenes import WIDE, scene

if TYPE_CHECKING:
    from convlens.results import Result

_WIDTH = 1000
_TILE = 150
_LABEL = "magnitude"


def draw(result: Result) -> Iterator[Picture]:
    """The curves of each image, then its strip."""
    yield from curves.draw(result)
    hint = result.hints.get("strip")
    if hint is None:
        return
    for index, name in enumerate(result.images):
        wide = "input" in result.hints and result.hints["input"]["kind"] in WIDE
        own = result.arrays[hint["first"]][index]
        others, usable = result.arrays[hint["array"]][index], result.arrays[hint["usable"]][index]
        tiles: list[Image.Image | str] = [_tile(result, own, index, wide)]
        tiles += [
            _tile(result, values, index, wide) if there else "no map: not finite, or the same everywhere"
            for values, there in zip(others, usable, strict=True)
        ]
        columns = [(label, [tile]) for label, tile in zip(hint["labels"], tiles, strict=True)]
        first = [tile_of(photo(result.views[index]), _TILE)] if result.views is not None else []
        title = f"{hint['title']}, {name}"
        told = [label for label, there in zip(hint["labels"][1:], usable, strict=True) if not there]
        none = f"; none for {', '.join(told)}" if told else ""
        alt = f"{title}: {len(columns)} maps side by side{none}."
        stem = slug(f"{name.rsplit('.', 1)[0]}-randomised")
        yield Picture(stem, grid(columns, [name], _WIDTH, first=first), title, alt, None, index, title, True)


def _tile(result: Result, values: NDArray[Any], index: int, wide: bool) -> Image.Image:
    magnitude = np.abs(values.astype(np.float64))
    scale = positive(magnitude, _LABEL)
    info = result.hints.get("input")
    if info is None:
        return tile_of(Image.fromarray(paint(magnitude, scale)), _TILE)
    given = result.arrays["input"][index]
    image = scene(info, magnitude, given, scale.pale(), result.hints["each"][index], small=True)
    return tile_of(image, min(image.width, _WIDTH - 40)) if wide else tile_of(image, 2 * _TILE)
