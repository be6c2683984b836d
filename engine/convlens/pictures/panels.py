"""Kind ``panels``: pictures side by side under their names, on one sheet or several.

``hints["panels"]`` is a list of sheets, each a mapping with ``name`` (for the file), ``caption``, ``alt``
and ``tiles``, and where they are not the usual ones ``columns`` and ``side`` (least pixels of a tile's
shorter side). A tile has a ``label``, the ``channel`` that it is of where it is of one, and either ``array``
with ``index`` (a picture: colours x height x width from 0 to 1, height x width x colours in 8 bits, or an
input of another kind), or ``view``, the index of what the model saw; an index of several numbers is one for
each axis. ``hints["photo"]`` says whether arrays hold photos, ``hints["input"]`` what else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import positive
from convlens.pictures.layout import as_photo, photo, placed, sheet
from convlens.pictures.picture import Picture, enlarge, slug
from convlens.pictures.scenes import scene

if TYPE_CHECKING:
    from convlens.results import Result

_ALONE = 224  # a single picture is enlarged to it
_TOGETHER = 112  # one of several
_LARGEST = 512  # a tile is no larger; the picture itself is saved beside the sheet
_PAGE = 1344


def draw(result: Result) -> Iterator[Picture]:
    """A picture a sheet."""
    for each in result.hints["panels"]:
        tiles = [_drawn(result, tile, each.get("side"), len(each["tiles"])) for tile in each["tiles"]]
        labels = [tile["label"] for tile in each["tiles"]]
        width = max(tile.width for tile in tiles)
        columns = each.get("columns") or max(1, min(len(tiles), _PAGE // (width + 6), 8))
        alone = len(tiles) == 1
        yield Picture(
            slug(each["name"]),
            tiles[0] if alone else sheet(tiles, columns, labels=labels),
            each["caption"],
            each["alt"],
            index=each.get("index"),
            wide=columns > 1 and columns * width > 2 * _ALONE,
        )


def by_channel(result: Result) -> Iterator[tuple[int, Picture]]:
    """Tiles that say of which ``channel`` they are, each by itself."""
    for each in result.hints["panels"]:
        for tile in each["tiles"]:
            if "channel" in tile:
                drawn = _drawn(result, tile, each.get("side"), 1)
                caption, alt = (
                    f"what {tile['label']} answers to most",
                    f"What {tile['label']} answers to most.",
                )
                yield tile["channel"], Picture(f"{tile['channel']}", drawn, caption, alt)


def _drawn(result: Result, tile: Mapping[str, Any], side: int | None, count: int) -> Image.Image:
    least = side or (_ALONE if count == 1 else _TOGETHER)
    if "view" in tile:
        assert result.views is not None
        return _fitted(photo(result.views[tile["view"]]), least)
    array = result.arrays[tile["array"]]
    values = array[placed(tile["index"])] if tile.get("index") is not None else array
    return picture(values, least, result.hints["photo"], result.hints.get("input"))


def picture(values: NDArray[Any], least: int, is_photo: bool, info: Mapping[str, Any] | None) -> Image.Image:
    """One made picture.

    Args:
        values: colours x height x width from 0 to 1, height x width x colours in 8 bits, or channels x
            spatial axes of anything else.
        least: pixels of the shorter side, at least.
        is_photo: whether it is a photo.
        info: of what is no photo, the hint ``input``.
    """
    if is_photo:
        return _fitted(photo(values) if values.dtype == np.uint8 else as_photo(values), least)
    assert info is not None
    space = len(info["spatial"]) or 1
    own = {**info, **({"channel": 1, "spatial": list(range(2, 2 + space))} if info["spatial"] else {})}
    return scene(own, np.zeros(values.shape[1:]), values, positive(np.ones(1), "").pale())


def strip(
    arrays: NDArray[Any], size: tuple[int, ...], photo: bool, info: Mapping[str, Any] | None
) -> Image.Image:
    """Pictures in a row, each of ``size`` where they are photos: a frame of a search."""
    tiles: Sequence[Image.Image] = [picture(each, 1, photo, info) for each in arrays]
    if photo:
        tiles = [tile.resize((size[1], size[0]), Image.Resampling.BICUBIC) for tile in tiles]
    return tiles[0] if len(tiles) == 1 else sheet(tiles, min(len(tiles), 8))


def _fitted(image: Image.Image, least: int) -> Image.Image:
    longest = max(image.size)
    if longest <= _LARGEST:
        return enlarge(image, least)
    share = _LARGEST / longest
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))
