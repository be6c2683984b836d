"""Where two correct executors differ by more than the tolerance, and why that is no fault.

A certificate that refused a model for it would be wrong about the model, and one that were simply
more tolerant would miss wrong operators. So a value in doubt is computed once more from
onnxruntime's own inputs, which shows whether its operator or an earlier one made the difference. An
operator is right where

- real numbers agree within the tolerance, or float64 shows that both only round: it is far from both
  executors then, and close to one and far from the other where one of them is wrong. What is off by no
  more than the last places of what the operator read explain may be off by any share of a result that
  terms which cancel have left;
- codes of quantised numbers are equal, but where the number before rounding lies half way between
  two of them, up to :data:`~convlens.trust.checks.STEP_TOLERANCE` of a step;
- integers and choices (a position, an order, a comparison) are equal.

A difference that is inherited from an earlier value may be as large as what came before explains: up to
:data:`ROUNDING_LIMIT` as it is, beyond that where float32 is no closer to float64 than the executors are
to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.ops.quant import unrounded
from convlens.ops.quantcodes import LIMITS
from convlens.trust.checks import RANGE, STEP_TOLERANCE, UNITS, Check, allowed, difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.instrument.build import TorchGraph

ROUNDING_LIMIT = 1e-2
"""Largest relative error that is put down to the rounding of float32 without running all in float64."""

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

_WITHIN, _DRAWS = 16.0, 3
"""How many units in the last place of its inputs an operator's result may be off, and how many random
ways are tried in which such units may change it."""

_JUMPS = frozenset({"Round", "Floor", "Ceil", "Sign", "Mod", "Hardmax", "ThresholdedRelu", "Shrink"})
"""Operators of real numbers that jump: two numbers that are equal up to rounding end up far apart."""

NOISE = "it is rounding itself"
"""Begins the reason of a value that float32 cannot tell, so that its relative error says nothing."""


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
    worse = max(mine, theirs)
    if worse == float("inf"):
        return None
    if worse <= UNITS * RANGE.get(op, 0.0):
        return f"{NOISE}: within that of {op}, whose range is {RANGE[op]:g}"
    if worse <= _WITHIN * _sensitivity(double(), name, known, truth):
        return f"{NOISE}: terms cancel, and what is left is no larger than their last places"
    if theirs <= _ALIKE * mine and mine <= _ALIKE * theirs:
        return "float32 itself is no closer to float64 here: terms cancel"
    return None


def _sensitivity(
    double: TorchGraph, name: str, known: Mapping[str, NDArray[Any]], truth: NDArray[Any]
) -> float:
    """How far a value moves where every number that its operator reads moves by a unit in its last place.

    An operator whose result is that of inputs a few such units away cannot be told from a right one
    (backward stability; Higham 2002, Accuracy and Stability of Numerical Algorithms, section 1.5).
    """
    rng, moved = np.random.default_rng(0), 0.0
    reads: dict[str, Any] = {n: known[n] for n in double.graph.producers[name].reads if n in known}
    for draw in range(_DRAWS + 1):
        near: dict[str, Any] = {}
        for n, array in reads.items():
            near[n] = array
            if isinstance(array, np.ndarray) and array.dtype == np.float32:
                # all up, so that those of a sum of many add up; then each its own way
                signs = np.sign(array) if draw == 0 else rng.choice((-1.0, 1.0), array.shape)
                near[n] = array * (1 + signs * 2.0**-24)
        found = _local(double, name, near)
        if found.shape != truth.shape:
            return 0.0  # a size that hangs on its inputs; nothing that could be put down to rounding
        step = difference(found, truth)[0]
        moved = max(moved, step if np.isfinite(step) else 0.0)
    return moved


def amplified(
    single: TorchGraph,
    double: TorchGraph,
    feeds: Mapping[str, NDArray[Any]],
    values: Mapping[str, NDArray[Any]],
) -> dict[str, str]:
    """Those of ``values`` that float32 cannot tell from these inputs, with the reason.

    A network may amplify the last digits of its first layers to any size, so that two right executors
    part. PyTorch in float32 is no closer to float64 then than onnxruntime is. Were its operators each a
    little wrong, it would be as wrong in float64, close to that, and onnxruntime far from both.

    Args:
        single: the PyTorch graph in float32.
        double: the same graph in float64.
        feeds: the model's inputs.
        values: onnxruntime's values, of which every operator is right by :func:`rounding`.
    """
    import torch

    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, graph in (("own", single), ("truth", double)):
        tensors = {name: graph.working(array, name) for name, array in feeds.items()}
        with torch.no_grad():
            out = graph.values(tensors, list(values))
        found[key] = {name: value.double().cpu().numpy() for name, value in out.items()}
    reasons = {}
    for name, array in values.items():
        truth = found["truth"][name]
        if array.dtype.kind not in "fV" or array.shape != truth.shape:
            continue
        mine, theirs = difference(found["own"][name], truth)[0], difference(array, truth)[0]
        if mine < float("inf") and theirs <= _ALIKE * mine:
            reasons[name] = "float32 itself is no closer to float64 here: earlier rounding is amplified"
    return reasons


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
            fits = check.relative <= ROUNDING_LIMIT or reason.startswith(NOISE)
            found.append(replace(check, passed=True, note=reason) if fits else check)
    return found


def _where(check: Check, origin: str) -> str:
    return "here" if origin == check.value else f"at {origin!r}"


def _causes(
    checks: Iterable[Check], reasons: Mapping[str, str], graph: Graph, codes: Collection[str]
) -> dict[str, tuple[str, str]]:
    """For every value what before it (or it itself) fell differently, and where it first did.

    A ``choice`` is an integer that is no code: a position, an order, a comparison, and with it the
    sizes that follow; and what an operator of :data:`_JUMPS` gives. What hangs on one may differ by any
    amount; codes move by a step.
    """
    own: dict[str, str] = {}
    for check in checks:
        if check.passed or check.value not in reasons:
            continue
        value = graph.value(check.value)
        if check.value in codes:
            own[check.value] = "code"
        elif value.dtype is not None and (not value.floating or graph.producers[check.value].op in _JUMPS):
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
