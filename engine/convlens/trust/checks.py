"""One value compared in the two executors: what counts as agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph

TOLERANCE = 1e-4
"""Largest error allowed at a value, relative to that value's own largest magnitude.

Two float32 implementations of one network differ by a few units in the last place per operator,
which grows to some 1e-5 through a hundred layers; a wrong operator shows at 1e-2 and above.
"""

HALF_TOLERANCE = 2e-2
"""The same for values in half precision, whose unit in the last place is a thousandth."""

STEP_TOLERANCE = 0.02
"""How far from half way, in quantisation steps, a number may be that two executors round apart.

What is rounded is a float32 of up to 255 steps, good to some 1e-4 of one step after a few operations;
tables and approximations in onnxruntime's kernels leave ten times that.
"""

RANGE = {"Sigmoid": 1.0}
"""Operators whose result has a range of its own, to which implementations are accurate.

onnxruntime's sigmoid is a rational approximation: good to a few units in the last place of 1, not of
a result that is everywhere near 0.
"""

UNITS = 4 * 2.0**-23
"""A few units in the last place of 1 in float32."""

_MOVES = frozenset(
    {
        "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Concat",
        "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "ReduceMax", "Dropout",
    }
)  # fmt: skip
"""Operators that hand on numbers as they are."""


@dataclass(frozen=True, slots=True)
class Check:
    """One value on one input: the largest difference, absolute and relative to its largest magnitude.

    ``typical`` is the root mean square of the difference, relative to that of the value.
    """

    value: str
    op: str
    input: str
    absolute: float
    relative: float
    passed: bool
    note: str = ""
    typical: float = 0.0


def allowed(expected: NDArray[Any], tolerance: float) -> float:
    """The relative error that a value of this type may have."""
    half = expected.dtype.kind in "fV" and expected.dtype.itemsize == 2
    return max(tolerance, HALF_TOLERANCE) if half else tolerance


def least_magnitude(graph: Graph, name: str, tolerance: float = TOLERANCE) -> float:
    """What the magnitude of a value counts as at least, where it comes from an operator of :data:`RANGE`.

    An error of :data:`UNITS` of the range is then one of ``tolerance``. 0 for other values.
    """
    seen: set[str] = set()
    stack, least = [name], 0.0
    while stack:
        at = stack.pop()
        node = graph.producers.get(at)
        if node is None or at in seen:
            continue
        seen.add(at)
        if node.full_op in RANGE:
            least = max(least, RANGE[node.full_op] * UNITS / tolerance)
        elif node.full_op in _MOVES:
            stack += node.inputs
    return least


def compare(
    name: str,
    op: str,
    label: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    tolerance: float,
    codes: bool = False,
    least: float = 0.0,
) -> Check:
    """Hold ``found`` against ``expected``.

    Real numbers agree within the tolerance, infinities and NaN in the same places; integers where they
    are equal. For ``codes`` the differences are counted in quantisation steps. ``least`` is what the
    magnitude counts as at least (:func:`least_magnitude`).
    """
    if found.shape != expected.shape:
        note = f"shape {list(found.shape)} in PyTorch, {list(expected.shape)} in onnxruntime"
        return Check(name, op, label, float("inf"), float("inf"), False, note)
    if expected.size == 0:
        return Check(name, op, label, 0.0, 0.0, True)
    if expected.dtype.kind not in "fV" or codes:
        differing = int(np.count_nonzero(found != expected))
        share = differing / expected.size
        if codes and differing:
            steps, relative = difference(found, expected)
            note = f"{differing} of {expected.size} codes differ, by {steps:g} at most"
            return Check(name, op, label, steps, relative, False, note, _typical(found, expected))
        note = f"{differing} of {expected.size} integers differ" if differing else ""
        return Check(name, op, label, share, share, differing == 0, note)
    absolute, relative = difference(found, expected, least)
    if absolute == float("inf"):
        return Check(name, op, label, absolute, absolute, False, "infinite or NaN on one side only")
    passed = relative <= allowed(expected, tolerance)
    typical = relative if passed else _typical(found, expected)
    return Check(name, op, label, absolute, relative, passed, typical=typical)


def _typical(found: NDArray[Any], expected: NDArray[Any]) -> float:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return 0.0
    apart, size = (float(np.sqrt(np.square(v).mean())) for v in (a[finite] - b[finite], b[finite]))
    return apart / size if size > 0 else apart


def difference(found: NDArray[Any], expected: NDArray[Any], least: float = 0.0) -> tuple[float, float]:
    """The largest difference, absolute and relative to the largest magnitude, ``least`` at least.

    Infinite where one of the two is infinite or NaN and the other is something else.
    """
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not same[~finite].all() or not np.isfinite(a[finite]).all():
        return float("inf"), float("inf")
    absolute = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    magnitude = max(float(np.abs(b[finite]).max(initial=0.0)), least)
    return absolute, absolute / magnitude if magnitude > 0 else absolute
