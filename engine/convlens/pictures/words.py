"""Tokens as coloured boxes, features as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from convlens.pictures.colour import number, paint
from convlens.pictures.picture import font
from convlens.pictures.signals import FALLS, INK, QUIET, RISES, WIDTH

if TYPE_CHECKING:
    from convlens.pictures.scenes import Scene

_LINE = 30
_BARS = 32  # features drawn; of more, those of the largest numbers
_LONGEST = 24  # characters of a word


def boxes(scene: Scene) -> Image.Image:
    """One box a token, in reading order, as wide as its word, with its place above every fifth."""
    values = scene.values.reshape(-1)
    given = scene.given.reshape(-1)
    texts = list(scene.words) or [str(int(token)) for token in given]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    size = 12 if scene.small else 14
    above = 12
    places, x, y = [], 0.0, 0
    for text in texts:
        text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
        width = max(20.0, pen.textlength(text, font(size)) + 10)
        if x + width > WIDTH and x > 0:
            x, y = 0.0, y + _LINE + above
        places.append((x, y, width, text))
        x += width + 3
    last = max(x + width for x, _, width, _ in places)
    image = Image.new("RGB", (round(min(WIDTH, max(last, 160))) + 2, y + _LINE + above + 2), "white")
    pen = ImageDraw.Draw(image)
    colours = paint(values, scene.scale)
    effects = {mark["from"][0]: mark["effect"] for mark in scene.marks}
    spans = [(mark["from"][0], mark["to"][0], mark["effect"]) for mark in scene.marks]
    for index, (left, top, width, text) in enumerate(places):
        box = (left, top + above, left + width, top + above + _LINE - 4)
        inside = next((effect for a, b, effect in spans if a <= index < b), None)
        edge = (215, 215, 220) if inside is None else FALLS if inside == "falls" else RISES
        pen.rectangle(
            box, fill=tuple(int(v) for v in colours[index]), outline=edge, width=1 if inside is None else 2
        )
        middle = left + (width - pen.textlength(text, font(size))) / 2
        pen.text((middle, top + above + 4), text, fill=INK, font=font(size))
        if index % 5 == 0 or index in effects:
            pen.text((left + 2, top - 1), str(index), fill=QUIET, font=font(10))
    return image


def bars(scene: Scene) -> Image.Image:
    """One bar a feature, to the left where its number is negative; beside its name the feature's value."""
    values, given = scene.values.reshape(-1), scene.given.reshape(-1)
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    order = np.arange(len(values))
    if len(values) > _BARS:
        order = np.sort(np.argsort(-size, kind="stable")[:_BARS])
    names = [f"{index}: {number(float(given[index]))}" for index in order]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    front = int(max(pen.textlength(name, font(11)) for name in names)) + 12
    row, head = 16, 16
    signed = scene.scale.signed
    width = 320
    image = Image.new("RGB", (front + width + 64, head + row * len(order) + 4), "white")
    pen = ImageDraw.Draw(image)
    more = f"; the {_BARS} strongest of {len(values)}" if len(values) > _BARS else ""
    pen.text((0, 0), f"{scene.axes[0]}: value{more}", fill=QUIET, font=font(11))
    zero = front + (width // 2 if signed else 0)
    bound = max(abs(scene.scale.low), abs(scene.scale.high))
    reach = width // 2 - 4 if signed else width
    labels = scene.scale.colours == "labels"  # colours alone, all of one length
    ends = values if labels else np.where(np.isfinite(values), np.sign(values), 0) * bound
    colours = paint(ends, scene.scale)
    for place, index in enumerate(order):
        y = head + place * row
        pen.text((0, y), names[place], fill=INK, font=font(11))
        long = float(np.clip(values[index] / bound, -1, 1)) * reach if np.isfinite(values[index]) else 0.0
        long = float(reach) if labels else long
        a, b = sorted((zero, zero + long))
        pen.rectangle((a, y + 2, b, y + row - 4), fill=tuple(int(v) for v in colours[index]))
        if not labels:
            pen.text((front + width + 6, y), number(float(values[index])), fill=QUIET, font=font(11))
    pen.line((zero, head, zero, head + row * len(order)), fill=QUIET)
    return image
