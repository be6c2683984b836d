"""Panels with curves, bars or stems as pixels, by matplotlib without its global state."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.colour import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DENSITY = 2  # pixels of the picture per pixel of a page
WIDE, NARROW = 1000, 340
"""Widths in pixels of a page: of a report, of a phone."""

INK, QUIET, GRID = "#22222a", "#63636e", "#e4e4ea"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Six colours that people with any colour vision can tell apart (Okabe & Ito 2008)."""

DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
"""What tells lines apart once the colours are used up."""

_SMALL, _TEXT = 9.5, 10.5
_LETTER = 0.56  # width of a letter of the font in its size, on the average
_LINE = 15  # pixels of a page between lines of text
_NAME = 24  # letters of a name under bars
_MARKED = 16  # lines of no more points have a dot at each
_RESTYLED = Lock()  # a style is set for the whole process while a figure is drawn


@dataclass(frozen=True)
class Line:
    """One curve, or one colour of bars. ``legend`` is False where another line stands for it."""

    x: NDArray[Any]
    y: NDArray[Any]
    label: str
    colour: str
    bold: bool = True
    dash: Any = "solid"
    band: NDArray[Any] | None = None
    legend: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``kind`` is ``lines``, ``bars`` or ``stem``.

    Attributes:
        marks: indices of the stems that stand out.
        marks_label: what the marked ones are called.
        background: what stems are compared with, and its name.
        baselines: heights of horizontal lines, each with its label.
        categories: names under the bars; of lines, what stands at ``x_ticks`` instead of numbers, one each.
    """

    kind: str
    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    marks: tuple[int, ...] = ()
    marks_label: str = ""
    background: tuple[NDArray[Any], str] | None = None
    baselines: tuple[tuple[float, str], ...] = ()
    categories: tuple[str, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_ticks: tuple[float, ...] = ()


def plot(panels: Sequence[Panel], width: int, columns: int, height: int) -> Image.Image:
    """The panels in ``columns`` side by side, with one legend above them all.

    Args:
        panels: at least one.
        width: of the whole, in pixels of a page.
        columns: panels side by side.
        height: of one panel, in pixels of a page.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, side = -(-len(panels) // columns), width / columns
    with _RESTYLED, warnings.catch_warnings(), matplotlib.style.context("default"):
        warnings.simplefilter("ignore")  # letters that the font has not are drawn as boxes
        figure = Figure(dpi=72 * DENSITY, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)
        above = _legend(figure, panels, width)
        total = rows * height + above
        figure.set_size_inches(width / 72, total / 72)
        for place, panel in enumerate(panels):
            row, column = divmod(place, columns)
            _panel(figure, panel, (column * side, above + row * height), (side, height), (width, total))
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _legend(figure: Figure, panels: Sequence[Panel], width: int) -> int:
    """One entry a label, in lines as wide as the figure; returns the height that it takes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: dict[str, Any] = {}
    for panel in panels:
        for line in panel.lines:
            if line.legend and line.label and line.label not in entries:
                thick = 2.4 if line.bold else 1.2
                handle: Any = Line2D([], [], color=line.colour, lw=thick, ls=line.dash)
                entries[line.label] = handle if panel.kind == "lines" else Patch(color=line.colour)
        if panel.marks and panel.marks_label:
            entries[panel.marks_label] = Patch(color=COLOURS[1])
        if panel.background is not None:
            entries[panel.background[1]] = Line2D([], [], color=INK, lw=1.2)
        for _, label in panel.baselines:
            if label:
                entries[label] = Line2D([], [], color=QUIET, lw=1.2, ls=DASHES[1])
    if len(entries) < 2 and not any(panel.marks or panel.baselines for panel in panels):
        return 0
    room = max(8, int((width - 60) / (_TEXT * _LETTER)))
    labels = [_cut(label, room) for label in entries]
    widest = max(map(len, labels)) * _TEXT * _LETTER + 46
    columns = max(1, min(len(labels), int(width / widest)))
    order = [i for column in range(columns) for i in range(column, len(labels), columns)]  # read in rows
    handles = list(entries.values())
    legend = figure.legend(
        [handles[i] for i in order],
        [f" {labels[i]}" if labels[i].startswith("_") else labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(0.004, 1),
        borderaxespad=0.4,
        ncols=columns,
        frameon=False,
        fontsize=_TEXT,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.4,
        borderpad=0.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return 8 + 18 * -(-len(labels) // columns)


def _panel(
    figure: Figure,
    panel: Panel,
    corner: tuple[float, float],
    size: tuple[float, float],
    whole: tuple[float, float],
) -> None:
    """One panel with its texts, at fixed distances: measuring them costs more than drawing all the rest.

    ``corner`` (left, top), ``size`` and the size of the ``whole`` figure are in pixels of a page.
    """
    letters = int((size[0] - 70) / (_TEXT * _LETTER))
    title, below = _wrapped(panel.title, letters, 2), _wrapped(panel.x_label, letters, 2)
    beside = _wrapped(panel.y_label, int((size[1] - 60) / (_TEXT * _LETTER)), 2)
    under = _under(panel, size[0])
    left, right = corner[0] + 40 + _LINE * len(beside), corner[0] + size[0] - 12
    top = corner[1] + 8 + _LINE * len(title)
    bottom = corner[1] + size[1] - 12 - under - _LINE * len(below)
    across, down = whole
    axes = figure.add_axes((left / across, 1 - bottom / down, (right - left) / across, (bottom - top) / down))
    words: dict[str, Any] = {"parse_math": False, "linespacing": 1.15}
    figure.text(left / across, 1 - (top - 7) / down, "\n".join(title), color=INK, fontsize=11, **words)
    words |= {"color": QUIET, "fontsize": _TEXT, "ha": "center"}
    middle = (left + right) / 2 / across, 1 - (top + bottom) / 2 / down
    figure.text(middle[0], 1 - (bottom + under + 4) / down, "\n".join(below), va="top", **words)
    lead = (corner[0] + 4) / across
    figure.text(lead, middle[1], "\n".join(beside), rotation=90, va="center", **{**words, "ha": "left"})
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelsize=_SMALL, labelcolor=QUIET, color=QUIET, length=3)
    for border in ("top", "right"):
        axes.spines[border].set_visible(False)
    for border in ("left", "bottom"):
        axes.spines[border].set_color("#b4b4be")
    {"bars": _bars, "stem": _stems}.get(panel.kind, _lines)(axes, panel, size[0])
    for height, _ in panel.baselines:
        axes.axhline(height, color=QUIET, lw=1.2, ls=DASHES[1], zorder=1.5)
    _ranges(axes, panel, size[0])


def _under(panel: Panel, width: float) -> float:
    """Room for the numbers or names under the axes."""
    longest = max((len(name) for name in panel.categories), default=0)
    if panel.kind != "bars" or longest <= _letters(panel, width):
        return 16
    return 16 + 0.6 * min(longest, _NAME) * _SMALL * _LETTER


def _letters(panel: Panel, width: float) -> int:
    """How many letters there are for each name under the bars."""
    return max(3, int((width - 70) / max(1, len(panel.categories)) / (_SMALL * _LETTER)))


def _lines(axes: Axes, panel: Panel, width: float) -> None:
    del width
    for line in sorted(panel.lines, key=lambda line: line.bold):  # bold ones over thin ones
        y = np.where(np.isfinite(line.y), line.y, np.nan)
        if line.band is not None:
            axes.fill_between(line.x, y - line.band, y + line.band, color=line.colour, alpha=0.16, lw=0)
        few = len(y) <= _MARKED and line.bold
        axes.plot(
            line.x,
            y,
            color=line.colour,
            lw=2.2 if line.bold else 1.1,
            ls=line.dash,
            alpha=1.0 if line.bold else 0.85,
            marker="o" if few or np.isfinite(y).sum() == 1 else None,
            ms=4 if line.bold else 2.5,
            solid_capstyle="round",
        )


def _bars(axes: Axes, panel: Panel, width: float) -> None:
    share = 0.8 / max(1, len(panel.lines))
    for row, line in enumerate(panel.lines):
        at = np.arange(len(line.y)) + (row - (len(panel.lines) - 1) / 2) * share
        y = np.where(np.isfinite(line.y), line.y, 0.0)
        axes.bar(at, y, share * 0.92, color=line.colour)
        if line.band is not None:
            axes.errorbar(at, y, line.band, fmt="none", ecolor=INK, elinewidth=1.2, capsize=2.5)
    count = max((len(line.y) for line in panel.lines), default=0)
    names = panel.categories or tuple(map(str, range(count)))
    tilted = any(len(name) > _letters(panel, width) for name in names)
    axes.set_xticks(
        range(len(names)),
        [_cut(name, _NAME) for name in names],
        rotation=35 if tilted else 0,
        ha="right" if tilted else "center",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.set_xlim(-0.6, count - 0.4)


def _stems(axes: Axes, panel: Panel, width: float) -> None:
    (line,) = panel.lines
    y = np.where(np.isfinite(line.y), line.y, 0.0)
    few = len(y) <= 4 * _MARKED
    axes.vlines(line.x, 0, y, color=line.colour, lw=2.0 if few else 1.0)
    if panel.background is not None:
        held = panel.background[0]
        axes.plot(line.x, np.where(np.isfinite(held), held, np.nan), color=INK, lw=1.0, zorder=3)
    marks = [mark for mark in panel.marks if 0 <= mark < len(y)]
    if marks:
        axes.vlines(line.x[marks], 0, y[marks], color=COLOURS[1], lw=2.2, zorder=4)
        axes.scatter(line.x[marks], y[marks], s=16, color=COLOURS[1], zorder=5)
    span = float(line.x.max() - line.x.min()) or 1.0
    named: list[float] = []
    for mark in sorted(marks, key=lambda mark: -abs(y[mark])):
        at = float(line.x[mark])
        if all(abs(at - other) / span * (width - 70) > 30 for other in named):  # numbers must not meet
            named.append(at)
            above = y[mark] >= 0
            axes.annotate(
                number(at),
                (at, y[mark]),
                (0, 5 if above else -5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=_TEXT,
                color="#8a3d00",
            )
    pad = 0.012 * span or 0.5
    axes.set_xlim(line.x.min() - pad - 0.5, line.x.max() + pad + 0.5)


def _ranges(axes: Axes, panel: Panel, width: float) -> None:
    """Heights from zero where nothing is below it, a little room at the ends, few ticks."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if panel.y_range is not None:
        low, high = panel.y_range
        room = 0.03 * (high - low)
        axes.set_ylim(low - room, high + room)
    else:
        axes.set_ylim(*_extent(panel))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:.5g}".replace("-", "\u2212")))
    if panel.kind == "bars":
        return
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    elif panel.kind == "lines":
        axes.margins(x=0.02)
    if panel.x_ticks:
        axes.set_xticks(list(panel.x_ticks))
        if panel.categories:
            axes.set_xticklabels(_spaced(panel.categories, width), parse_math=False)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _spaced(names: Sequence[str], width: float) -> list[str]:
    """The names that there is room for side by side, and nothing for those between them."""
    longest = max(min(len(name), _NAME) for name in names)
    step = -(-len(names) * (longest * _SMALL * _LETTER + 8) // (width - 70))
    kept = {len(names) - 1 - place for place in range(0, len(names), max(1, int(step)))}
    return [_cut(name, _NAME) if place in kept else "" for place, name in enumerate(names)]


def _extent(panel: Panel) -> tuple[float, float]:
    arrays = [line.y for line in panel.lines]
    arrays += [line.y + sign * line.band for line in panel.lines if line.band is not None for sign in (-1, 1)]
    arrays += [panel.background[0]] if panel.background is not None else []
    numbers = np.concatenate([*(array.reshape(-1) for array in arrays), [y for y, _ in panel.baselines]])
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 or panel.kind != "lines":
        low = min(low, 0.0)
    if panel.kind != "lines":
        high = max(high, 0.0)
    room = (high - low) * 0.05 or 0.5 * abs(high) or 0.5
    above = 3.2 * room if panel.kind == "stem" and panel.marks else room
    return (low - (room if low < 0 else 0.0), high + above)


def _wrapped(text: str, letters: int, lines: int) -> list[str]:
    """The text in so many lines at most."""
    import textwrap

    letters = max(8, letters)
    return textwrap.wrap(_cut(text, lines * letters - lines), letters)[:lines]


def _cut(text: str, letters: int) -> str:
    """The text where it fits, else its start and its end."""
    if len(text) <= letters:
        return text
    half = max(1, (letters - 1) // 2)
    return f"{text[:half]}…{text[-half:]}"
