"""Where the output positions of a resize lie in its input, and what they read there, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convlens.graph.windows import Spread, Window

_LARGEST = 16  # denominators of scales whose window is worked out without the size of the input
_HALF_WAY = 1e-6  # onnxruntime takes a position this near to half way for half way
_SAME = 2e-7  # what two float32 may differ by that stand for the same weight
_F = np.float32


class Described(Protocol):
    """A node, as the graph or a torch facet has it."""

    @property
    def op(self) -> str:
        """Operator."""

    @property
    def version(self) -> int:
        """Opset."""

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute ``name``, or ``default``."""


def old_form(node: Described) -> bool:
    """Whether the node has scales as its second input or attribute and no choice of coordinates."""
    return node.op == "Upsample" or node.version < 11


@dataclass(frozen=True)
class Taps:
    """Along one axis: what each output position reads, with what weight, and where it lies outside."""

    places: NDArray[np.int64]
    weights: NDArray[np.float32]
    outside: NDArray[np.bool_]


@dataclass(frozen=True)
class Sampling:
    """How a node samples, read from its attributes. Computed in float32, as onnxruntime does."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude: bool
    antialias: bool

    @classmethod
    def of(cls, node: Described) -> Sampling:
        """Read from a Resize or an Upsample; both are asymmetric and round down before opset 11."""
        old = old_form(node)
        mode = node.attr("mode", "nearest")
        return cls(
            mode="linear" if mode == "bilinear" else mode,
            coordinates="asymmetric" if old else node.attr("coordinate_transformation_mode", "half_pixel"),
            rounding="simple" if old else node.attr("nearest_mode", "round_prefer_floor"),
            cubic=float(node.attr("cubic_coeff_a", -0.75)),
            exclude=bool(node.attr("exclude_outside", 0)),
            antialias=bool(node.attr("antialias", 0)),
        )

    def origin(self, size: int, out: int, scale: np.float32, roi: tuple[float, float]) -> NDArray[np.float32]:
        """Where each output position lies in the input."""
        x = np.arange(out, dtype=_F)
        half = _F(0.5)
        if self.coordinates == "asymmetric":
            return x / scale
        if self.coordinates == "align_corners":
            return x * _F(size - 1) / _F(out - 1) if out > 1 else x * 0
        if self.coordinates == "tf_half_pixel_for_nn":
            return (x + half) / scale
        if self.coordinates == "tf_crop_and_resize":
            start, end, last = _F(roi[0]), _F(roi[1]), _F(size - 1)
            if out == 1:
                return x + half * (start + end) * last
            return start * last + x * (end - start) * last / _F(out - 1)
        if self.coordinates == "pytorch_half_pixel" and out == 1:
            return x
        if self.coordinates == "half_pixel_symmetric":  # the only one that is summed in double precision
            shift = _F(size / 2) * (_F(1) - _F(out) / (scale * _F(size)))
            summed: NDArray[np.float32] = (float(shift) + (x + np.float64(0.5)) / float(scale) - 0.5).astype(
                _F
            )
            return summed
        return (x + half) / scale - half

    def taps(self, size: int, out: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)) -> Taps:
        """What each of ``out`` positions reads of ``size`` positions; kept, as every pass asks again."""
        return _taps(self, size, out, float(scale), roi)

    def rounded(self, x: NDArray[np.float32], shrinking: bool) -> NDArray[np.float32]:
        """The position that nearest mode reads; ``simple`` is opset 10's, which depends on the scale."""
        low = np.floor(x)
        up = {
            "round_prefer_floor": x - low > 0.5 + _HALF_WAY,
            "round_prefer_ceil": x - low >= 0.5 - _HALF_WAY,
            "ceil": x > low,
            "simple": (x > low) & shrinking,
        }.get(self.rounding, np.False_)
        return low + up

    def window(self, size: int | None, out: int | None, scale: float | None) -> Window | None:
        """What any output position reads; None where it cannot be told without the sizes."""
        if size is not None and out is not None:
            step = Fraction(size, out)
            reach = self._reach(size, out, scale if scale is not None else out / size, step)
            return Window(step, *reach)
        if scale is None or self.coordinates in ("align_corners", "half_pixel_symmetric"):
            return None
        step = 1 / Fraction(scale).limit_denominator(_LARGEST)
        if abs(float(1 / step) - scale) > 1e-6 * scale:
            return None
        spans = [
            self._reach(n, int(_F(n) * _F(scale)), scale, step)
            for n in range(1, 4 * max(step.numerator, step.denominator) + 8)
            if int(_F(n) * _F(scale)) > 0
        ]
        return Window(step, min(first for first, _ in spans), max(last for _, last in spans))

    def spread(self, size: int, factor: int) -> Spread | None:
        """How each group of ``factor`` outputs reads its surroundings; None where groups differ in that.

        At the borders too, once the numbers there stand beyond them as well.
        """
        taps = self.taps(size, size * factor, float(factor))
        group = np.repeat(np.arange(size), factor)[:, None]
        read = np.where(taps.weights != 0, taps.places - group, 0)
        front, back = max(0, -int(read.min())), max(0, int(read.max()))
        around = front + 1 + back
        cut = self.taps(around, around * factor, float(factor))
        one = slice(front * factor, (front + 1) * factor)
        places = np.tile(cut.places[one] - front, (size, 1)) + group
        found = _matrix(places.clip(0, size - 1), np.tile(cut.weights[one], (size, 1)), size)
        if not np.allclose(found, _matrix(taps.places, taps.weights, size), rtol=0, atol=_SAME):
            return None
        return Spread(factor, front, back, (front * factor, back * factor))

    def _reach(self, size: int, out: int, scale: float, step: Fraction) -> tuple[Fraction, Fraction]:
        taps = self.taps(size, out, scale)
        first = np.argmax(taps.weights != 0, axis=1)[:, None]
        spare = np.take_along_axis(taps.places, first, axis=1)
        read = np.where(taps.weights != 0, taps.places, spare)
        rows = list(enumerate(zip(read.min(axis=1).tolist(), read.max(axis=1).tolist(), strict=True)))
        return (
            min(low - i * step for i, (low, _) in rows),
            max(high - i * step for i, (_, high) in rows),
        )


def _matrix(places: NDArray[np.int64], weights: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Outputs x inputs."""
    found = np.zeros((len(places), size))
    np.add.at(found, (np.arange(len(places))[:, None], places), weights)
    return found


@lru_cache(maxsize=512)
def _taps(how: Sampling, size: int, out: int, scale: float, roi: tuple[float, float]) -> Taps:
    x = how.origin(size, out, _F(scale), roi)
    outside = (x < 0) | (x > size - 1)
    if how.mode == "nearest":
        places = how.rounded(x, shrinking=scale < 1)[:, None]
        weights = np.ones(places.shape, _F)
    elif how.antialias:
        places, weights = _stretched(how, size, x, _F(scale))
    elif how.mode == "linear":
        inside = x.clip(0, size - 1)
        low = np.floor(inside)
        places = np.stack([low, low + 1], axis=1)
        weights = np.stack([1 - (inside - low), inside - low], axis=1)
    else:
        low = np.floor(x)
        places = low[:, None] + np.arange(-1, 3, dtype=_F)
        weights = _cubic(x[:, None] - places, how.cubic)
        if how.exclude:
            weights = np.where((places < 0) | (places > size - 1), _F(0), weights)
            weights /= weights.sum(axis=1, keepdims=True)
    return Taps(places.astype(np.int64).clip(0, size - 1), weights.astype(_F), outside)


def _stretched(
    how: Sampling, size: int, x: NDArray[np.float32], scale: np.float32
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places and weights of an antialiased resize: where it shrinks, the kernel grows by as much.

    Weights that fall outside go to the border pixel, or with ``exclude_outside`` to nobody; what is
    left sums to one. Step by step in float32, since 8-bit integers show every rounding.
    """
    half, wide = _F(0.5), _F(1) / scale
    narrow = _F(1) / wide if wide >= 1 else _F(1)
    support = _F(1 if how.mode == "linear" else 2) * max(wide, _F(1))
    centre = x + half
    first = np.floor(centre - support + half)
    steps = np.arange(int((np.floor(centre + support + half) - first).max()), dtype=_F)
    places = first[:, None] + steps
    distance = (places - centre[:, None] + half) * narrow
    weights = (
        np.maximum(1 - np.abs(distance), 0) if how.mode == "linear" else _wide_cubic(distance, how.cubic)
    )
    gone = places >= np.floor(centre + support + half)[:, None]
    inside = (places >= 0) & (places <= size - 1)
    weights = np.where(gone | (how.exclude & ~inside), _F(0), weights).astype(_F)
    total = np.cumsum(weights, axis=1, dtype=_F)[:, -1:]
    for row, place, within in zip(weights, places, inside, strict=True):
        kept = np.flatnonzero(within)
        for k in np.flatnonzero(~within):
            row[kept[0] if place[k] < 0 else kept[-1]] += row[k]
            row[k] = 0
    return places, (weights * (_F(1) / np.where(total == 0, _F(1), total))).astype(_F)


def _wide_cubic(distance: NDArray[np.float32], coefficient: float) -> NDArray[np.float32]:
    d, a = np.abs(distance), _F(coefficient)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    found: NDArray[np.float32] = np.where(d < 1, near, np.where(d < 2, far, _F(0)))
    return found


def _cubic(distance: NDArray[np.float32], coefficient: float) -> NDArray[np.float32]:
    """Keys' cubic kernel (1981) with a free coefficient."""
    d, a = np.abs(distance), _F(coefficient)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    found: NDArray[np.float32] = np.where(d <= 1, near, far)
    return found
