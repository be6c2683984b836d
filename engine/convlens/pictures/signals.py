"""Signals as waveforms over coloured stretches, spectrograms and planes as images with axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.pictures.colour import Scale, number, paint
from convlens.pictures.picture import font

if TYPE_CHECKING:
    from convlens.pictures.scenes import Scene

WIDTH = 720
INK = (34, 34, 40)
QUIET = (120, 120, 128)
FALLS, RISES = (120, 20, 10), (10, 40, 120)

_TRACES = 8  # channels drawn as lines; more become a strip
_TALL = 400


def waveform(scene: Scene) -> Image.Image:
    """One line a channel over stretches in colour, and the time below."""
    channels, length = scene.given.shape
    shown = scene.given if channels <= _TRACES else scene.given.mean(axis=0, keepdims=True)
    height = (
        (44 if scene.small else 96)
        if len(shown) == 1
        else max(28, (220 if not scene.small else 90) // len(shown))
    )
    width, left, below = WIDTH, 8, 0 if scene.small else 34
    body = height * len(shown)
    image = Image.new("RGB", (width + 2 * left, body + below), "white")
    pen = ImageDraw.Draw(image)
    edges = np.linspace(0, length, width + 1)
    colours = paint(strongest(scene.values, width), scene.scale)
    image.paste(Image.fromarray(colours[None].repeat(body, axis=0)), (left, 0))
    for row, trace in enumerate(shown):
        _line(pen, trace, edges, left, row * height, height)
        if row:
            pen.line((left, row * height, left + width, row * height), fill=(255, 255, 255))
    scale = width / length
    for mark in scene.marks:
        a, b = mark["from"][-1] * scale, mark["to"][-1] * scale
        colour = FALLS if mark["effect"] == "falls" else RISES
        pen.rectangle((left + a, 1, left + max(a + 1, b - 1), body - 2), outline=colour, width=2)
    if not scene.small:
        named = "seconds" if scene.rate else scene.axes[-1]
        step = 1 / scene.rate if scene.rate else 1.0
        extra = f"; the line is the mean of {channels} channels" if len(shown) < channels else ""
        ticks_below(pen, left, body, width, length * step, f"{named}{extra}")
    return image


def _line(
    pen: ImageDraw.ImageDraw, trace: NDArray[Any], edges: NDArray[Any], left: int, top: int, height: int
) -> None:
    """A trace between its own extremes: lowest to highest in each column, joined where samples are few."""
    finite = np.where(np.isfinite(trace), trace, 0.0)
    low, high = float(finite.min()), float(finite.max())
    spread = high - low or 1.0
    place = top + height - 3 - (finite - low) / spread * (height - 6) if high > low else None
    if place is None:
        place = np.full(len(finite), top + height / 2)
    if len(finite) <= WIDTH:
        at = left + (np.arange(len(finite)) + 0.5) * (WIDTH / len(finite))
        if len(finite) == 1:
            pen.point((float(at[0]), float(place[0])), fill=INK)
        else:
            pen.line([(float(x), float(y)) for x, y in zip(at, place, strict=True)], fill=INK, width=1)
        return
    before = None
    for column in range(WIDTH):
        part = place[int(edges[column]) : max(int(edges[column]) + 1, int(edges[column + 1]))]
        lowest, highest = float(part.min()), float(part.max())
        if before is not None:  # no gaps where a wave rises steeply
            lowest, highest = min(lowest, before[1]), max(highest, before[0])
        pen.line((left + column, lowest, left + column, highest), fill=INK)
        before = float(part.min()), float(part.max())


def strongest(values: NDArray[Any], width: int) -> NDArray[Any]:
    """``values`` along their last axis in ``width`` columns, each with the number of largest magnitude."""
    length = values.shape[-1]
    if length <= width:
        return values[..., np.minimum(np.arange(width) * length // width, length - 1)]
    edges = np.linspace(0, length, width + 1).astype(int)
    columns = []
    for first, after in pairwise(edges.tolist()):
        part = values[..., first:after]
        size = np.where(np.isfinite(part), np.abs(part), np.inf)
        columns.append(np.take_along_axis(part, size.argmax(axis=-1, keepdims=True), axis=-1)[..., 0])
    return np.stack(columns, axis=-1)


def ticks_below(pen: ImageDraw.ImageDraw, left: int, top: int, width: int, end: float, label: str) -> None:
    """An axis from 0 to ``end`` under a picture, with round numbers."""
    pen.line((left, top, left + width, top), fill=QUIET)
    for value in ticks(end):
        x = left + value / end * width
        pen.line((x, top, x, top + 4), fill=QUIET)
        text = number(value)
        half = pen.textlength(text, font(11)) / 2
        pen.text(
            (min(max(0, x - half), left + width - 2 * half + 6), top + 5), text, fill=QUIET, font=font(11)
        )
    half = pen.textlength(label, font(11)) / 2
    pen.text((left + width / 2 - half, top + 18), label, fill=QUIET, font=font(11))


def ticks(end: float, count: int = 6) -> Sequence[float]:
    """Round numbers from 0 to ``end``, about ``count`` of them."""
    if end <= 0:
        return (0.0,)
    rough = end / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [float(value) for value in np.arange(0, end * 1.0001, step)]


def plane(scene: Scene) -> Image.Image:
    """The input in grey, the mean of its planes, under the colours; a spectrogram has its axes."""
    grey = grey_of(scene.given.mean(axis=0))
    height, width = grey.shape
    flip = scene.kind == "spectrogram"
    values = scene.values[::-1] if flip else scene.values
    mixed = blended(grey[::-1] if flip else grey, values, scene.scale)
    factor = max(1.0, min((110 if scene.small else 224) / min(height, width), 1440 / max(height, width)))
    if flip:
        size = max(160, min(WIDTH, round(width * factor))), max(80, min(_TALL, round(height * factor)))
    else:
        factor = max(1, int(factor))
        size = width * factor, height * factor
    shown = Image.fromarray(mixed).resize(
        size, Image.Resampling.NEAREST if size[0] >= width else Image.Resampling.BOX
    )
    draw_marks(shown, scene.marks, (size[1] / height, size[0] / width), height if flip else None)
    if not flip or scene.small:
        return shown
    left, below = 44, 34
    image = Image.new("RGB", (size[0] + left + 10, size[1] + below), "white")
    image.paste(shown, (left, 0))
    pen = ImageDraw.Draw(image)
    ticks_below(pen, left, size[1], size[0], float(width), scene.axes[1])
    pen.line((left - 1, 0, left - 1, size[1]), fill=QUIET)
    for value in ticks(float(height), 4):
        y = size[1] - value / height * size[1]
        text = number(value)
        pen.line((left - 5, y, left - 1, y), fill=QUIET)
        end = left - 7 - pen.textlength(text, font(11))
        pen.text((end, min(max(0.0, y - 7), size[1] - 14.0)), text, fill=QUIET, font=font(11))
    aside = Image.new("RGB", (round(pen.textlength(scene.axes[0], font(11))) + 4, 15), "white")
    ImageDraw.Draw(aside).text((0, 0), scene.axes[0], fill=QUIET, font=font(11))
    turned = aside.rotate(90, expand=True)
    image.paste(turned, (0, max(0, (size[1] - turned.height) // 2)))
    return image


def grey_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers as greys from 0 to 255, between their 1st and 99th percentile."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    share = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    return np.asarray(np.clip(share, 0, 1) * 255)


def blended(grey: NDArray[Any], values: NDArray[Any], scale: Scale) -> NDArray[np.uint8]:
    """Colours over a grey picture: the stronger the number, the less of the picture shows.

    Labels cover it alike, all but the first.
    """
    bound = max(abs(scale.low), abs(scale.high))
    share = np.clip(np.where(np.isfinite(values), np.abs(values), 0.0) / bound, 0, 1)[..., None]
    base = (110 + 0.5 * grey)[..., None]
    if scale.colours == "labels":
        share = np.where(values > 0, 0.7, 0.0)[..., None]
        return np.asarray(np.rint(base * (1 - share) + paint(values, scale) * share), dtype=np.uint8)
    ends = np.where(np.isfinite(values), np.where(values < 0, -bound, bound), np.nan)
    mixed = base * (1 - 0.9 * share) + paint(ends, scale) * (0.9 * share)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


def draw_marks(
    image: Image.Image, marks: Sequence[Any], factors: tuple[float, float], flipped: int | None = None
) -> None:
    """Boxes around rows and columns; ``flipped`` is the number of rows where row 0 lies at the bottom."""
    pen = ImageDraw.Draw(image)
    for mark in marks:
        (top, left), (bottom, right) = mark["from"][-2:], mark["to"][-2:]
        if flipped is not None:
            top, bottom = flipped - bottom, flipped - top
        colour = FALLS if mark["effect"] == "falls" else RISES
        box = (left * factors[1], top * factors[0], right * factors[1] - 1, bottom * factors[0] - 1)
        pen.rectangle((box[0], box[1], max(box[0], box[2]), max(box[1], box[3])), outline=colour, width=2)
