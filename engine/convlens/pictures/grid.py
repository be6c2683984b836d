"""Pictures in rows and columns with headings that can be read, in as many bands as the width asks for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw

from convlens.pictures.picture import font

_INK, _QUIET, _PALE = (34, 34, 40), (99, 99, 110), (243, 243, 246)
_GAP, _LINE, _SIZE = 8, 16, 13
_MARGIN = 10


def grid(
    columns: Sequence[tuple[str, Sequence[Image.Image | str]]],
    rows: Sequence[str],
    width: int,
    title: str = "",
    foot: Sequence[str] = (),
    first: Sequence[Image.Image] = (),
) -> Image.Image:
    """A sheet of tiles.

    Args:
        columns: heading and tiles of each column, one tile a row; a text stands where there is no picture.
        rows: what each row is, written above it where there are several.
        width: of the sheet, in pixels; columns that do not fit go into another band below.
        title: above everything.
        foot: lines below everything.
        first: a tile a row that begins every band, such as the photo.
    """
    sizes = [tile.size for _, tiles in columns for tile in tiles if isinstance(tile, Image.Image)]
    sizes += [tile.size for tile in first]
    wide = max([w for w, _ in sizes], default=160)
    high = max([h for _, h in sizes], default=120)
    room = width - 2 * _MARGIN + _GAP
    per_band = max(1, room // (wide + _GAP) - bool(first))
    bands = [columns[i : i + per_band] for i in range(0, len(columns), per_band)]
    headings = [[_wrapped(label, wide) for label, _ in band] for band in bands]
    tops = [_LINE * max((len(lines) for lines in band), default=0) + 4 for band in headings]
    per_row = high + _GAP + (_LINE + 2 if len(rows) > 1 else 0)
    widest = max(len(band) for band in bands) + bool(first)
    total = max(widest * (wide + _GAP) - _GAP + 2 * _MARGIN, min(width, 480))
    lines = _wrapped(title, total - 2 * _MARGIN, _SIZE + 3) if title else []
    feet = [line for text in foot for line in _wrapped(text, total - 2 * _MARGIN)]
    head = _MARGIN + (_LINE + 5) * len(lines) + 3
    height = head + sum(top + per_row * len(rows) for top in tops) + _GAP * (len(bands) - 1)
    sheet = Image.new("RGB", (total, height + _LINE * len(feet) + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN - 2 + (_LINE + 5) * number), line, fill=_INK, font=font(_SIZE + 3))
    y = head
    for band, texts, top in zip(bands, headings, tops, strict=True):
        shift = (wide + _GAP) * bool(first)
        for column, heading in enumerate(texts):
            x = _MARGIN + shift + column * (wide + _GAP)
            for number, line in enumerate(heading):
                pen.text((x, y + _LINE * number), line, fill=_INK, font=font(_SIZE))
        y += top
        for row, name in enumerate(rows):
            if len(rows) > 1:
                pen.text((_MARGIN, y), _wrapped(name, total - 2 * _MARGIN)[0], fill=_QUIET, font=font(12))
                y += _LINE + 2
            if first:
                sheet.paste(first[row], (_MARGIN, y))
            for column, (_, tiles) in enumerate(band):
                _place(sheet, pen, tiles[row], _MARGIN + shift + column * (wide + _GAP), y, (wide, high))
            y += high + _GAP
        y += _GAP
    y -= _GAP
    for number, line in enumerate(feet):
        pen.text((_MARGIN, y + _LINE * number), line, fill=_QUIET, font=font(12))
    return sheet


def tile_of(image: Image.Image, width: int) -> Image.Image:
    """``image`` brought to ``width`` pixels, by whole pixels where it grows."""
    how = Image.Resampling.LANCZOS if image.width > width else Image.Resampling.NEAREST
    return image.resize((width, max(1, round(image.height * width / image.width))), how)


def _place(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    tile: Image.Image | str,
    x: int,
    y: int,
    size: tuple[int, int],
) -> None:
    if isinstance(tile, Image.Image):
        sheet.paste(tile, (x, y))
        return
    pen.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), fill=_PALE)
    lines = _wrapped(tile, size[0] - 12, 11)
    fitting = max(1, (size[1] - 10) // 14)
    if len(lines) > fitting:
        lines = [*lines[: fitting - 1], f"{lines[fitting - 1]} …"]
    for number, line in enumerate(lines):
        pen.text((x + 6, y + 5 + 14 * number), line, fill=_QUIET, font=font(11))


def _wrapped(text: str, width: int, size: int = _SIZE) -> list[str]:
    """Text in lines no wider than ``width`` pixels; words that are too long are broken."""
    letters = max(4, int(2.4 * width / size))
    while letters > 4:
        lines = textwrap.wrap(text, letters) or [""]
        if all(font(size).getlength(line) <= width for line in lines):
            return lines
        letters -= 1
    return textwrap.wrap(text, 4) or [""]
