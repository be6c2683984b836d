"""Kind ``strips``: a row a layer, in it one strip an array whose numbers stand in order, dark to light.

``hints["strips"]`` is a list of rows, each a mapping with ``label``, ``note`` (a few words behind it) and the
numbers ``from`` and ``to`` of its part of the arrays; ``hints["columns"]`` lists the arrays, each with
``array`` and ``title``; ``hints["scale"]`` has ``low``, ``high`` and ``label``, and ``hints["title"]`` says
what all of it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, paint
from convlens.pictures.picture import Picture, font

if TYPE_CHECKING:
    from convlens.results import Result

_INK, _QUIET = (34, 34, 40), (99, 99, 110)
_STRIP, _HIGH, _LINE = 300, 14, 19  # width and height of a strip, and of a row
_GAP = 12
_SIZE = 12
_LETTERS = 48
_ROWS = 80  # in one picture
_TOLD = 12  # rows told of in words


def draw(result: Result) -> Iterator[Picture]:
    """One picture; several where there are very many rows."""
    title, told = result.hints["title"], result.hints["scale"]
    scale = Scale(told["low"], told["high"], told["label"])
    rows: Sequence[Mapping[str, Any]] = result.hints["strips"]
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        said = [f"{row['label']}: {row['note'] or 'nothing unusual'}" for row in part[:_TOLD]]
        more = f"; {len(part) - _TOLD} more" if len(part) > _TOLD else ""
        yield Picture(
            f"strips-{start + 1}" if start else "strips",
            _sheet(result, part, scale),
            title,
            f"{title[:1].upper()}{title[1:]}. {'; '.join(said)}{more}.",
            scale,
            None,
            title,
            True,
        )


def _sheet(result: Result, rows: Sequence[Mapping[str, Any]], scale: Scale) -> Image.Image:
    columns = result.hints["columns"]
    words = font(_SIZE)
    labels = [_cut(row["label"]) for row in rows]
    front = _GAP + max(int(words.getlength(text)) for text in labels)
    behind = max(int(words.getlength(row["note"])) for row in rows)
    behind += _GAP if behind else 0
    width = front + len(columns) * (_STRIP + _GAP) + behind
    page = Image.new("RGB", (width, _LINE * (len(rows) + 1)), "white")
    pen = ImageDraw.Draw(page)
    for place, column in enumerate(columns):
        pen.text((front + place * (_STRIP + _GAP), 0), column["title"], fill=_QUIET, font=words)
    for line, row in enumerate(rows, start=1):
        y = line * _LINE
        pen.text((0, y), labels[line - 1], fill=_INK, font=words)
        for place, column in enumerate(columns):
            values = result.arrays[column["array"]][row["from"] : row["to"]]
            strip = np.repeat(_stretched(np.sort(values))[None], _HIGH, axis=0)
            page.paste(Image.fromarray(paint(strip, scale)), (front + place * (_STRIP + _GAP), y))
        pen.text((width - behind + _GAP // 2, y), row["note"], fill=_QUIET, font=words)
    return page


def _cut(text: str) -> str:
    """A name where it fits, else its start and its end."""
    half = (_LETTERS - 1) // 2
    return text if len(text) <= _LETTERS else f"{text[:half]}…{text[-half:]}"


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    """As many numbers as the strip has pixels, each that of the channel that lies there."""
    place = (np.arange(_STRIP) * len(values)) // _STRIP
    return np.asarray(values[place], np.float64)
