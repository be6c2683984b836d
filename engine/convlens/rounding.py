"""Where two correct implementations differ by more than the tolerance: float32's own rounding.

A certificate that refused a model for it would be wrong about the model, and one that were simply
more tolerant would miss wrong operators. So a value in doubt is computed once more from
onnxruntime's own inputs, which shows whether its operator or an earlier one made the difference; and
float64 decides: it is far from both executors where both only round, and close to one and far from
the other where one of them is wrong. A wrong operator is still caught where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.instrument.build import TorchGraph

ROUNDING_LIMIT = 1e-2
"""Largest relative error that may be put down to rounding."""

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
    double: TorchGraph,
    feeds: Mapping[str, NDArray[Any]],
    values: Mapping[str, NDArray[Any]],
    doubted: Collection[str],
    ops: Mapping[str, str],
    tolerance: float,
) -> dict[str, str]:
    """Those of ``doubted`` whose error is float32's own, with the reason.

    Args:
        single: the PyTorch graph in float32.
        double: the same graph in float64.
        feeds: the model's inputs.
        values: onnxruntime's values for them, all that ``doubted`` read included.
        doubted: names of the values in doubt.
        ops: the operator that computes each value.
        tolerance: largest error, relative to the value's largest magnitude, that is no difference.
    """
    known = {**values, **feeds}
    reasons = {}
    for name in doubted:
        array = known[name].astype(np.float64)
        truth = double.local(name, known).double().cpu().numpy()
        own_value = single.local(name, known).double().cpu().numpy()
        own, theirs = _far(own_value, truth), _far(array, truth)
        bound = _UNITS * _RANGE.get(ops.get(name, ""), 0.0)
        if _far(own_value, array) <= tolerance * float(np.abs(array).max(initial=0.0)):
            reasons[name] = (
                "computed alike from the same inputs: the difference is an earlier value's rounding"
            )
        elif theirs <= _ALIKE * own and own <= _ALIKE * theirs:
            reasons[name] = "float32 itself is no closer to float64 here: terms cancel"
        elif max(own, theirs) <= bound:
            reasons[name] = f"within the rounding of {ops[name]}, whose range is {_RANGE[ops[name]]:g}"
    return reasons


def _far(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a - b).max(initial=0.0))
