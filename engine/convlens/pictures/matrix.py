"""Kind ``matrix``: numbers in rows and columns that have names, each number in its colour and written.

``hints["matrix"]`` has ``array`` (the numbers), ``label`` (what they are), ``rows`` and ``columns``, each a
list of ``{"label", "index"}``, and where some numbers stand out ``marks``, an array that is not zero there,
and ``marks_label``. ``hints["title"]`` says what all of it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from convlens.pictures.colour import paint, symmetric
from convlens.pictures.picture import Picture, font

if TYPE_CHECKING:
    from convlens.results import Result

_INK, _LIGHT = (34, 34, 40), (250, 250, 252)
_WIDE, _HIGH = 44, 24  # of a cell
_SIZE = 12
_LETTERS = 34
_TOLD = 12


def draw(result: Result) -> Iterator[Picture]:
    """One picture."""
    told, title = result.hints["matrix"], result.hints["title"]
    rows, columns = told["rows"], told["columns"]
    place = np.ix_([row["index"] for row in rows], [column["index"] for column in columns])
    values = result.arrays[told["array"]][place].astype(np.float64)
    marks = result.arrays[told["marks"]][place] != 0 if "marks" in told else np.zeros(values.shape, bool)
    framed = f"; in a frame: {told['marks_label']}" if marks.any() else ""
    scale = symmetric(values, f"{told['label']}{framed}", 100).pale()
    said = [
        f"{row['label']}: {columns[int(own.argmax())]['label']} {own.max():.2f}"
        for row, own in zip(rows[:_TOLD], values, strict=False)
    ]
    more = f"; {len(rows) - _TOLD} more rows" if len(rows) > _TOLD else ""
    words = font(_SIZE)
    left, top = ([_cut(each["label"]) for each in given] for given in (rows, columns))
    front = 10 + max(int(words.getlength(text)) for text in left)
    head = 10 + max(int(words.getlength(text)) for text in top)
    page = Image.new("RGB", (front + _WIDE * len(top), head + _HIGH * len(left)), "white")
    pen = ImageDraw.Draw(page)
    for column, text in enumerate(top):
        tile = Image.new("RGB", (head - 4, _SIZE + 5), "white")
        ImageDraw.Draw(tile).text((0, 0), text, fill=_INK, font=words)
        upright = tile.rotate(90, expand=True)
        page.paste(upright, (front + column * _WIDE + (_WIDE - upright.width) // 2, 0))
    colours = paint(values, scale)
    for row, text in enumerate(left):
        y = head + row * _HIGH
        pen.text((0, y + (_HIGH - _SIZE) // 2 - 2), text, fill=_INK, font=words)
        for column in range(len(top)):
            x = front + column * _WIDE
            fill = tuple(colours[row, column].tolist())
            pen.rectangle((x, y, x + _WIDE - 2, y + _HIGH - 2), fill=fill)
            if marks[row, column]:
                pen.rectangle((x, y, x + _WIDE - 2, y + _HIGH - 2), outline=_INK, width=2)
            number = f"{values[row, column]:.1f}".replace("-0.0", "0.0")
            ink = _INK if sum(fill) > 330 else _LIGHT
            pen.text(
                (x + (_WIDE - words.getlength(number)) / 2, y + (_HIGH - _SIZE) // 2 - 2),
                number,
                fill=ink,
                font=words,
            )
    alt = f"{title[:1].upper()}{title[1:]}. {'; '.join(said)}{more}."
    yield Picture("matrix", page, title, alt, scale, None, title, True)


def _cut(text: str) -> str:
    if len(text) <= _LETTERS:
        return text
    half = (_LETTERS - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
