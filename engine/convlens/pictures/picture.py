"""One picture: pixels, what they show in words, and the legend that gives the colours a meaning."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convlens.pictures.colour import Scale, paint

_MARGIN = 10
_LONGEST = 2048  # pixels of the longer side to which small pictures are enlarged
_INK = (34, 34, 40)
_KEY_LINE = 17
_STEM = 100  # characters; file systems take 255 for the whole name

Key: TypeAlias = "tuple[tuple[int, int, int], str]"
"""A colour and what it stands for."""


@dataclass(frozen=True)
class Picture:
    """A drawn Result, or a part of one.

    Attributes:
        name: for file names; unique in its Result.
        image: the pixels, RGB.
        caption: what it is, a few words.
        alt: what can be seen, for those who cannot see it.
        scale: colour scale with unit, None where the colours are the photo's own.
        short: what it is, where the method and the image are said already.
        wide: whether it needs the width of a page.
        index: which image of the Result it belongs to, None where it is about the model or all images.
        density: its pixels per pixel of a page; above 1 for drawings of lines and letters.
        narrow: draws the same laid out for a phone, where its letters would become too small.
        key: what single colours stand for, where they are no scale.
    """

    name: str
    image: Image.Image
    caption: str
    alt: str
    scale: Scale | None = None
    index: int | None = None
    short: str = ""
    wide: bool = False
    density: int = 1
    narrow: Callable[[], Image.Image] | None = None
    key: tuple[Key, ...] = ()

    def composed(self) -> Image.Image:
        """The picture with its caption above and its legend below, for a file that stands alone."""
        width, size = max(self.image.width, 280), 13 * self.density
        lines = _lines(self.caption, size, width)
        top = _MARGIN + (size + 4) * len(lines) + 4
        label = _lines(self.scale.label, 12, width) if self.scale is not None else []
        bottom = 44 + 16 * max(1, len(label)) if self.scale is not None else _MARGIN
        keys = [(colour, _lines(text, 12, width - 22)) for colour, text in self.key]
        bottom += sum(_KEY_LINE * len(texts) for _, texts in keys) + 8 * bool(keys)
        sheet = Image.new("RGB", (width + 2 * _MARGIN, top + self.image.height + bottom), "white")
        pen = ImageDraw.Draw(sheet)
        for row, line in enumerate(lines):
            pen.text((_MARGIN, _MARGIN + (size + 4) * row), line, fill=_INK, font=font(size))
        sheet.paste(self.image, (_MARGIN, top))
        if self.scale is not None:
            _legend(sheet, pen, self.scale, label, top + self.image.height + 8, width)
        y = top + self.image.height + 8
        for colour, texts in keys:
            pen.rectangle((_MARGIN, y + 2, _MARGIN + 14, y + 13), fill=colour, outline=(150, 150, 158))
            for text in texts:
                pen.text((_MARGIN + 22, y), text, fill=_INK, font=font(12))
                y += _KEY_LINE
        return sheet


def _lines(text: str, size: int, width: int) -> list[str]:
    """Text in lines that are no wider than ``width`` pixels."""
    count = max(1, int(width / 5))
    while True:
        lines = textwrap.wrap(text, count)
        if count == 1 or all(font(size).getlength(line) <= width for line in lines):
            return lines
        count -= 1


def _legend(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, scale: Scale, label: list[str], y: int, width: int
) -> None:
    ramp = np.linspace(scale.low, scale.high, width)[None, :].repeat(10, axis=0)
    sheet.paste(Image.fromarray(paint(ramp, scale)), (_MARGIN, y))
    low, high = scale.ends()
    pen.text((_MARGIN, y + 12), low, fill=_INK, font=font(12))
    pen.text((_MARGIN + width - pen.textlength(high, font(12)), y + 12), high, fill=_INK, font=font(12))
    for row, line in enumerate(label):
        pen.text((_MARGIN, y + 28 + 16 * row), line, fill=_INK, font=font(12))


@cache
def font(size: int) -> Any:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size)


def slug(text: str) -> str:
    """Text as a part of a file name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "x"


def stems(names: Sequence[str]) -> list[str]:
    """What files made of each of ``names`` begin with: no folder, no ending, none the same as another."""
    return distinct([PurePath(name).stem for name in names])


def distinct(texts: Sequence[str]) -> list[str]:
    """Texts as parts of file names that differ, also where capitals do not count, and leave room for more."""
    found: list[str] = []
    taken: set[str] = set()
    for text in texts:
        stem = first = slug(text)[:_STEM]
        count = 2
        while stem.lower() in taken:
            stem, count = f"{first}-{count}", count + 1
        taken.add(stem.lower())
        found.append(stem)
    return found


def enlarge(image: Image.Image, shortest: int, smooth: bool = False) -> Image.Image:
    """``image`` scaled up by a whole factor until its shorter side is at least ``shortest`` pixels.

    Long and narrow ones grow less, or a spectrum of a thousand numbers would fill the memory.
    """
    factor = max(1, min(-(-shortest // min(image.size)), _LONGEST // max(image.size)))
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.resize((image.width * factor, image.height * factor), how) if factor > 1 else image
