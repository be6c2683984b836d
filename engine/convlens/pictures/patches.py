"""Kind ``patches``: what excites channels most in a data set, after Zeiler & Fergus's figure 2.

The hint ``sheets`` has one mapping a layer: its name ``layer``, the arrays ``patches`` (channels x places x
the window of the input) and, where there is one, ``reconstruction`` (likewise), which rows of ``image`` (-1
where there is no place), ``activation`` and ``channel`` are its own (``first``, ``after``), and of texts the
``words`` of each patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlens.pictures.colour import Scale, number
from convlens.pictures.layout import photo, sheet
from convlens.pictures.picture import Picture, slug
from convlens.pictures.scenes import reduced, scene
from convlens.pictures.tiles import alike, fitted, signal_tile

if TYPE_CHECKING:
    from convlens.results import Result

_ALONE, _FEW = 2, 24  # channels that are shown as large as can be, and large
_LARGEST_BLOCK, _LARGE, _SMALL = 392, 196, 148  # side of a channel's square where they are that, and many
_LARGEST = 128  # of one tile
_WIDTH, _HEIGHT = 1280, 1980  # of a sheet, at most
_GAP, _APART, _LABEL = 2, 12, 15
_SCENES = 8  # patches drawn of one channel where the input is no photo


def draw(result: Result) -> Iterator[Picture]:
    """Sheets a layer; a block a channel: reconstructions, and beside them the patches.

    Of inputs that are no photos, one sheet a channel: each patch as what it is, with the signal over it.
    """
    for own in result.hints["sheets"]:
        if "input" in result.hints:
            yield from _scenes(result, own)
        else:
            yield from _sheets(result, own)


def by_channel(result: Result) -> Iterator[tuple[int, Picture]]:
    """Each channel that has places by itself, of all layers."""
    for own in result.hints["sheets"]:
        rows = range(own["first"], own["after"])
        channel = result.arrays["channel"][rows.start : rows.stop].tolist()
        fires = (result.arrays["image"].max(axis=1) >= 0).tolist()
        if "input" in result.hints:
            pairs = zip(rows, channel, _scenes(result, own), strict=True)
            yield from ((number, picture) for row, number, picture in pairs if fires[row])
            continue
        title = f"{'reconstructions and ' if 'reconstruction' in own else ''}strongest patches"
        for c, row in ((c, row) for c, row in enumerate(rows) if fires[row]):
            alt = f"{title} of {own['layer']}, {_label(result, row)}"
            block = _block(result, own, c, _LARGE)
            yield channel[c], Picture(f"{channel[c]}", block, title, f"{alt[0].upper()}{alt[1:]}.")


def _sheets(result: Result, own: Mapping[str, Any]) -> Iterator[Picture]:
    rows = range(own["first"], own["after"])
    block = _LARGEST_BLOCK if len(rows) <= _ALONE else _LARGE if len(rows) <= _FEW else _SMALL
    blocks = [_block(result, own, c, block) for c in range(len(rows))]
    labels = [_label(result, row) for row in rows]
    width, height = (max(each) for each in zip(*(each.size for each in blocks), strict=True))
    columns = max(1, min(len(blocks), (_WIDTH + _APART) // (width + _APART)))
    each = columns * max(1, (_HEIGHT + _APART) // (height + _LABEL + _APART))
    reconstructs = "reconstruction" in own
    title = f"strongest patches of channels of {own['layer']}"
    title += ", reconstructed and as they are" if reconstructs else ""
    for start in range(0, len(blocks), each):
        told = labels[start : start + each]
        what = "Reconstructions and patches" if reconstructs else "Patches"
        pages = -(-len(blocks) // each)
        page = f", sheet {start // each + 1} of {pages}" if pages > 1 else ""
        yield Picture(
            slug(own["layer"]) if not start else slug(f"{own['layer']}-{start // each + 1}"),
            sheet(blocks[start : start + each], columns, labels=told, gap=_APART),
            f"{title}, {_images(result)}{page}",
            f"{what} of the strongest places of {own['layer']} in {_images(result)}: {'; '.join(told)}.",
            short=f"{title}{page}",
            wide=True,
        )


def _block(result: Result, own: Mapping[str, Any], c: int, side: int) -> Image.Image:
    """One channel: a square of reconstructions, and one of patches."""
    there = (result.arrays["image"][own["first"] + c] >= 0).tolist()
    columns = ceil(sqrt(len(there)))
    side = min(_LARGEST, (side - _GAP * (columns - 1)) // columns)
    patches = result.arrays[own["patches"]][c]
    tiles = [fitted(photo(patches[k]) if is_one else None, side) for k, is_one in enumerate(there)]
    squares = [sheet(tiles, columns, gap=_GAP)]
    if "reconstruction" in own:
        signals = result.arrays[own["reconstruction"]][c]
        box = (0, 0, *patches.shape[1:3])
        signals = signals[:, None] if signals.ndim == 3 else signals
        tiles = [
            signal_tile(signals[k], box, result.hints, side) if is_one else fitted(None, side)
            for k, is_one in enumerate(there)
        ]
        squares.insert(0, sheet(tiles, columns, gap=_GAP))
    return sheet(squares, len(squares), gap=3 * _GAP)


def _label(result: Result, row: int) -> str:
    fires = result.arrays["activation"][row][result.arrays["image"][row] >= 0]
    name = f"channel {int(result.arrays['channel'][row])}"
    if not len(fires):
        return f"{name}: silent"
    weakest = "" if len(fires) == 1 else f" to {number(float(fires[-1]))}"
    return f"{name}: {number(float(fires[0]))}{weakest}"


def _images(result: Result) -> str:
    count = result.hints["images"]
    return f"{count:,} image{'s' * (count != 1)}" if "input" not in result.hints else f"{count:,} inputs"


def _scenes(result: Result, own: Mapping[str, Any]) -> Iterator[Picture]:
    """A sheet a channel over inputs that are no photos, each patch by its own largest signal."""
    reconstructs = "reconstruction" in own
    label = "reconstruction, each by its own largest" if reconstructs else ""
    scale = Scale(-1.0, 1.0, label, "pale signed")
    for c, row in enumerate(range(own["first"], own["after"])):
        tiles, labels = [], []
        for k in np.flatnonzero(result.arrays["image"][row] >= 0).tolist()[:_SCENES]:
            tiles.append(_scene(result, own, (c, k), scale))
            labels.append(number(float(result.arrays["activation"][row, k])))
        pages, labels = (alike(tiles), labels) if tiles else ([fitted(None, _SMALL)], ["silent"])
        columns = max(1, min(len(pages), 720 // pages[0].width))
        shown = columns * max(1, _HEIGHT // (pages[0].height + _LABEL + 8))
        title = f"strongest patches of {own['layer']}, {_label(result, row)}"
        yield Picture(
            slug(f"{own['layer']}-{int(result.arrays['channel'][row])}"),
            sheet(pages[:shown], columns, labels=labels[:shown], gap=8),
            f"{title}, {_images(result)}",
            f"What excites {own['layer']} most in {_images(result)}, {_label(result, row)}"
            f"{', and what in it does' if reconstructs else ''}.",
            scale if reconstructs else None,
            short=title,
            wide=True,
        )


def _scene(result: Result, own: Mapping[str, Any], at: tuple[int, int], scale: Scale) -> Image.Image:
    info, patch = result.hints["input"], result.arrays[own["patches"]][at]
    lengths = [patch.shape[axis - 1] for axis in info["spatial"]] or list(patch.shape)
    values = np.zeros(lengths)
    if "reconstruction" in own:
        values = reduced(result.arrays[own["reconstruction"]][at].astype(np.float64), info, "signed")
        values = values / (np.abs(values[np.isfinite(values)]).max(initial=0.0) or 1.0)
    words = {"words": own["words"][at[0]][at[1]]} if "words" in own else {}
    return scene(info, values, patch, scale, words, small=True)
