"""Kind ``map``: numbers over the input, on their own, as colours, or laid over the photo.

``hints["draw"]`` lists what is drawn: ``array``, ``style`` (``map``, ``colour``, ``overlay``, or ``labels``,
see :mod:`convlens.pictures.labels`), ``reduction`` (``max``, ``mean`` or ``signed``, only for arrays with
channels), ``label``, a ``name`` for the file where two have one style, and ``marks`` (False: no boxes).
``hints["each"]`` gives each image's ``title``, other ``titles`` by array, and ``marks``: boxes to draw. With
the hint ``input`` the numbers are drawn over what went in (see :mod:`convlens.pictures.scenes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, as_colour, paint, positive, symmetric
from convlens.pictures.labels import label_picture
from convlens.pictures.layout import channels_last, photo
from convlens.pictures.picture import Picture, enlarge, slug
from convlens.pictures.scenes import WIDE, reduced, scene

if TYPE_CHECKING:
    from convlens.results import Result

_SIDE = 224  # smaller maps are enlarged to it
_STRIP = 12  # rows of the strip by which a signal without height is drawn


def draw(result: Result) -> Iterator[Picture]:
    """What the Result's hints ask for, image by image."""
    for index, name in enumerate(result.images):
        for entry in result.hints["draw"]:
            one = label_picture if entry["style"] == "labels" else _one
            yield one(result, index, name, entry)


def _own(result: Result, index: int, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Captions and boxes of one picture of an image: an array can have its own title, and no boxes."""
    own: Mapping[str, Any] = result.hints["each"][index]
    title = own.get("titles", {}).get(entry["array"])
    if title is not None:
        own = {**own, "title": title, "short": title}
    return own if entry.get("marks", True) else {**own, "marks": ()}


def _one(result: Result, index: int, name: str, entry: Mapping[str, Any]) -> Picture:
    values = result.arrays[entry["array"]][index].astype(np.float64)
    layout, colours = result.hints.get("layout", "NCHW"), result.hints.get("channels", "RGB")
    own = _own(result, index, entry)
    title = own["title"]
    stem = slug(f"{name.rsplit('.', 1)[0]}-{entry.get('name', entry['style'])}")
    if entry["style"] == "colour":
        pixels = as_colour(channels_last(values, layout, colours))
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, axis=2)
        image = enlarge(Image.fromarray(pixels[..., :3]), _SIDE)
        alt = f"{title} for {name} as a colour picture; grey means no signal."
        return Picture(stem, image, f"{title}, {name}", alt, None, index, "signed, in the photo's colours")
    reduction = entry.get("reduction")
    info = result.hints.get("input")
    if info is not None:
        return _over_input(result, index, name, entry)
    flat = _flat(values if reduction is None else reduce(values, reduction, layout))
    label = entry["label"]
    signed = reduction in (None, "signed")
    scale = symmetric(flat, label) if signed else positive(flat, label)
    if entry.get("bound"):
        scale = Scale(-entry["bound"], entry["bound"], label, "signed")
    if entry["style"] == "overlay" and result.views is not None:
        scale = scale if signed else scale.pale()  # its strongest end must not pass for a bright photo
        image = overlay(flat, scale, result.views[index])
        _mark(image, own.get("marks", ()))
    else:
        image = Image.fromarray(paint(flat, scale))
    alt = f"{title} for {name}: {_places(flat, scale)}"
    return Picture(stem, enlarge(image, _SIDE), f"{title}, {name}", alt, scale, index, own.get("short", ""))


def _over_input(result: Result, index: int, name: str, entry: Mapping[str, Any]) -> Picture:
    """The same over an input that is no photo, drawn as what it is."""
    info, own = result.hints["input"], _own(result, index, entry)
    how, label, title = entry.get("reduction"), entry["label"], own["title"]
    values = reduced(result.arrays[entry["array"]][index].astype(np.float64), info, how)
    scale = (symmetric(values, label) if how in (None, "signed") else positive(values, label)).pale()
    image = scene(info, values, result.arrays["input"][index], scale, own)
    stem = slug(f"{name.rsplit('.', 1)[0]}-{entry.get('name', entry['style'])}")
    alt = f"{title} for {name}: {_extremes(values, scale, info['axes'])}"
    wide = info["kind"] in WIDE
    return Picture(stem, image, f"{title}, {name}", alt, scale, index, own.get("short", ""), wide)


def _extremes(values: NDArray[Any], scale: Scale, axes: Sequence[str]) -> str:
    """Where the extremes lie along the input's own axes, in words."""
    finite = np.isfinite(values)
    if not finite.any():
        return "no number in it is finite."
    ends = [("largest value", int(np.argmax(np.where(finite, values, -np.inf))))]
    if scale.signed:
        ends.append(("smallest", int(np.argmin(np.where(finite, values, np.inf)))))
    parts = []
    for what, flat in ends:
        place = np.unravel_index(flat, values.shape)
        where = ", ".join(f"{axis} {int(at)}" for axis, at in zip(axes, place, strict=True))
        parts.append(f"{what} {values[place]:.3g} at {where}")
    return f"{', '.join(parts)}."


def reduce(values: NDArray[Any], reduction: str, layout: str) -> NDArray[Any]:
    """One number a pixel: the largest or mean magnitude over the channels, or their signed sum."""
    if values.ndim <= 2:
        return values
    moved = channels_last(values, layout)
    if reduction == "max":
        return np.asarray(np.abs(moved).max(axis=-1))
    with np.errstate(invalid="ignore"):  # infinities of both signs add up to no number, which is drawn grey
        return np.asarray(np.abs(moved).mean(axis=-1) if reduction == "mean" else moved.sum(axis=-1))


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns: the middle slice of a volume, a strip for a signal without height."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    return values if values.ndim == 2 else np.atleast_2d(values).repeat(_STRIP, axis=0)


def overlay(values: NDArray[Any], scale: Scale, view: NDArray[Any]) -> Image.Image:
    """The map over the photo in grey: the stronger the number, the less of the photo shows."""
    grey = np.asarray(photo(view).convert("L"), dtype=np.float64)
    if grey.shape != values.shape:
        resized = Image.fromarray(values.astype(np.float32)).resize(
            (grey.shape[1], grey.shape[0]), Image.Resampling.BILINEAR
        )
        values = np.asarray(resized, dtype=np.float64)
    strength = np.where(np.isfinite(values), np.abs(values), 0.0)
    share = np.clip(strength / max(abs(scale.low), abs(scale.high)), 0, 1)[..., None]
    base = (110 + 0.5 * grey)[..., None]  # lightened, so that dark fur cannot pass for a strong number
    mixed = base * (1 - 0.85 * share) + paint(values, scale) * (0.85 * share)
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def _mark(image: Image.Image, marks: Sequence[Mapping[str, Any]]) -> None:
    """Boxes around the strongest places: dark red where the target falls, dark blue where it rises."""
    pen = ImageDraw.Draw(image)
    for mark in marks:
        (top, left), (bottom, right) = mark["from"], mark["to"]
        colour = (120, 20, 10) if mark["effect"] == "falls" else (10, 40, 120)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=2)


def _places(values: NDArray[Any], scale: Scale) -> str:
    """Where the extremes lie, in words."""
    finite = np.isfinite(values)
    if not finite.any():
        return "no number in it is finite."
    row, column = np.unravel_index(int(np.argmax(np.where(finite, values, -np.inf))), values.shape)
    text = f"largest value {values[row, column]:.3g} in the {_region(row, column, values.shape)}"
    if scale.signed:
        row, column = np.unravel_index(int(np.argmin(np.where(finite, values, np.inf))), values.shape)
        text += f", smallest {values[row, column]:.3g} in the {_region(row, column, values.shape)}"
    return text + "."


def _region(row: Any, column: Any, shape: tuple[int, ...]) -> str:
    vertical = ("upper", "middle", "lower")[min(2, int(3 * (row + 0.5) / shape[0]))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * (column + 0.5) / shape[1]))]
    return "centre" if (vertical, horizontal) == ("middle", "centre") else f"{vertical} {horizontal}"
