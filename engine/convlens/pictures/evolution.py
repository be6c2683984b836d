"""Kind ``evolution``: channels over the checkpoints of a training, after Zeiler & Fergus's figure 4.

The main array holds reconstructions, channels x checkpoints x the input's shape; ``image`` (channels x
checkpoints) says which of ``views`` each is of, -1 where there is none; ``boxes`` the part of the input that
the unit sees, ``activation`` how strong it is. ``hints["checkpoints"]`` names the columns, and
``hints["tables"]["followed"]`` says ``layer`` and ``channel`` of each row. Of inputs that are no photos,
array ``input`` stands in for ``views``; of photos that came as arrays, there is the reconstruction alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, number
from convlens.pictures.layout import sheet
from convlens.pictures.picture import Picture, font, slug
from convlens.pictures.tiles import alike, fitted, patch_tile, signal_scene, signal_tile

if TYPE_CHECKING:
    from convlens.results import Result

_TILE = 68
_GAP, _APART = 4, 14  # pixels between checkpoints, and between channels
_HEAD, _UNDER = 18, 15  # height of the names of checkpoints, of the numbers under tiles
_COLUMNS = 16  # checkpoints in one picture; of more some, spread over the training
_SCENES = 6  # of an input that is no photo
_INK, _QUIET, _JUMP = (34, 34, 40), (99, 99, 110), (213, 94, 0)
_KEY = "another image is the strongest from here on"


def draw(result: Result) -> Iterator[Picture]:
    """A sheet a layer, a row a channel, a column a checkpoint; below reconstructions what the units see."""
    rows = list(enumerate(result.hints["tables"]["followed"]))
    for layer, found in groupby(rows, key=lambda row: row[1]["layer"]):
        own = list(found)
        if "input" in result.hints:
            for row, entry in own:
                yield _scenes(result, row, entry)
        elif result.array.ndim == 5:
            yield _sheet(result, layer, own)


def _sheet(result: Result, layer: str, rows: Sequence[tuple[int, Any]]) -> Picture:
    names = result.hints["checkpoints"]
    columns = _chosen(len(names), _COLUMNS)
    labels = [f"channel {entry['channel']}" for _, entry in rows]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    front = 10 + max(int(pen.textlength(label, font(12))) for label in labels)
    tall = 2 * _TILE + 2 if "views" in result.arrays else _TILE
    step, high = _TILE + _GAP, tall + _UNDER + _APART
    page = Image.new("RGB", (front + len(columns) * step - _GAP, _HEAD + len(rows) * high - _APART), "white")
    pen = ImageDraw.Draw(page)
    for place, column in enumerate(columns):
        text = _cut(pen, names[column], _TILE)
        x = front + place * step + (_TILE - pen.textlength(text, font(12))) / 2
        pen.text((x, 0), text, fill=_INK, font=font(12))
    for line, (row, _) in enumerate(rows):
        y = _HEAD + line * high
        pen.text((0, y + tall // 2 - 8), labels[line], fill=_INK, font=font(12))
        before = None
        for place, column in enumerate(columns):
            x = front + place * step
            _cell(result, row, column, page, (x, y))
            strength = number(float(result.arrays["activation"][row, column]))
            text = strength if result.arrays["image"][row, column] >= 0 else "silent"
            left = x + (_TILE - pen.textlength(text, font(11))) / 2
            pen.text((left, y + tall + 2), text, fill=_QUIET, font=font(11))
            image = int(result.arrays["image"][row, column])
            if before is not None and image != before:
                pen.rectangle((x - _GAP + 1, y, x - 2, y + tall - 1), fill=_JUMP)
            before = image
    title = f"strongest units of {layer} over the training"
    told = [_told(result, row, entry) for row, entry in rows]
    return Picture(
        slug(layer),
        page,
        title,
        f"{title}: reconstruction and patch at {', '.join(names[c] for c in columns)}. {' '.join(told)}",
        None,
        None,
        title,
        True,
        key=((_JUMP, _KEY),),
    )


def _cell(result: Result, row: int, column: int, page: Image.Image, corner: tuple[int, int]) -> None:
    """What drives one unit, and where photos went in what it sees."""
    image = int(result.arrays["image"][row, column])
    box = result.arrays["boxes"][row, column].tolist()
    signal = fitted(None, _TILE)
    if image >= 0:
        signal = signal_tile(result.array[row, column], box, result.hints, _TILE)
    page.paste(signal, corner)
    if "views" in result.arrays:
        patch = fitted(None, _TILE)
        if image >= 0:
            patch = patch_tile(result.arrays["views"][image], box, _TILE)
        page.paste(patch, (corner[0], corner[1] + _TILE + 2))


def _told(result: Result, row: int, entry: Any) -> str:
    """One channel in words."""
    image, names = result.arrays["image"][row].tolist(), result.hints["checkpoints"]
    if max(image) < 0:
        return f"Channel {entry['channel']} is silent."
    shown = result.hints["images"]
    end = "silent" if image[-1] < 0 else f"strongest for {shown[image[-1]]}"
    jumps = [names[place] for place in range(1, len(image)) if image[place] != image[place - 1]]
    moved = f"another image at {', '.join(jumps)}" if jumps else "the same image throughout"
    return f"Channel {entry['channel']}: {moved}, {end} at the end."


def _scenes(result: Result, row: int, entry: Any) -> Picture:
    """One channel over inputs that are no photos, each by its own largest."""
    names, layer = result.hints["checkpoints"], entry["layer"]
    scale = Scale(-1.0, 1.0, "reconstruction, each by its own largest", "pale signed")
    tiles, labels = [], []
    for column in _chosen(len(names), _SCENES):
        image = int(result.arrays["image"][row, column])
        if image >= 0:
            box = result.arrays["boxes"][row, column].tolist()
            tiles.append(signal_scene(result, result.array[row, column], image, box, scale))
            strength = number(float(result.arrays["activation"][row, column]))
            labels.append(f"{names[column]}: {result.hints['images'][image]}, {strength}")
    pages, labels = (alike(tiles), labels) if tiles else ([fitted(None, 2 * _TILE)], ["silent"])
    columns = max(1, min(len(pages), 720 // pages[0].width))
    title = f"strongest unit of {layer}, channel {entry['channel']}, over the training"
    alt = f"{title}. {_told(result, row, entry)}"
    page = sheet(pages, columns, labels=labels, gap=8)
    return Picture(slug(f"{layer}-{entry['channel']}"), page, title, alt, scale, None, title, True)


def _chosen(count: int, most: int) -> list[int]:
    """All of them, or some, the first and the last among them."""
    return list(range(count)) if count <= most else [round(p) for p in np.linspace(0, count - 1, most)]


def _cut(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """As much of a name's end as there is room for: its end tells checkpoints apart."""
    while text and pen.textlength(text, font(12)) > width:
        text = text[1:]
    return text
