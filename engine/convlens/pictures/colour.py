"""Numbers to colours: perceptually uniform maps (Crameri, Shephard & Heron 2020), diverging where signed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAPS = {"signed": "vik", "strength": "lipari", "activation": "lipari"}
PALE = {"pale signed": True, "pale": False}
"""Scales that are near white at zero, so that ink can be read on them, and whether they are signed."""

LABELS: tuple[tuple[int, int, int], ...] = (
    (244, 244, 247), (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167),
    (230, 159, 0), (86, 180, 233), (240, 228, 66), (70, 70, 78),
)  # fmt: skip
"""Colours of labels: of the input's own, of seven others (Okabe & Ito 2008), of all the rest."""

_PAPER = 248.0
_HUE = 0.81  # where in vik the ends of a pale scale lie: clear, and light enough for ink


@dataclass(frozen=True, slots=True)
class Scale:
    """From ``low`` to ``high``, what the numbers are, and in which colours."""

    low: float
    high: float
    label: str
    colours: str = "strength"

    @property
    def signed(self) -> bool:
        """Whether it runs to both sides of zero."""
        return self.colours.endswith("signed")

    def pale(self) -> Scale:
        """The same scale in colours on which ink can be read."""
        return Scale(self.low, self.high, self.label, "pale signed" if self.signed else "pale")

    def ends(self) -> tuple[str, str]:
        """The two ends as text."""
        return number(self.low), number(self.high)


def number(value: float | None) -> str:
    """A number as short as can be: three digits, thousands with a comma; None (NaN in JSON) is nan."""
    if value is None:
        return "nan"
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def symmetric(values: NDArray[Any], label: str, percentile: float = 99.5) -> Scale:
    """A signed scale around zero; a few outliers may saturate so that the rest can be seen."""
    finite = np.abs(values[np.isfinite(values)])
    bound = float(np.percentile(finite, percentile)) if finite.size else 0.0
    bound = bound or float(finite.max(initial=0.0)) or 1.0
    return Scale(-bound, bound, label, "signed")


def positive(values: NDArray[Any], label: str, percentile: float = 99.5) -> Scale:
    """A scale from zero up."""
    finite = values[np.isfinite(values)]
    high = float(np.percentile(finite, percentile)) if finite.size else 0.0
    high = high if high > 0 else float(finite.max(initial=0.0))
    return Scale(0.0, high if high > 0 else 1.0, label)


def paint(values: NDArray[Any], scale: Scale) -> NDArray[np.uint8]:
    """Numbers (any shape) as RGB, 8 bits, with a last axis of three. What is not finite is grey."""
    finite = np.isfinite(values)
    share = (np.clip(np.where(finite, values, scale.low), scale.low, scale.high) - scale.low) / (
        scale.high - scale.low
    )
    index = np.clip(np.rint(share * 255), 0, 255).astype(np.uint8)
    if scale.colours == "labels":
        painted = np.array(LABELS, dtype=np.uint8)[np.rint(share * (len(LABELS) - 1)).astype(np.intp)]
    else:
        colours = pale(PALE[scale.colours]) if scale.colours in PALE else table(MAPS[scale.colours])
        painted = colours[index]
    painted[~finite] = 128
    return np.asarray(painted, dtype=np.uint8)


@cache
def table(name: str) -> NDArray[np.uint8]:
    """256 colours of one of Crameri's maps."""
    from cmcrameri import cm

    colours = getattr(cm, name)(np.arange(256))[:, :3]
    return np.asarray(np.rint(colours * 255), dtype=np.uint8)


@cache
def pale(signed: bool) -> NDArray[np.uint8]:
    """256 colours from near white at zero to the hue of vik's ends, to both sides where signed."""
    share = np.linspace(-1.0 if signed else 0.0, 1.0, 256)
    strength = 0.85 * np.abs(share)[:, None] ** 0.8
    vik = table(MAPS["signed"]).astype(np.float64)
    ends = np.where(share[:, None] < 0, vik[round(255 * (1 - _HUE))], vik[round(255 * _HUE)])
    return np.asarray(np.rint(_PAPER * (1 - strength) + ends * strength), dtype=np.uint8)


def css(scale: Scale, stops: int = 16) -> str:
    """The scale as a CSS gradient, from low to high."""
    picks = paint(np.linspace(scale.low, scale.high, stops), scale)
    return f"linear-gradient(to right, {', '.join(f'rgb({r},{g},{b})' for r, g, b in picks)})"


def as_colour(signal: NDArray[Any], percentile: float = 99.5) -> NDArray[np.uint8]:
    """A signed colour picture (height x width x 3) with grey as zero, as reconstructions are shown.

    What is not finite is grey too.
    """
    bound = symmetric(signal, "", percentile).high
    share = np.clip(np.where(np.isfinite(signal), signal, 0.0) / bound, -1, 1)
    return np.asarray(np.clip(np.rint(127.5 + 127.5 * share), 0, 255), dtype=np.uint8)
