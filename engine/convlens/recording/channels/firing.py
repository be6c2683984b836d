"""What a tally says of how each channel fires: never, hardly ever, always, or always with one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.graph.rectifiers import find_rectifiers
from convlens.recording.tallies import bins_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.recording.tallies import Tally

STATES = ("usual", "never fires", "hardly ever fires", "always fires", "saturated", "constant", "unsound")
"""What a channel can be; the number of a state is its place here."""

USUAL, NEVER, HARDLY, ALWAYS, SATURATED, CONSTANT, UNSOUND = range(len(STATES))

_ZERO = frozenset(
    {
        "Relu",
        "Clip",
        "ThresholdedRelu",
        "HardSwish",
        "HardSigmoid x Mul",
        "Clip x Mul",
        "Quantise from 0",
    }
)
"""Rectifiers whose value is exactly zero where they are closed."""

_TO_ONE = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softsign", "Softmax"})
_ALIKE = 1e-6
"""Of a value's magnitude: a smaller standard deviation is the rounding of float32 sums, not a change."""


@dataclass(frozen=True)
class Ends:
    """How the values of a layer are bounded.

    Attributes:
        rectifier: whether the layer is a rectifier's, so that a channel fires where it is above zero.
        closes: whether it is exactly zero where it does not fire.
        top: the largest value that it can have, None where there is no such end.
    """

    rectifier: bool
    closes: bool
    top: float | None


def ends_of(graph: Graph, values: Sequence[str]) -> list[Ends]:
    """The ends of some ONNX values, from the operators that compute them."""
    rectifiers = find_rectifiers(graph)
    found = []
    for value in values:
        name = rectifiers[value].name if value in rectifiers else ""
        found.append(Ends(value in rectifiers, name in _ZERO, _top(graph, value)))
    return found


def _top(graph: Graph, value: str) -> float | None:
    node = graph.producers.get(value)
    if node is None or node.full_op in _TO_ONE:
        return None if node is None else 1.0
    if node.full_op != "Clip":
        return None
    told: Any = node.attr("max") if node.version < 11 else graph.constant(node.input(2))
    if told is None or np.size(told) != 1 or not np.isfinite(told):
        return None
    return float(np.reshape(told, ()))


@dataclass(frozen=True)
class Firing:
    """One number a channel each.

    Attributes:
        fires: share of the images on which the largest value is above zero; to within 2 to the power of -16.
        on: share of the values that are not zero.
        peaks: share of the images whose largest value is at the layer's upper end, or up to a sixth below.
        mean: of all values; ``deviation`` their standard deviation.
        q99: what the largest value of an image exceeds on one image of a hundred, to within a tenth.
        largest: of all values.
        images: on which the values were numbers.
        unsound: images on which one was not.
        state: number of the state in :data:`STATES`.
    """

    fires: NDArray[np.float64]
    on: NDArray[np.float64]
    peaks: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    q99: NDArray[np.float64]
    largest: NDArray[np.float64]
    images: NDArray[np.int64]
    unsound: NDArray[np.int64]
    state: NDArray[np.int64]


def firing_of(tally: Tally, ends: Ends, rare: float) -> Firing:
    """How each channel of a layer fires.

    Args:
        tally: of the layer.
        ends: of its values.
        rare: share of the images up to which a channel hardly ever fires.
    """
    seen = tally.histogram.sum(axis=1)
    some = tally.values > 0
    zero = int(bins_of(np.zeros(1))[0])
    fires = _share(tally.histogram[:, zero + 1 :].sum(axis=1), seen)
    on = _share(tally.values - tally.zeros, tally.values)
    largest = np.where(some, tally.most, 0.0)
    deviation = np.sqrt(np.where(some, tally.variance, 0.0))
    peaks = np.zeros(len(fires))
    if ends.top is not None:
        peaks = _share(tally.histogram[:, int(bins_of(np.array([ends.top]))[0])], seen)
    same = some & (deviation <= _ALIKE * np.abs(tally.mean))
    state = np.full(len(fires), USUAL)
    if ends.rectifier:
        state[(fires <= rare) & (largest > 0)] = HARDLY
    if ends.closes:
        state[tally.zeros == 0] = ALWAYS
    state[same] = CONSTANT
    if ends.top is not None:
        state[same & (np.abs(tally.mean - ends.top) <= _ALIKE * abs(ends.top))] = SATURATED
    if ends.rectifier:
        state[largest <= 0] = NEVER
    state[~some] = UNSOUND
    return Firing(
        fires,
        on,
        peaks,
        np.where(some, tally.mean, 0.0),
        deviation,
        np.where(some, tally.quantile(0.99), 0.0),
        largest,
        seen,
        tally.unsound,
        state,
    )


def unseen(images: int, level: float = 0.05) -> float:
    """The share of all images up to which something may happen that none of so many showed.

    With a chance of ``level`` something that happens more often would have stayed unseen too: the exact
    bound of which 3 / n is the well-known approximation (Hanley & Lippman-Hand 1983).
    """
    return 1.0 if images < 1 else float(1 - level ** (1 / images))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return found
