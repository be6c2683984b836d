"""Kind ``montage``: the strongest units of each channel over all images, after Zeiler & Fergus's figure 2.

The main array holds reconstructions, channels x units x the input's shape; ``image`` (channels x units)
the image that each is of, -1 where there is none; ``boxes`` (channels x units x 4: top, left, bottom,
right) the part of the input that the unit sees; ``channel`` and ``activation`` what is written below.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt
from typing import TYPE_CHECKING

from PIL import Image

from convlens.pictures.colour import Scale, number
from convlens.pictures.layout import sheet
from convlens.pictures.picture import Picture, slug
from convlens.pictures.tiles import alike, fitted, patch_tile, signal_scene, signal_tile

if TYPE_CHECKING:
    from convlens.results import Result

_BLOCK = 196  # side of one channel's square of tiles
_LARGEST = 128  # a tile's side where a channel has few
_GAP = 2
_COLUMNS = 3  # of blocks on one sheet, and rows
_SCENES = 8  # units drawn on one sheet where the input is no photo


def draw(result: Result) -> Iterator[Picture]:
    """Sheets of channels; a block a channel: reconstructions, and beside them what the units see.

    Of inputs that are no photos, one sheet a channel: each input whole, with a box around what the unit
    sees.
    """
    layer, channel = result.hints["layer"], result.arrays["channel"].tolist()
    if "input" in result.hints:
        for k in range(len(channel)):
            yield _scenes(result, k)
        return
    if result.array.ndim != 5:
        return
    blocks = [_block(result, k) for k in range(len(channel))]
    labels = [_label(result, k) for k in range(len(channel))]
    columns, each = min(len(blocks), _COLUMNS), _COLUMNS**2
    title = f"strongest units of channels of {layer}, reconstructed"
    for start in range(0, len(blocks), each):
        part, own = blocks[start : start + each], labels[start : start + each]
        beside = " and what each unit sees" if result.views is not None else ""
        alt = f"Reconstructions of the strongest units{beside}, layer {layer}: {'; '.join(own)}."
        yield Picture(
            slug(layer) if not start else slug(f"{layer}-{start // each + 1}"),
            sheet(part, columns, labels=own, gap=12),
            f"{title}, {len(result.images)} image{'s' * (len(result.images) > 1)}",
            alt,
            None,
            None,
            title,
            True,
        )


def _label(result: Result, k: int) -> str:
    strength = result.arrays["activation"][k]
    fires = strength[result.arrays["image"][k] >= 0]
    name = f"channel {int(result.arrays['channel'][k])}"
    if not len(fires):
        return f"{name}: silent"
    weakest = "" if len(fires) == 1 else f" to {number(float(fires[-1]))}"
    return f"{name}: {number(float(fires[0]))}{weakest}"


def _block(result: Result, k: int) -> Image.Image:
    """One channel: a square of reconstructions, and one of photo patches where there are photos."""
    views, boxes = result.views, result.arrays["boxes"][k].tolist()
    images = result.arrays["image"][k].tolist()
    columns = ceil(sqrt(len(images)))
    side = min(_LARGEST, _BLOCK // columns)
    signals = [
        signal_tile(result.array[k, unit], boxes[unit], result.hints, side)
        if image >= 0
        else fitted(None, side)
        for unit, image in enumerate(images)
    ]
    block = sheet(signals, columns, gap=_GAP)
    if views is None:
        return block
    patches = [
        patch_tile(views[image], boxes[unit], side) if image >= 0 else fitted(None, side)
        for unit, image in enumerate(images)
    ]
    return sheet([block, sheet(patches, columns, gap=_GAP)], 2, gap=3 * _GAP)


def _scenes(result: Result, k: int) -> Picture:
    """One channel's units over inputs that are no photos, each by its own largest."""
    layer, channel = result.hints["layer"], int(result.arrays["channel"][k])
    scale = Scale(-1.0, 1.0, "reconstruction, each by its own largest", "pale signed")
    tiles, labels = [], []
    for unit, image in enumerate(result.arrays["image"][k].tolist()[:_SCENES]):
        if image < 0:
            continue
        box = result.arrays["boxes"][k, unit].tolist()
        tiles.append(signal_scene(result, result.array[k, unit], image, box, scale))
        labels.append(f"{result.images[image]}: {number(float(result.arrays['activation'][k, unit]))}")
    pages, labels = (alike(tiles), labels) if tiles else ([fitted(None, _BLOCK)], ["silent"])
    columns = max(1, min(len(pages), 720 // pages[0].width))
    title = f"strongest units of {layer}, {_label(result, k)}"
    alt = f"Inputs with the strongest units of {layer}, {_label(result, k)}, and what drives each unit."
    image = sheet(pages, columns, labels=labels, gap=8)
    return Picture(slug(f"{layer}-{channel}"), image, title, alt, scale, None, title, True)
