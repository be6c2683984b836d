"""Parts that a person marks in images: where they lie in each, from a file or a line of text.

A box is four numbers, ``left, top, right, bottom`` in pixels of the photo as it was, or ``FROM:TO`` for
each axis in positions of the input as the model takes it, the last one excluded. A file has them by part
and image:

- CSV with the columns ``image, part`` and the box;
- TOML or JSON with a table a part: ``[nose]`` and in it ``"dog.jpg" = [120, 80, 160, 110]``.

In a line of text a part has one box in every image: ``nose=40:60,30:50; mouth=70:90,30:50``.
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from convlens.errors import ParameterError, nearest

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.registry import Images

Window: TypeAlias = "tuple[slice, ...]"

_SPAN = re.compile(r"\s*(-?\d+)\s*:\s*(-?\d+)\s*")
_FORMS = "left, top, right, bottom in pixels of the photo, or FROM:TO for each axis of the input"
_FILES = (".csv", ".toml", ".json")


@dataclass(frozen=True)
class Part:
    """One part by its name, with its window in each image: a slice for each of :attr:`Source.axes`."""

    name: str
    windows: tuple[Window, ...]


def parts_of(given: str | Mapping[str, Any] | None, model: Model, images: Images) -> list[Part]:
    """The parts in every image; without any, one in the middle of each, a quarter of each side long.

    Raises:
        ParameterError: a file that cannot be read, a box that is none or does not lie in its image, or an
            image without a box.
    """
    extent = [images.array.shape[axis] for axis in model.source.axes]
    if given is None:
        sides = [max(1, size // 4) for size in extent]
        middle = tuple(
            slice((n - side) // 2, (n - side) // 2 + side) for n, side in zip(extent, sides, strict=True)
        )
        return [Part("middle", (middle,) * len(images))]
    named = _read(given) if isinstance(given, str) else given
    if not named:
        raise ParameterError("parts names no part; expected a name and a box, such as nose=40:60,30:50")
    found = []
    for part, boxes in named.items():
        windows = []
        for index, image in enumerate(images.names):
            box = _of_image(part, boxes, image) if isinstance(boxes, Mapping) else boxes
            where = f"part {part!r} of {image}"
            windows.append(_window(where, box, model, images, index, extent))
        found.append(Part(part, tuple(windows)))
    return found


def _read(text: str) -> Mapping[str, Any]:
    """Boxes by part (and image), from a file or from the text itself."""
    if not text.lower().endswith(_FILES):
        return _from_text(text)
    path = Path(text)
    try:
        held = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return _from_csv(path, held)
        tables = tomllib.loads(held) if path.suffix.lower() == ".toml" else json.loads(held)
    except OSError as error:
        raise ParameterError(f"parts: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ParameterError(f"parts: {path} is no {path.suffix[1:].upper()} file ({error})") from error
    if not isinstance(tables, Mapping):
        raise ParameterError(f"parts: {path} has no tables; expected one a part, with a box for each image")
    return tables


def _from_text(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for piece in filter(None, map(str.strip, text.split(";"))):
        name, sign, box = (each.strip() for each in piece.partition("="))
        if not sign or not name or not box:
            raise ParameterError(
                f"parts has {piece!r}; expected a file ({', '.join(_FILES)}) or NAME=FROM:TO,FROM:TO with ; "
                "between parts"
            )
        found[name] = box.split(",")
    return found


def _from_csv(path: Path, text: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[0].lower() == "image"):
            continue
        if len(cells) < 3:
            raise ParameterError(f"parts: {path} line {number} is {','.join(row)!r}; expected image,part,box")
        image, part, *box = cells
        found.setdefault(part, {})[image] = [cell for cell in box if cell]
    return found


def _of_image(part: str, boxes: Mapping[str, Any], image: str) -> Any:
    """The box of an image, which may be named without its ending."""
    stem = image.rsplit(".", 1)[0]
    for name in (image, stem):
        if name in boxes:
            return boxes[name]
    known = list(boxes)
    raise ParameterError(
        f"part {part!r} has no box for {image}{nearest(image, known) or f'; it has {len(known)}'}; "
        "give one for every image, or leave the image out"
    )


def _window(where: str, box: Any, model: Model, images: Images, index: int, extent: Sequence[int]) -> Window:
    """A box as slices of the input, cut to it."""
    values = [box] if isinstance(box, str) else box
    if not isinstance(values, (list, tuple)) or not values:
        raise ParameterError(f"{where} is {box!r}; expected {_FORMS}")
    names = model.source.axis_names
    pairs: list[tuple[float, float]]
    spans = [_SPAN.fullmatch(value) if isinstance(value, str) else None for value in values]
    if all(spans):
        if len(spans) != len(extent):
            raise ParameterError(
                f"{where} has {len(spans)} axes; expected {len(extent)} ({', '.join(names)})"
            )
        pairs = [(int(span[1]), int(span[2])) for span in spans if span]
        limits = list(extent)
    else:
        pairs, limits = _of_photo(where, box, values, images, index, extent)
    for (first, after), limit, name in zip(pairs, limits, names, strict=True):
        if not 0 <= first < after <= limit:
            raise ParameterError(
                f"{where} goes from {first:g} to {after:g} along {name}; "
                f"expected a stretch within 0 to {limit}"
            )
    if all(spans):
        return tuple(slice(int(first), int(after)) for first, after in pairs)
    (top, bottom), (left, right) = pairs
    if images.sizes is not None:
        seen = model.preprocess.placed((left, top, right, bottom), images.sizes[index])
        left, top, right, bottom = seen
    window = []
    for first, after, size in ((top, bottom, extent[0]), (left, right, extent[1])):
        start = min(max(0, round(first)), size)
        stop = min(max(start + (after > 0), round(after)), size)
        if start >= stop:
            raise ParameterError(f"{where} lies outside of what the model sees, since the photo is cropped")
        window.append(slice(start, stop))
    return tuple(window)


def _of_photo(
    where: str, box: Any, values: Sequence[Any], images: Images, index: int, extent: Sequence[int]
) -> tuple[list[tuple[float, float]], list[int]]:
    """Rows and columns of a photo from left, top, right, bottom, and how many of each it has."""
    try:
        left, top, right, bottom = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ParameterError(f"{where} is {box!r}; expected {_FORMS}") from None
    if len(extent) != 2:
        raise ParameterError(f"{where} is {box!r}, a box of a photo; expected FROM:TO for each axis")
    limits = list(extent)
    if images.sizes is not None:
        limits = [images.sizes[index][1], images.sizes[index][0]]
    return [(top, bottom), (left, right)], limits
