"""Kind ``made``: pictures that a model made, several side by side.

The main array is N x channels x spatial axes; ``hints["photo"]`` says whether it holds photos (0 to 1),
``hints["labels"]`` names each picture and ``hints["title"]`` all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import positive
from convlens.pictures.layout import as_photo, sheet
from convlens.pictures.picture import Picture, enlarge, slug
from convlens.pictures.scenes import scene

if TYPE_CHECKING:
    from convlens.results import Result

_ALONE = 224  # a single picture is enlarged to it
_TOGETHER = 112  # one of several


def draw(result: Result) -> Iterator[Picture]:
    """One picture for all of them: alone, or in rows with their names."""
    labels, title = result.hints["labels"], result.hints["title"]
    tiles = [_tile(result, each, _ALONE if len(labels) == 1 else _TOGETHER) for each in result.array]
    score = result.arrays["score"]
    alt = f"What {labels[0]} answers to most, with a score of {score[0]:.3g}."
    if len(tiles) == 1:
        yield Picture(slug(labels[0]), tiles[0], f"what {labels[0]} answers to most", alt)
        return
    columns = max(1, min(len(tiles), 1344 // (tiles[0].width + 6), 8))
    names = [label.removesuffix(f" of {title.removeprefix('layer ')}") for label in labels]
    alt = f"{len(tiles)} pictures, one for each of {labels[0]} to {labels[-1]}."
    yield Picture(
        slug(title),
        sheet(tiles, columns, labels=names),
        f"what the channels of {title} answer to",
        alt,
        wide=True,
    )


def _tile(result: Result, values: NDArray[Any], side: int) -> Image.Image:
    if result.hints["photo"]:
        return enlarge(as_photo(values), side)
    info = {**result.hints["input"]}
    space = len(info["spatial"]) or 1
    info |= {"channel": 1, "spatial": list(range(2, 2 + space))} if info["spatial"] else {}
    flat = np.zeros(values.shape[1:])
    return scene(info, flat, values, positive(np.ones(1), "").pale())
