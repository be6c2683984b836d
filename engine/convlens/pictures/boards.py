"""Boards: a grid with stones where two planes suggest them, and points in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import paint
from convlens.pictures.picture import font
from convlens.pictures.signals import FALLS, INK, QUIET, RISES

if TYPE_CHECKING:
    from convlens.pictures.scenes import Scene

_SIDE = 340
_SMALL = 170
_SCALE = 3  # drawn larger and reduced, so that round stones have no stairs


def board(scene: Scene) -> Image.Image:
    """Points in colour on a grid, stones on top; rows and columns counted from 0, as targets count them."""
    rows, columns = scene.values.shape
    cell = max(8, (_SMALL if scene.small else _SIDE) // max(rows, columns))
    edge = 0 if scene.small else 18
    big = cell * _SCALE
    sheet = Image.new("RGB", (columns * big, rows * big), (250, 247, 240))
    pen = ImageDraw.Draw(sheet)
    colours = paint(scene.values, scene.scale)
    bound = max(abs(scene.scale.low), abs(scene.scale.high))
    for row in range(rows):
        for column in range(columns):
            if abs(np.nan_to_num(scene.values[row, column])) > 0.02 * bound or not np.isfinite(
                scene.values[row, column]
            ):
                fill = tuple(int(v) for v in colours[row, column])
                x, y = column * big, row * big
                pen.rectangle((x, y, x + big - 1, y + big - 1), fill=fill)
    line, half = (168, 160, 148), big // 2
    for row in range(rows):
        pen.line((half, row * big + half, columns * big - half, row * big + half), fill=line, width=2)
    for column in range(columns):
        pen.line((column * big + half, half, column * big + half, rows * big - half), fill=line, width=2)
    for x, y, fill, size in _stones(scene.given):
        reach = half * size
        at = (x * big + half, y * big + half)
        box = (at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach)
        pen.ellipse(box, fill=fill, outline=(60, 60, 66), width=_SCALE)
    for mark in scene.marks:
        (top, left), (bottom, right) = mark["from"], mark["to"]
        colour = FALLS if mark["effect"] == "falls" else RISES
        pen.rectangle(
            (left * big, top * big, right * big - 1, bottom * big - 1), outline=colour, width=2 * _SCALE
        )
    drawn = sheet.resize((columns * cell, rows * cell), Image.Resampling.LANCZOS)
    if not edge:
        return drawn
    image = Image.new("RGB", (drawn.width + edge, drawn.height + edge), "white")
    image.paste(drawn, (edge, edge))
    pen = ImageDraw.Draw(image)
    for count, across in ((columns, True), (rows, False)):
        for place in range(count):
            text = str(place)
            wide = pen.textlength(text, font(10))
            along = edge + place * cell + (cell - (wide if across else 12)) / 2
            corner = (along, 3.0) if across else (edge - 4 - wide, along)
            pen.text(corner, text, fill=QUIET, font=font(10))
    return image


def _stones(planes: NDArray[Any]) -> list[tuple[int, int, tuple[int, int, int], float]]:
    """Stones as (column, row, colour, size): black and white by two planes, else greys by the planes' sum."""
    pair = stone_planes(planes)
    if pair is not None:
        found = []
        for plane, fill in zip(pair, (INK, (252, 252, 252)), strict=True):
            if plane is not None:
                found += [(int(x), int(y), fill, 0.72) for y, x in np.argwhere(planes[plane] != 0)]
        return found
    total = np.where(np.isfinite(planes), planes, 0.0).sum(axis=0)
    bound = float(np.abs(total).max())
    if bound == 0:
        return []
    return [
        (
            int(x),
            int(y),
            (90, 90, 98) if total[y, x] > 0 else (225, 225, 230),
            0.75 * abs(total[y, x]) / bound,
        )
        for y, x in np.argwhere(np.abs(total) > 0.1 * bound)
    ]


def stone_planes(planes: NDArray[Any]) -> tuple[int, int | None] | None:
    """The first plane of zeros and ones that is neither empty nor full, and the first later one beside it.

    None where there is none, or where one holds other numbers than these.
    """
    if not np.isin(planes, (0.0, 1.0)).all():
        return None
    partly = [index for index, plane in enumerate(planes) if 0 < plane.sum() < plane.size]
    if not partly:
        return None
    first = partly[0]
    beside = [index for index in partly[1:] if not (planes[index] * planes[first]).any()]
    return first, beside[0] if beside else None
