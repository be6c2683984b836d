"""Kind ``crops``: for each image a row of units, the photo's part that each sees beside its picture.

The main array holds signals, N x k x the input's shape; ``boxes`` (N x k x 4: top, left, bottom,
right) the part of the input that each unit sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convlens.pictures.colour import Scale, as_colour
from convlens.pictures.layout import channels_last, photo, sheet
from convlens.pictures.picture import Picture, slug
from convlens.pictures.scenes import reduced, scene

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


def _whole(result: Result) -> Iterator[Picture]:
    """A column of inputs, one a unit: the signal in colours, a box around what the unit sees."""
    info, title = result.hints["input"], result.hints["title"]
    count = len(info["spatial"])
    for index, name in enumerate(result.images):
        own = result.hints["each"][index]
        given = result.arrays["input"][index]
        tiles = []
        values = [reduced(signal.astype(np.float64), info, "signed") for signal in result.array[index]]
        scale = Scale(-1.0, 1.0, "signal at the input, each by its own largest", "pale signed")
        for unit, found in enumerate(values):
            numbers = result.arrays["boxes"][index, unit].tolist()
            half = len(numbers) // 2
            box = {"from": numbers[half - count : half], "to": numbers[2 * half - count :], "effect": "rises"}
            top = np.where(np.isfinite(found), np.abs(found), 0.0).max() or 1.0
            words = {**own, "marks": [box]}
            tiles.append(scene(info, found / top, given, scale, words, small=True))
        side = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
        padded = []
        for tile in tiles:
            page = Image.new("RGB", side, "white")
            page.paste(tile, (0, 0))
            padded.append(page)
        columns = max(1, min(len(tiles), 720 // side[0]))
        alt = f"{title} for {name}: {', '.join(own['labels'])}."
        image = sheet(padded, columns, labels=own["labels"], gap=8)
        yield Picture(slug(name.rsplit(".", 1)[0]), image, f"{title}, {name}", alt, scale, index, title, True)


def _tile(image: Image.Image) -> Image.Image:
    """The picture fitted into a square tile."""
    scale = _TILE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    square = Image.new("RGB", (_TILE, _TILE), (238, 238, 240))
    how = Image.Resampling.BICUBIC if scale < 4 else Image.Resampling.NEAREST
    square.paste(image.resize(size, how), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return square
