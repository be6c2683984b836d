"""Maps of several methods on one sheet: rows are images, columns methods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from PIL import Image

from convlens.pictures.grid import grid, tile_of
from convlens.pictures.layout import photo
from convlens.pictures.picture import Picture, slug

_WIDTH = 1300
_TILE, _LARGE = 150, 230
_FOOT = (
    "Each map is in its own scale. Red and blue: red speaks for the target, blue against it; one colour "
    "alone, or dark to bright: a magnitude. Where it lies over the photo, the photo shows where it is weak."
)
_DOUBT = "(!) not clearly better than a random order, or hardly changed by random weights."


def sheets(
    columns: Mapping[str, Sequence[Picture]],
    refused: Mapping[str, str],
    images: Sequence[str],
    target: str,
    views: Any,
    doubted: Collection[str] = (),
) -> list[Picture]:
    """One sheet; one an image where maps are as wide as a page.

    Args:
        columns: the pictures of each method, of which the first of each image is shown.
        refused: why other methods have none.
        images: what each is, for people.
        target: what is explained.
        views: what the model saw, of photos.
        doubted: methods that are marked.
    """
    found = {
        label: [next((p for p in pictures if p.index == i), None) for i in range(len(images))]
        for label, pictures in columns.items()
    }
    wide = any(picture is not None and picture.wide for row in found.values() for picture in row)
    groups = [[i] for i in range(len(images))] if wide else [list(range(len(images)))]
    made = []
    for group in groups:
        tiles: list[tuple[str, list[Image.Image | str]]] = []
        for label, pictures in found.items():
            heading = f"(!) {label}" if label in doubted else label
            tiles.append((heading, [_tile(pictures[i], wide, views is not None) for i in group]))
        tiles += [(label, [f"refused: {why}"] * len(group)) for label, why in refused.items()]
        first = [tile_of(photo(views[i]), _TILE) for i in group] if views is not None else []
        rows = [images[i] for i in group]
        title = f"{target}, by {len(columns)} methods" + (f": {rows[0]}" if len(rows) == 1 else "")
        foot = [_FOOT, *([_DOUBT] if doubted else [])]
        image = grid(tiles, rows, _WIDTH, title, foot, first)
        alt = f"Maps of {target} for {', '.join(rows)} by {', '.join(columns)}."
        name = f"montage-{slug(rows[0])}" if wide else "montage"
        made.append(Picture(name, image, title, alt, None, None, title, True))
    return made


def _tile(picture: Picture | None, wide: bool, photos: bool) -> Image.Image | str:
    if picture is None:
        return "no picture"
    if wide:
        return tile_of(picture.image, min(picture.image.width, _WIDTH - 20))
    return tile_of(picture.image, _TILE if photos else _LARGE)
