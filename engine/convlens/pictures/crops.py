"""Kind ``crops``: for each image a row of units, the photo's part that each sees beside its picture.

The main array holds signals, N x k x the input's shape; ``boxes`` (N x k x 4: top, left, bottom,
right) the part of the input that each unit sees. The hint ``made`` names an array of pictures, N x k x
colours x height x width from 0 to 1, that stand between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from convlens.pictures.colour import Scale
from convlens.pictures.layout import as_photo, sheet
from convlens.pictures.picture import Picture, slug
from convlens.pictures.tiles import alike, fitted, patch_tile, signal_scene, signal_tile

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 112


def draw(result: Result) -> Iterator[Picture]:
    """One sheet an image: photo patches above, what the units react to below.

    Inputs that are no photos are drawn whole, once a unit, with a box around what it sees.
    """
    if "input" in result.hints:
        yield from _whole(result)
        return
    if result.array.ndim != 5:
        return
    for index, name in enumerate(result.images):
        labels = result.hints["each"][index]["labels"]
        boxes = result.arrays["boxes"][index].tolist()
        signals = [
            signal_tile(signal, box, result.hints, _TILE)
            for signal, box in zip(result.array[index], boxes, strict=True)
        ]
        views = result.views
        patches = [patch_tile(views[index], box, _TILE) for box in boxes] if views is not None else []
        made = result.arrays[result.hints["made"]][index] if "made" in result.hints else ()
        pictures = [fitted(as_photo(picture), _TILE) for picture in made]
        under = [""] * (len(patches) + len(pictures)) + list(labels)
        title = result.hints["title"]
        alt = f"{title} for {name}: {', '.join(labels)}."
        yield Picture(
            slug(name.rsplit(".", 1)[0]),
            sheet(patches + pictures + signals, len(labels), labels=under, gap=4),
            f"{title}, {name}",
            alt,
            None,
            index,
            title,
        )


def _whole(result: Result) -> Iterator[Picture]:
    """A column of inputs, one a unit: the signal in colours, a box around what the unit sees."""
    title = result.hints["title"]
    scale = Scale(-1.0, 1.0, "signal at the input, each by its own largest", "pale signed")
    for index, name in enumerate(result.images):
        labels, boxes = result.hints["each"][index]["labels"], result.arrays["boxes"][index].tolist()
        pages = alike(
            [
                signal_scene(result, signal, index, box, scale)
                for signal, box in zip(result.array[index], boxes, strict=True)
            ]
        )
        columns = max(1, min(len(pages), 720 // pages[0].width))
        alt = f"{title} for {name}: {', '.join(labels)}."
        image = sheet(pages, columns, labels=labels, gap=8)
        yield Picture(slug(name.rsplit(".", 1)[0]), image, f"{title}, {name}", alt, scale, index, title, True)
