"""Kind ``crops``: for each image a row of units, the photo's part that each sees beside its picture.

The main array holds signals, N x k x the input's shape; ``boxes`` (N x k x 4: top, left, bottom,
right) the part of the input that each unit sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convlens.pictures.colour import as_colour
from convlens.pictures.layout import channels_last, photo, sheet
from convlens.pictures.picture import Picture, slug

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 112


def draw(result: Result) -> Iterator[Picture]:
    """One sheet an image: photo patches above, what the units react to below.

    Inputs without rows and columns have no parts to cut out, and no sheet.
    """
    if result.array.ndim != 5:
        return
    layout, colours = result.hints.get("layout", "NCHW"), result.hints.get("channels", "RGB")
    for index, name in enumerate(result.images):
        labels = result.hints["each"][index]["labels"]
        patches, signals = [], []
        for unit in range(len(labels)):
            top, left, bottom, right = (int(v) for v in result.arrays["boxes"][index, unit])
            signal = channels_last(result.array[index, unit].astype(np.float64), layout, colours)
            if signal.shape[2] != 3:  # no colours: one grey picture
                with np.errstate(invalid="ignore"):  # infinities of both signs: no number, drawn grey
                    signal = signal.sum(axis=2, keepdims=True).repeat(3, axis=2)
            signals.append(_tile(Image.fromarray(as_colour(signal[top:bottom, left:right]))))
            if result.views is not None:
                patches.append(_tile(photo(result.views[index]).crop((left, top, right, bottom))))
        tiles = patches + signals
        under = [""] * len(patches) + list(labels) if patches else list(labels)
        title = result.hints["title"]
        alt = f"{title} for {name}: {', '.join(labels)}."
        yield Picture(
            slug(name.rsplit(".", 1)[0]),
            sheet(tiles, len(labels), labels=under, gap=4),
            f"{title}, {name}",
            alt,
            None,
            index,
            title,
        )


def _tile(image: Image.Image) -> Image.Image:
    """The picture fitted into a square tile."""
    scale = _TILE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    square = Image.new("RGB", (_TILE, _TILE), (238, 238, 240))
    how = Image.Resampling.BICUBIC if scale < 4 else Image.Resampling.NEAREST
    square.paste(image.resize(size, how), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return square
