"""A map of many inputs as one HTML file: hover, zoom, lasso, colours by anything that is known of them.

The file holds all that it shows. Numbers are base64 of little-endian arrays in a block of JSON; thumbnails
are WebP sheets. It draws with a canvas and needs no network, which its content security policy forbids.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from convlens.pictures.colour import table
from convlens.pictures.palette import FIRST
from convlens.recording.maps.projections import ordered
from convlens.recording.maps.sheets import Sheets, sheets
from convlens.results import plain

CHANNEL_BYTES = 1_000_000
"""All channels together, one byte a point and channel."""

SHEET_BYTES, SHEET_BYTES_EACH = 2_250_000, 200
"""All thumbnails together: this, or so much for each where that is more."""

NONE = 0xFFFF
"""In place of the number of a class where there is none."""

_FEWEST = 16  # channels that are there in any case
_CLEAR = 7  # colours that are enough to tell classes apart; those after them come with another shape


@dataclass(frozen=True)
class Points:
    """Inputs on a map and what is known of each.

    Attributes:
        title: of the page.
        text: how the map was made, in a sentence or two.
        noun: what one input is called.
        places: where each point is, name to N x 2, such as ``t-SNE`` and ``grid``; not finite where a point
            has no place. The first is shown first.
        names: of the points.
        labels: the class of each, None where it has none.
        predictions: the class that the model predicts for each.
        probabilities: of the predicted class, N, from 0 to 1.
        thumbnails: N x height x width x 3, 8 bits.
        channels: feature vectors, N x C, finite.
        layer: where they come from.
        values: what else is known of each, by name: N numbers, or texts.
        colour: what the colours show first: ``label``, ``prediction``, ``right``, ``probability``,
            ``channel:12`` or the name of a value; a label, or what there is, where this is empty.
    """

    title: str
    text: str
    noun: str
    places: Mapping[str, NDArray[Any]]
    names: Sequence[str]
    labels: Sequence[str | None] | None = None
    predictions: Sequence[str | None] | None = None
    probabilities: NDArray[Any] | None = None
    thumbnails: NDArray[np.uint8] | None = None
    channels: NDArray[Any] | None = None
    layer: str = ""
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    colour: str = ""


def page(points: Points) -> bytes:
    """The whole page as UTF-8."""
    environment = Environment(
        loader=PackageLoader("convlens.recording.maps"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template("map.html").render(
        title=points.title,
        text=points.text,
        noun=points.noun,
        count=len(points.names),
        data=_script(_data(points)),
    )
    return text.encode()


def _data(points: Points) -> dict[str, Any]:
    """Everything that the page draws, as plain data."""
    labels, predictions = points.labels, points.predictions
    told = [one for one in (labels, predictions) if one is not None]
    classes = ordered({name for one in told for name in one if name is not None})
    held = points.thumbnails
    laid = None
    if held is not None and len(held):
        laid = sheets(held, max(SHEET_BYTES, SHEET_BYTES_EACH * len(held)))
    return {
        "count": len(points.names),
        "noun": points.noun,
        "names": list(points.names),
        "places": [{"name": name, "data": _coded(place, "<f4")} for name, place in points.places.items()],
        "classes": classes,
        "label": _told(labels, classes),
        "prediction": _told(predictions, classes),
        "right": _right(labels, predictions),
        "probability": None if points.probabilities is None else _coded(points.probabilities, "<f4"),
        "values": [_value(name, column) for name, column in points.values.items()],
        "channels": _channels(points.channels, points.layer, _asked(points.colour)),
        "thumbnails": None if laid is None else _sheets(laid),
        "colour": points.colour if _asked(points.colour) is None else "channel",
        "palette": [*(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in FIRST[:-1]), "ink"],
        "clear": _CLEAR,
        "ramps": {name: _coded(table(name), "u1") for name in ("batlow", "vik")},
    }


def _script(data: Mapping[str, Any]) -> str:
    """JSON that ends no script and starts no comment, whatever the names in it are."""
    text = json.dumps(plain(data), ensure_ascii=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode("utf-8", "replace").decode()


def _coded(array: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind)).tobytes()).decode()


def _told(given: Sequence[str | None] | None, words: Sequence[str]) -> str | None:
    if given is None or all(one is None for one in given):
        return None
    number = {word: i for i, word in enumerate(words[:NONE])}
    return _coded(np.array([NONE if one is None else number.get(one, NONE) for one in given]), "<u2")


def _asked(colour: str) -> int | None:
    """The number of the channel that colours show first."""
    name, _, number = colour.partition(":")
    return int(number) if name == "channel" and number.isdecimal() else None


def _right(labels: Sequence[str | None] | None, predictions: Sequence[str | None] | None) -> str | None:
    """1 where label and prediction are the same, 0 where not; None where the two share no class at all."""
    if labels is None or predictions is None or not set(labels) & set(predictions) - {None}:
        return None
    pairs = zip(labels, predictions, strict=True)
    return _coded(np.array([NONE if None in pair else pair[0] == pair[1] for pair in pairs]), "<u2")


def _value(name: str, column: NDArray[Any]) -> dict[str, Any]:
    if column.dtype.kind in "biuf":
        return {"name": name, "data": _coded(column, "<f4"), "words": None}
    told = [None if one is None else str(one) for one in column.tolist()]
    words = ordered({one for one in told if one is not None})
    return {
        "name": name,
        "data": _told(told, words) or _coded(np.full(len(told), NONE), "<u2"),
        "words": words,
    }


def _channels(vectors: NDArray[Any] | None, layer: str, wanted: int | None) -> dict[str, Any] | None:
    """Channels in 256 steps from least to largest; those that vary most where all are too many."""
    if vectors is None or vectors.size == 0:
        return None
    count, every = vectors.shape
    spread = vectors.var(axis=0, dtype=np.float64)
    first = int(spread.argmax()) if wanted is None else wanted
    rank = np.argsort(-spread, kind="stable")
    rank = rank[spread[rank] > 0][: max(_FEWEST, CHANNEL_BYTES // count)]
    chosen = np.union1d(rank, [first])
    own = vectors[:, chosen].astype(np.float64)
    low, high = own.min(axis=0), own.max(axis=0)
    steps = np.rint((own - low) / np.where(high > low, high - low, 1.0) * 255)
    return {
        "layer": layer,
        "of": every,
        "numbers": chosen.tolist(),
        "first": chosen.tolist().index(first),
        "low": low.tolist(),
        "high": high.tolist(),
        "data": _coded(steps.T, "u1"),
    }


def _sheets(laid: Sheets) -> dict[str, Any]:
    files = [f"data:image/webp;base64,{base64.b64encode(one).decode()}" for one in laid.files]
    return {
        "width": laid.width,
        "height": laid.height,
        "columns": laid.columns,
        "rows": laid.rows,
        "sheets": files,
    }
