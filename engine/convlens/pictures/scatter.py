"""Kind ``scatter``: many inputs as points on a plane, as small pictures, and on a grid without overlaps.

The main array holds places, N x 2, x to the right and y upwards; ``cell`` (N x 2) row and column of each on
a grid, -1 for none; ``thumbnails`` (N x height x width x 3, 8 bits) small pictures; ``pixel_place`` (N x 2)
another map that is drawn beside. ``colour`` holds one number a point, which the hint ``colour`` explains:
``title``, ``unit`` and, where the numbers count classes, their ``names``. ``title``, ``noun``, ``grid``
(rows and columns) and ``spaces`` (what ``purity`` is of, if it is there) are hints too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, paint
from convlens.pictures.palette import UNKNOWN, distinct
from convlens.pictures.picture import Key, Picture, font

if TYPE_CHECKING:
    from convlens.results import Result

_SIDE = 900  # of a map alone
_BESIDE = 640  # of one of two
_MARGIN = 0.03
_LONGEST = 2040
_FINER = 3  # drawn larger and reduced, so that round points have no stairs
_NAMED = 40  # classes whose names are written on the map
_MANY = 40  # points among which a name hides none that matters
_KEYS = 12  # classes in the key
_SHOWN = 400  # small pictures on a map
_TILE = 44  # longer side of one
_CELL = 34  # least side of a cell
_INK = (34, 34, 40)
_PAPER = (250, 250, 252)


def draw(result: Result) -> Iterator[Picture]:
    """The map in points, then where there are small pictures the map of those, then the grid."""
    colours, keys, scale = _colours(result)
    yield _points(result, colours, keys, scale)
    if "thumbnails" in result.arrays:
        yield _pictures(result, colours, keys, scale)
    yield _grid(result, colours, keys, scale)


def _colours(result: Result) -> tuple[NDArray[np.uint8], tuple[Key, ...], Scale | None]:
    """A colour a point, and what colours mean."""
    told, count = result.hints.get("colour"), len(result.array)
    if told is None:
        return np.tile(np.array(distinct(1), np.uint8), (count, 1)), (), None
    value = result.arrays["colour"]
    names = told["names"]
    if names is None:
        finite = value[np.isfinite(value)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        scale = Scale(low, high if high > low else low + 1.0, f"{told['title']} ({told['unit']})")
        if told["title"] == told["unit"]:
            scale = Scale(scale.low, scale.high, told["title"])
        return paint(value, scale), (), scale
    table = distinct(len(names))
    colours = np.array([table[int(i)] if i >= 0 else UNKNOWN for i in value], np.uint8)
    counts = [int((value == i).sum()) for i in range(len(names))]
    first = sorted(range(len(names)), key=lambda i: (-counts[i], i))[:_KEYS]
    keys = [(table[i], f"{names[i]}: {counts[i]:,}") for i in sorted(first)]
    if len(names) > _KEYS:
        keys.append((UNKNOWN, f"and {len(names) - _KEYS} more, each in a colour of its own"))
    if (value < 0).any():
        keys.append((UNKNOWN, f"no {told['title']}: {int((value < 0).sum()):,}"))
    return colours, tuple(keys), None


def _points(
    result: Result, colours: NDArray[np.uint8], keys: tuple[Key, ...], scale: Scale | None
) -> Picture:
    """Every point; beside it the map of the pixels."""
    beside = result.arrays.get("pixel_place")
    side = _SIDE if beside is None else _BESIDE
    own = _plane(result, result.array, colours, side)
    title = str(result.hints["title"])
    alt = f"{title}: {len(colours):,} points{_in_words(result)}."
    if beside is not None:
        heads = [f"{space}{_purity(result, f'map of {space}')}" for space in ("features", "pixels")]
        both = [_headed(own, heads[0]), _headed(_plane(result, beside, colours, side), heads[1])]
        own = Image.new("RGB", (2 * side + 16, both[0].height), "white")
        own.paste(both[0], (0, 0))
        own.paste(both[1], (side + 16, 0))
        alt = f"{alt[:-1]}; beside it the same of the pixels."
    return Picture("map", own, f"{title}{_in_words(result)}", alt, scale, wide=True, key=keys)


def _in_words(result: Result) -> str:
    told = result.hints.get("colour")
    return "" if told is None else f", colours by {told['title']}"


def _headed(image: Image.Image, text: str) -> Image.Image:
    page = Image.new("RGB", (image.width, image.height + 20), "white")
    page.paste(image, (0, 20))
    ImageDraw.Draw(page).text((2, 2), text, fill=_INK, font=font(13))
    return page


def _plane(result: Result, place: NDArray[Any], colours: NDArray[np.uint8], side: int) -> Image.Image:
    """Points in a square, and over each class its name."""
    big = side * _FINER
    at = spread(place, big)
    reach = _FINER * float(np.clip(70 / np.sqrt(len(at)), 1.4, 5.0))
    image = Image.new("RGB", (big, big), _PAPER)
    pen = ImageDraw.Draw(image)
    for (x, y), colour in zip(at.tolist(), colours.tolist(), strict=True):
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=tuple(colour))
    image = image.resize((side, side), Image.Resampling.LANCZOS)
    _names(result, image, at / _FINER)
    return image


def spread(place: NDArray[Any], side: int) -> NDArray[np.float64]:
    """Places as pixels of a square picture, x from the left and y from the top, in their proportions."""
    low, high = place.min(axis=0), place.max(axis=0)
    extent = float((high - low).max()) or 1.0
    shares = (place - (low + high) / 2) / extent * np.array([1, -1]) * (1 - 2 * _MARGIN) + 0.5
    return np.asarray(shares * side)


def _names(result: Result, image: Image.Image, at: NDArray[Any]) -> None:
    """Each class's name at the median of its points, where the classes are not too many to read."""
    told = result.hints.get("colour")
    if told is None or told["names"] is None or len(told["names"]) > _NAMED:
        return
    pen = ImageDraw.Draw(image)
    value = result.arrays["colour"]
    taken: list[tuple[float, float, float]] = []
    counts = [int((value == index).sum()) for index in range(len(told["names"]))]
    for index in sorted(range(len(counts)), key=lambda i: (-counts[i], i)):
        own, name = at[value == index], told["names"][index]
        if not len(own):
            continue
        middle = np.median(own, axis=0)
        x, y = own[np.square(own - middle).sum(axis=1).argmin()]  # on a point of the class, not between two
        text = name if len(name) <= 24 else f"{name[:23]}…"
        half = pen.textlength(text, font(14)) / 2
        if len(own) < _MANY:  # beside the points, not over them
            y += 16
        x = min(max(x, half + 2), image.width - half - 2)
        if any(abs(x - one) < half + wide and abs(y - row) < 16 for one, row, wide in taken):
            continue  # over another name
        taken.append((x, y, half))
        pen.text(
            (x - half, y - 9), text, fill=_INK, font=font(14), stroke_width=3, stroke_fill=(255, 255, 255)
        )


def _pictures(
    result: Result, colours: NDArray[np.uint8], keys: tuple[Key, ...], scale: Scale | None
) -> Picture:
    """The map with small pictures at their places; one that would lie over another is left out."""
    held = result.arrays["thumbnails"]
    height, width = held.shape[1:3]
    factor = _TILE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    side = 2 * _BESIDE
    at = spread(result.array, side - 2 * _TILE) + _TILE
    reach = np.array(size) / 2 + 3
    image = Image.new("RGB", (side, side), _PAPER)
    pen = ImageDraw.Draw(image)
    for (x, y), colour in zip(at.tolist(), colours.tolist(), strict=True):
        pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=tuple(colour))
    chosen = apart(at, reach, _SHOWN)
    for index in chosen:
        x, y = at[index]
        left, top = round(x - size[0] / 2), round(y - size[1] / 2)
        pen.rectangle(
            (left - 2, top - 2, left + size[0] + 1, top + size[1] + 1), fill=tuple(colours[index].tolist())
        )
        image.paste(_tile(held[index], size), (left, top))
    title = f"{result.hints['title']}, {len(chosen)} of them drawn"
    alt = f"{title}, each where it lies, framed in its colour{_in_words(result)}."
    return Picture("pictures", image, f"{title}{_in_words(result)}", alt, scale, wide=True, key=keys)


def apart(at: NDArray[Any], reach: NDArray[Any], most: int) -> list[int]:
    """Points that lie so far from each other that boxes of half size ``reach`` around them do not overlap.

    Those nearest to the middle of what is left first would crowd; they are taken in an order that is
    spread over all, every so many.
    """
    count = len(at)
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    chosen: list[int] = []
    for index in (np.arange(count) * step % count).tolist():
        gaps = np.abs(at[chosen] - at[index]) < 2 * reach
        if not gaps.all(axis=1).any():
            chosen.append(index)
        if len(chosen) == most:
            break
    return chosen


def _tile(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(pixels)
    grows = size[0] >= 2 * image.width
    return image.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS)


def _grid(result: Result, colours: NDArray[np.uint8], keys: tuple[Key, ...], scale: Scale | None) -> Picture:
    """Each input in a cell of its own: its small picture in a frame of its colour, or the colour alone."""
    rows, columns = result.hints["grid"]
    held = result.arrays.get("thumbnails")
    side = max(8, min(max(_CELL, min(96, 900 // max(rows, columns))), _LONGEST // max(rows, columns)))
    image = Image.new("RGB", (columns * side, rows * side), _PAPER)
    pen = ImageDraw.Draw(image)
    frame = max(1, side // 16)
    shown = 0
    for index, (row, column) in enumerate(result.arrays["cell"].tolist()):
        if row < 0:
            continue
        shown += 1
        x, y = column * side, row * side
        colour = tuple(colours[index].tolist())
        pen.rectangle((x + 1, y + 1, x + side - 1, y + side - 1), fill=colour)
        if held is None:
            continue
        height, width = held.shape[1:3]
        factor = (side - 2 * frame - 1) / max(height, width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        corner = x + 1 + (side - 1 - size[0]) // 2, y + 1 + (side - 1 - size[1]) // 2
        image.paste(_tile(held[index], size), corner)
    title = f"{result.hints['title']}, {shown:,} on a grid"
    alt = f"{title} of {rows} x {columns} cells, as near to their places as can be{_in_words(result)}."
    return Picture("grid", image, f"{title}{_in_words(result)}", alt, scale, wide=True, key=keys)


def _purity(result: Result, space: str) -> str:
    """How well classes stay together in a space, in words."""
    if "purity" not in result.arrays or space not in result.hints["spaces"]:
        return ""
    share = float(result.arrays["purity"][result.hints["spaces"].index(space)])
    k, by = result.hints["neighbours"], result.hints["by"]
    return f": of the {k} nearest on this map {share:.1%} have the same {by}"
