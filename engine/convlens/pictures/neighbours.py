"""Kind ``neighbours``: an input and what is nearest to it, a row by features and one by pixels.

The main array holds distances, N x k. ``query`` (N x height x width x 3, 8 bits), ``pictures`` and
``pixel_pictures`` (N x k x height x width x 3) are photos; of other inputs ``input`` (N x its shape),
``inputs`` and ``pixel_inputs`` (N x k x its shape) are what goes in, which the hint ``input`` explains.
``each`` has ``label``, ``prediction`` and ``probability`` of the input, and ``spaces``: for each row the
``names``, ``labels``, ``predictions`` of the neighbours, whether they are the input itself (``same``) and
``alike`` in class (None where that is not known).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from convlens.pictures.colour import number, positive, symmetric
from convlens.pictures.picture import Key, Picture, font, slug
from convlens.pictures.scenes import scene
from convlens.pictures.tiles import fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.results import Result

_TILE = 96
_FRAME = 3
_LINE, _LINES = 14, 4  # of text under a tile
_GAP = 8
_WIDEST = 1300
_LONGEST = 2000
_INK, _QUIET = (34, 34, 40), (110, 110, 118)
ALIKE, OTHER, NOTHING = (0, 158, 115), (213, 94, 0), (196, 196, 202)
"""Frames: of the same class, of another, not known."""


def draw(result: Result) -> Iterator[Picture]:
    """One sheet an input."""
    for index, name in enumerate(result.images):
        own = result.hints["each"][index]
        heads = [_head(result, own, at) for at in range(len(own["spaces"]))]
        rows = [_row(result, own, index, at) for at in range(len(own["spaces"]))]
        image = _stacked(_given(result, own, index, name), heads, rows)
        keys: tuple[Key, ...] = ()
        if own["class"] is not None:
            keys = ((ALIKE, f"{own['by']} {own['class']}"), (OTHER, f"another {own['by']}"))
        title = f"nearest to {name} by features{' and by pixels' if len(rows) > 1 else ''}"
        alt = f"{title}: {'; '.join(_words(space) for space in own['spaces'])}."
        yield Picture(slug(name.rsplit(".", 1)[0]), image, title, alt, None, index, title, True, key=keys)


def _words(space: Mapping[str, Any]) -> str:
    names = [
        f"{name}{f' ({label})' if label is not None else ''}{', itself' if same else ''}"
        for name, label, same in zip(space["names"], space["labels"], space["same"], strict=True)
    ]
    return f"by {space['space']} {', '.join(names[:8])}"


def _head(result: Result, own: Mapping[str, Any], at: int) -> str:
    space = own["spaces"][at]
    what = (
        f"features of {result.hints['layer']}" if at == 0 else "pixels" if _photo(result) else "what goes in"
    )
    share = f": {space['share']:.0%} have its {own['by']}" if space["share"] is not None else ""
    return f"nearest by {what}{share}    ({result.hints['units'][at]})"


def _photo(result: Result) -> bool:
    return "query" in result.arrays


def _given(result: Result, own: Mapping[str, Any], index: int, name: str) -> Image.Image:
    """The input itself, with what is known of it."""
    tile = _tile(result, "query" if _photo(result) else "input", (index,), own.get("words", ()))
    told = [name, *_known(own["label"], own["prediction"], own["probability"])]
    return _captioned(tile, _INK, told)


def _known(label: str | None, prediction: str | None, probability: float | None) -> list[str]:
    """Label, and what the model takes it for; once where both are the same."""
    if prediction is None:
        return [label] if label is not None else []
    likely = prediction if probability is None else f"{prediction} {probability:.0%}"
    return [likely] if label in (None, prediction) else [str(label), f"says {likely}"]


def _row(result: Result, own: Mapping[str, Any], index: int, at: int) -> list[Image.Image]:
    """The neighbours in one space."""
    space, lead = own["spaces"][at], ("", "pixel_")[at]
    held = f"{lead}{'pictures' if _photo(result) else 'inputs'}"
    tiles = []
    for place, name in enumerate(space["names"]):
        alike = space["alike"][place]
        frame = NOTHING if alike is None or space["same"][place] else ALIKE if alike else OTHER
        words = space["words"][place]
        tile = _tile(result, held, (index, place), words) if held in result.arrays else fitted(None, _TILE)
        distance = float(result.arrays[f"{lead}distance"][index, place])
        first = "itself" if space["same"][place] else number(distance)
        known = _known(space["labels"][place], space["predictions"][place], None)
        tiles.append(_captioned(tile, frame, [first, *known, name]))
    return tiles


def _tile(result: Result, held: str, at: tuple[int, ...], words: Sequence[str]) -> Image.Image:
    array: NDArray[Any] = result.arrays[held][at]
    if _photo(result):
        return fitted(Image.fromarray(array), _TILE)
    info = result.hints["input"]
    shape = [array.shape[axis - 1] for axis in info["spatial"]] or [array.size]
    if info["kind"] == "vector":  # its numbers are the picture
        return scene(info, array, array, symmetric(array, "", 100).pale(), small=True)
    scale = positive(np.ones(1), "").pale()
    return scene(info, np.zeros(shape), array, scale, {"words": words}, small=True)


def _captioned(tile: Image.Image, frame: tuple[int, int, int], lines: Sequence[str]) -> Image.Image:
    """A tile in a frame, lines of text under it."""
    width, height = tile.width + 2 * _FRAME, tile.height + 2 * _FRAME
    page = Image.new("RGB", (width, height + _LINE * _LINES + 2), "white")
    page.paste(frame, (0, 0, width, height))
    page.paste(tile, (_FRAME, _FRAME))
    pen = ImageDraw.Draw(page)
    for row, text in enumerate(lines[:_LINES]):
        pen.text(
            (0, height + row * _LINE), _cut(pen, text, width), fill=_QUIET if row else _INK, font=font(11)
        )
    return page


def _cut(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Text that fits, its end kept, since names of files differ there."""
    if pen.textlength(text, font(11)) <= width:
        return text
    while text and pen.textlength(f"…{text}", font(11)) > width:
        text = text[1:]
    return f"…{text}"


def _stacked(given: Image.Image, heads: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """The input to the left of the rows, each under its heading; wide tiles go below each other."""
    widest = max(tile.width for row in rows for tile in row)
    left = given.width + 2 * _GAP
    room = _WIDEST - left
    columns = max(1, min(max(map(len, rows)), (room + _GAP) // (widest + _GAP)))
    if columns < min(3, max(map(len, rows))):
        left, columns = 0, max(1, (_WIDEST + _GAP) // (widest + _GAP))
    tall = max(tile.height for row in rows for tile in row)
    above = given.height + _GAP if left == 0 else 0
    count = max(1, (_LONGEST - above) // (tall + _GAP) // len(rows))  # lines of a row that there is room for
    lines = [min(-(-len(row) // columns), count) for row in rows]
    text = 20
    height = above + sum(n * (tall + _GAP) + text for n in lines)
    texts = [
        head if len(row) <= n * columns else f"{head}, the first {n * columns} of {len(row)}"
        for head, row, n in zip(heads, rows, lines, strict=True)
    ]
    wide = left + max(columns * (widest + _GAP), *(round(font(12).getlength(one)) + _GAP for one in texts))
    page = Image.new("RGB", (max(wide, given.width), max(height, given.height + text)), "white")
    page.paste(given, (0, 0 if left == 0 else text))
    pen = ImageDraw.Draw(page)
    y = above
    for head, row, n in zip(texts, rows, lines, strict=True):
        pen.text((left, y + 2), head, fill=_INK, font=font(12))
        y += text
        for place, tile in enumerate(row[: n * columns]):
            down, across = divmod(place, columns)
            page.paste(tile, (left + across * (widest + _GAP), y + down * (tall + _GAP)))
        y += n * (tall + _GAP)
    return page
