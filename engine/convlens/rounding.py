"""Where two correct executors differ by more than the tolerance, and why that is no fault.

A certificate that refused a model for it would be wrong about the model, and one that were simply
more tolerant would miss wrong operators. So a value in doubt is computed once more from
onnxruntime's own inputs, which shows whether its operator or an earlier one made the difference. An
operator is right where

- real numbers agree within the tolerance, or float64 shows that both only round: it is far from both
  executors then, and close to one and far from the other where one of them is wrong;
- codes of quantised numbers are equal, but where the number before rounding lies half way between
  two of them, up to :data:`~convlens.checks.STEP_TOLERANCE` of a step;
- integers and choices (a position, an order, a comparison) are equal.

A difference that is inherited from an earlier value may be as large as what came before explains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.checks import STEP_TOLERANCE, Check, allowed, difference
from convlens.ops.quant import unrounded
from convlens.ops.quantcodes import LIMITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.instrument.build import TorchGraph

ROUNDING_LIMIT = 1e-2
"""Largest relative error that may be put down to the rounding of float32."""

QUANTISED_LIMIT = 0.1
"""Largest error behind quantisers, as root mean square relative to that of the value.

Where a number lies half way between two codes, the executors may part by a step there, and such steps
spread. How far single numbers move then is no measure: one step in the first layer moves a few numbers
of a deep one by many.
"""

INHERITED = "computed alike from the same inputs: the difference is an earlier value's rounding"

_ALIKE = 10.0
"""How much further one executor may be from float64 than the other, where both only round.

Where terms cancel (the mean of something centred), float32 itself is off by more than the tolerance in
any implementation, by about as much in each.
"""

_RANGE = {"Sigmoid": 1.0}
"""Operators whose result has a range of its own, to which implementations are accurate.

onnxruntime's sigmoid is a rational approximation: good to a few units in the last place of 1, not of
a result that is everywhere near 0.
"""

_UNITS = 4 * 2.0**-23
"""A few units in the last place of 1 in float32."""


def rounding(
    single: TorchGraph,
    double: Callable[[], TorchGraph],
    feeds: Mapping[str, NDArray[Any]],
    values: Mapping[str, NDArray[Any]],
    doubted: Collection[str],
    ops: Mapping[str, str],
    tolerance: float,
) -> dict[str, str]:
    """Those of ``doubted`` whose operator is right, with the reason why the value differs all the same.

    Args:
        single: the PyTorch graph in float32.
        double: gives the same graph in float64; asked only where float32 leaves a doubt.
        feeds: the model's inputs.
        values: onnxruntime's values for them, all that ``doubted`` read included.
        doubted: names of the values in doubt.
        ops: the operator that computes each value.
        tolerance: largest error, relative to the value's largest magnitude, that is no difference.
    """
    known = {**values, **feeds}
    reasons = {}
    for name in doubted:
        reason = _reason(single, double, known, name, ops.get(name, ""), tolerance)
        if reason is not None:
            reasons[name] = reason
    return reasons


def _reason(
    single: TorchGraph,
    double: Callable[[], TorchGraph],
    known: Mapping[str, NDArray[Any]],
    name: str,
    op: str,
    tolerance: float,
) -> str | None:
    array = known[name]
    if single.codes.get(name) in LIMITS:
        return INHERITED if _codes_right(single, name, known) else None
    own = _local(single, name, known)
    if own.shape != array.shape:
        return None
    if array.dtype.kind not in "fV":
        return INHERITED if np.array_equal(own, array) else None
    if difference(own, array)[1] <= allowed(array, tolerance):
        return INHERITED
    truth = _local(double(), name, known)
    mine, theirs = difference(own, truth)[0], difference(array, truth)[0]
    if max(mine, theirs) == float("inf"):
        return None
    if theirs <= _ALIKE * mine and mine <= _ALIKE * theirs:
        return "float32 itself is no closer to float64 here: terms cancel"
    if max(mine, theirs) <= _UNITS * _RANGE.get(op, 0.0):
        return f"within the rounding of {op}, whose range is {_RANGE[op]:g}"
    return None


def _codes_right(graph: TorchGraph, name: str, known: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the codes from onnxruntime's own inputs are its own, but for numbers half way between two."""
    own, array = _local(graph, name, known), known[name].astype(np.float64)
    if own.shape != array.shape:
        return False
    differ = own != array
    if not differ.any():
        return True
    with unrounded():
        exact = _local(graph, name, known)
    half_way = np.abs(np.abs(exact - array) - 0.5) <= STEP_TOLERANCE
    return bool((half_way & (np.abs(own - array) == 1))[differ].all())


def _local(graph: TorchGraph, name: str, known: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    found = graph.local(name, known)
    return (found.double() if found.is_floating_point() else found).cpu().numpy()


def excused(
    checks: Iterable[Check], reasons: Mapping[str, str], graph: Graph, codes: Collection[str]
) -> list[Check]:
    """The checks, those passed whose operator is right and whose difference is explained.

    Args:
        checks: in the order of computation.
        reasons: from :func:`rounding`.
        graph: tells what comes before what.
        codes: names of the values that hold codes of quantised numbers.
    """
    given = list(checks)
    cause = _causes(given, reasons, graph, codes)
    found = []
    for check in given:
        reason = reasons.get(check.value)
        if check.passed or reason is None:
            found.append(check)
            continue
        kind, origin = cause.get(check.value, ("", ""))
        if kind == "choice":
            note = f"{reason}; {_where(check, origin)} two numbers are equal up to rounding"
            found.append(replace(check, passed=True, note=note))
        elif kind == "code":
            step = check.value in codes and check.absolute <= 1
            note = f"{reason}; {_where(check, origin)} numbers lie half way between two codes"
            passed = step or check.typical <= QUANTISED_LIMIT
            if not passed:
                note = (
                    f"computed alike from the same inputs, but codes rounded the other way since {origin!r} "
                    f"add up to {check.typical:.0%} (root mean square), allowed {QUANTISED_LIMIT:.0%}"
                )
            found.append(replace(check, passed=passed, note=note))
        else:
            fits = check.relative <= ROUNDING_LIMIT
            found.append(replace(check, passed=True, note=reason) if fits else check)
    return found


def _where(check: Check, origin: str) -> str:
    return "here" if origin == check.value else f"at {origin!r}"


def _causes(
    checks: Iterable[Check], reasons: Mapping[str, str], graph: Graph, codes: Collection[str]
) -> dict[str, tuple[str, str]]:
    """For every value what before it (or it itself) fell differently, and where it first did.

    A ``choice`` is an integer that is no code: a position, an order, a comparison, and with it the
    sizes that follow. What hangs on one may differ by any amount; codes move by a step.
    """
    own: dict[str, str] = {}
    for check in checks:
        if check.passed or check.value not in reasons:
            continue
        value = graph.value(check.value)
        if check.value in codes:
            own[check.value] = "code"
        elif value.dtype is not None and not value.floating:
            own[check.value] = "choice"
    found: dict[str, tuple[str, str]] = {}
    for node in graph.nodes:
        before = [found[name] for name in node.reads if name in found]
        choice = next((one for one in before if one[0] == "choice"), None)
        inherited = choice or next(iter(before), None)
        for name in node.outputs:
            if inherited is not None and (inherited[0] == "choice" or own.get(name) != "choice"):
                found[name] = inherited
            elif name in own:
                found[name] = (own[name], name)
    return found
