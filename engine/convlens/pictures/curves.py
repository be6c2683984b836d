"""Kind ``curves``: numbers over numbers, as lines, bars or stems.

``hints["curves"]`` is a list of panels, each a mapping:

=============== ==========================================================================================
``title``       what the panel shows
``x``           array of the places along the horizontal axis; 0, 1, 2 ... without one
``x_label``     what they are, with the unit; ``y_label`` likewise
``lines``       list of ``{"array", "label", "weight": "bold" | "thin", "band", "row"}``; ``band`` is an array
                of half-widths of a strip around the line (an error bar, for bars); with ``row`` the array
                is N x rows x points, and this is the row; thin bars are grey
``baseline``    a height, or a list of ``{"y", "label"}``: dashed horizontal lines; a height is a number, or
                an array of one an image
``y_range``     lowest and highest; ``x_range`` likewise; ``x_ticks`` are the numbers that are written, or of
                lines the places of ``categories``
``kind``        ``lines``; ``bars``: a group of bars a point, named by ``categories``; ``stem``: one
                vertical line a point for ``array``
``marks``       of stems: those that stand out, called ``marks_label``: indices (one list, or one an image),
                or an array that is not zero there
``background``  of stems: array of what they are compared with, called ``background_label``
``ordered``     colours from dark to light in the order of the lines, such as depth, instead of apart
``mean_only``   of all images, the mean alone
``figure``      panels that follow each other with the same text here are one picture; its title
=============== ==========================================================================================

An array is points, the same for every image, or N x points. One picture an image is drawn, titled by
``hints["each"][i]["title"]`` or ``hints["title"]``. With ``hints["over"] = "images"`` one picture is drawn
of all: a thin line an image under the bold mean. ``hints["columns"]`` says how many panels stand side by
side. With ``hints["boxes"]`` there is a picture of the photos too (see :mod:`convlens.pictures.outlines`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.pictures.colour import number, table
from convlens.pictures.outlines import outlined
from convlens.pictures.picture import Picture, slug
from convlens.pictures.plots import COLOURS, DASHES, DENSITY, INK, NARROW, WIDE, Line, Panel, plot

if TYPE_CHECKING:
    from convlens.results import Result

_NAMED = 6  # images whose lines have a colour of their own
_GREY = "#9a9aa6"
_STEM = "#5b7f95"
_ROWS = 4  # of panels in one picture
_TOLD = 6  # panels told of in words


def draw(result: Result) -> Iterator[Picture]:
    """One picture an image, or one of all of them; tall ones in parts."""
    together = result.hints.get("over") == "images" or not result.images
    indices: Sequence[int | None] = [None] if together else range(len(result.images))
    for index in indices:
        title = result.hints.get("title", result.method)
        if index is not None and "each" in result.hints:
            title = result.hints["each"][index].get("title", title)
        for figure, entries in groupby(result.hints["curves"], lambda entry: entry.get("figure", "")):
            panels = [_panel(result, entry, index) for entry in entries]
            yield from _drawn(result, panels, index, figure, ": ".join(filter(None, (title, figure))))
    if result.hints.get("boxes") and result.views is not None:
        yield outlined(result)


def _drawn(
    result: Result, panels: Sequence[Panel], index: int | None, figure: str, title: str
) -> Iterator[Picture]:
    """The panels of one figure; in parts where there are too many."""
    name = None if index is None else result.images[index]
    single = len(panels) == 1 or any(panel.kind == "stem" for panel in panels)
    columns = result.hints.get("columns") or (1 if single else 2 if len(panels) in (2, 4) else 3)
    columns = min(columns, len(panels))
    height = 300 if columns == 1 else 270 if columns == 2 else 236
    width = 680 if len(panels) == 1 and panels[0].kind == "lines" else WIDE
    stem = slug("-".join(filter(None, (name.rsplit(".", 1)[0] if name else "curves", figure))))
    whose = [name] if name is not None else list(result.images[:_NAMED])
    if len(result.images) > _NAMED and name is None:
        whose.append(f"{len(result.images) - _NAMED} more")
    for start in range(0, len(panels), columns * _ROWS):
        part = panels[start : start + columns * _ROWS]
        yield Picture(
            f"{stem}-{start + 1}" if start else stem,
            plot(part, width, columns, height),
            title if name is None else f"{title}, {name}",
            _alt(f"{title} for {', '.join(whose)}" if whose else title, part),
            None,
            index,
            title,
            True,
            DENSITY,
            partial(plot, part, NARROW, 1, 236),
        )


def _panel(result: Result, entry: Mapping[str, Any], index: int | None) -> Panel:
    kind = entry.get("kind", "lines")
    base = entry.get("baseline")
    bases: Sequence[Mapping[str, Any]] = base if isinstance(base, (list, tuple)) else ()
    if isinstance(base, (int, float)):
        bases = [{"y": base}]
    background = entry.get("background")
    named = entry.get("marks") or ()
    marks: Sequence[Any] = named
    if isinstance(named, str):
        marks = np.flatnonzero(_mean(result, named, index)).tolist()
    if len(marks) and isinstance(marks[0], (list, tuple)):
        marks = marks[index or 0]
    if kind == "stem":
        y = _mean(result, entry["array"], index)
        lines: list[Line] = [Line(_x(result, entry, len(y), index), y, entry.get("label", ""), _STEM)]
    elif result.hints.get("over") == "images" and kind == "lines":
        lines = _over_images(result, entry)
    else:
        lines = _apart(result, entry, index)
    return Panel(
        kind,
        entry.get("title", ""),
        entry.get("x_label", ""),
        entry.get("y_label", ""),
        tuple(lines),
        tuple(int(mark) for mark in marks),
        entry.get("marks_label", ""),
        None
        if background is None
        else (_mean(result, background, index), entry.get("background_label", "background")),
        tuple((_height(result, line["y"], index), line.get("label", "")) for line in bases),
        tuple(entry.get("categories", ())),
        _pair(entry.get("x_range")),
        _pair(entry.get("y_range")),
        tuple(entry.get("x_ticks", ())),
    )


def _apart(result: Result, entry: Mapping[str, Any], index: int | None) -> list[Line]:
    """The lines of one image, a colour each."""
    found = []
    for line in entry["lines"]:
        y = _mean(result, line["array"], index, line.get("row"))
        band = _mean(result, line["band"], index, line.get("row")) if line.get("band") else None
        colour, dash = _style(result, entry, line["label"])
        bold = line.get("weight", "bold") == "bold"
        if entry.get("kind") == "bars" and not bold:
            colour = _GREY
        found.append(Line(_x(result, entry, len(y), index), y, line["label"], colour, bold, dash, band))
    return found


def _over_images(result: Result, entry: Mapping[str, Any]) -> list[Line]:
    """Thin lines, one an image, and their bold mean."""
    found: list[Line] = []
    several, alone = len(entry["lines"]) > 1, entry.get("mean_only", False)
    for line in entry["lines"]:
        values = _numbers(result, line["array"], line.get("row"))
        if values.ndim == 1 or len(values) == 1:
            y = values.reshape(-1)
            colour, dash = (
                _style(result, entry, line["label"]) if several or values.ndim == 1 else (INK, "solid")
            )
            label = line["label"] if several or values.ndim == 1 else result.images[0]
            bold = line.get("weight", "bold") == "bold"
            found.append(Line(_x(result, entry, len(y), 0), y, label, colour, bold, dash))
            continue
        named = not several and len(values) <= _NAMED
        for row, y in enumerate(() if alone else values):
            colour, dash = _style(result, entry, line["label"]) if several else (_GREY, "solid")
            label = "" if several else "each image"
            if named:
                colour, label = COLOURS[row], result.images[row]
            x = _x(result, entry, len(y), row)
            found.append(Line(x, y, label, colour, False, dash, legend=bool(label)))
        colour, dash = _style(result, entry, line["label"]) if several else (INK, "solid")
        label = f"{line['label']}{'' if alone else ', mean'}" if several else f"mean of {len(values)}"
        with np.errstate(invalid="ignore"):
            mean = values.mean(axis=0)
        found.append(Line(_x(result, entry, values.shape[1], None), mean, label, colour, True, dash))
    return found


def _style(result: Result, entry: Mapping[str, Any], label: str) -> tuple[str, Any]:
    """Colour and dash of a label: the same in every panel of a figure."""
    same = [each for each in result.hints["curves"] if each.get("figure") == entry.get("figure")]
    labels = list(dict.fromkeys(line["label"] for each in same for line in each.get("lines", ())))
    place = labels.index(label)
    if entry.get("ordered") and len(labels) > 1:
        share = 0.05 + 0.8 * place / (len(labels) - 1)  # the palest end cannot be read on white
        red, green, blue = table("batlow")[round(255 * share)].tolist()
        return f"#{red:02x}{green:02x}{blue:02x}", "solid"
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def _numbers(result: Result, name: str, row: int | None) -> NDArray[Any]:
    """Points, or images x points."""
    array = result.arrays[name].astype(np.float64)
    return array if row is None else array[..., row, :]


def _mean(result: Result, name: str, index: int | None, row: int | None = None) -> NDArray[Any]:
    """One line of points: the image's own, or the mean over all images."""
    array = _numbers(result, name, row)
    if array.ndim == 1:
        return array
    with np.errstate(invalid="ignore"):
        return np.asarray(array.mean(axis=0) if index is None else array[index])


def _x(result: Result, entry: Mapping[str, Any], count: int, index: int | None) -> NDArray[Any]:
    if entry.get("x") is None:
        return np.arange(count, dtype=np.float64)
    return _mean(result, entry["x"], index)


def _height(result: Result, given: Any, index: int | None) -> float:
    """A number, the image's own of an array, or the mean of all images'."""
    if not isinstance(given, str):
        return float(given)
    values = result.arrays[given].reshape(-1)
    return float(values.mean() if index is None or len(values) == 1 else values[index])


def _pair(given: Sequence[float] | None) -> tuple[float, float] | None:
    return None if given is None else (float(given[0]), float(given[1]))


def _alt(title: str, panels: Sequence[Panel]) -> str:
    """What can be read off the panels, in words."""
    parts = [part for panel in panels[:_TOLD] if (part := _told(panel))]
    more = f" {len(panels) - _TOLD} more panels." if len(panels) > _TOLD else ""
    return f"{title}. {' '.join(parts)}{more}".strip()


def _told(panel: Panel) -> str:
    bold = [line for line in panel.lines if line.bold] or list(panel.lines)
    lead = panel.title or panel.y_label
    if panel.kind == "bars":
        parts = []
        for line in [*bold[:4], *(line for line in panel.lines if not line.bold)]:
            names = panel.categories or tuple(map(str, range(len(line.y))))
            listed = [f"{text} {_said(y)}" for text, y in zip(names, line.y.tolist(), strict=False)]
            more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
            parts.append(f"{line.label}: {', '.join(listed[:8])}{more}")
        return f"{lead}: {'; '.join(parts)}."
    parts = [_course(panel, line) for line in bold[:4]]
    if panel.marks:
        line = bold[0]
        marks = [f"{number(float(line.x[m]))} at {_said(float(line.y[m]))}" for m in panel.marks[:6]]
        more = f" and {len(panel.marks) - 6} more" if len(panel.marks) > 6 else ""
        parts.append(f"{panel.marks_label or 'marked'}: {', '.join(marks)}{more}")
    return f"{lead}: {'; '.join(parts)}."


def _said(value: float) -> str:
    return number(value) if np.isfinite(value) else "not finite"


def _course(panel: Panel, line: Line) -> str:
    """Where a line starts and ends, and its extremes where they lie between."""
    where = np.flatnonzero(np.isfinite(line.y))
    name = f"{line.label} " if line.label else ""
    if not where.size:
        return f"{name}has no finite number"
    x, y = line.x[where], line.y[where]
    low, high = int(y.argmin()), int(y.argmax())
    named = dict(zip(panel.x_ticks, panel.categories, strict=False))
    places = [named.get(float(place), number(float(place))) for place in x]
    extremes = [
        f"{word} {number(float(y[at]))} at {places[at]}"
        for word, at in (("lowest", low), ("highest", high))
        if y[at] not in (y[0], y[-1])
    ]
    if panel.kind == "stem":
        return f"{name}of {len(y)} values, {number(float(y[high]))} is the largest, at {places[high]}"
    ends = f"{number(float(y[0]))} at {places[0]}, {number(float(y[-1]))} at {places[-1]}"
    return f"{name}{', '.join([ends, *extremes])}"
