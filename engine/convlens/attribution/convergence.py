"""How far a map that is estimated from random samples has settled, in the same words for every method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convlens.registry import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.results import Result

UNTIL = (
    "stop as soon as the estimated relative error is below this: the standard error of a position (root "
    "mean square over all) as a share of the map's range"
)
"""What the parameter ``until`` means."""

_LOOSE = 0.1  # relative error above which a map is not to be trusted in its details
_ALIKE = 0.67  # correlation of two halves below which it is neither; of both together it is then 0.8


def relative_error(values: NDArray[Any], errors: NDArray[Any]) -> float:
    """The root mean square of ``errors``, standard errors of ``values``, as a share of the values' range.

    Infinite where values without a range have an error; 0 where they have none.
    """
    import numpy as np

    size = float(np.sqrt(np.mean(np.square(errors))))
    span = float(np.ptp(values)) if values.size > 1 else float(abs(values).max(initial=0.0))
    if not size:
        return 0.0
    return size / span if span else float("inf")


def agreement(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's correlation of two maps of the same thing; 1 where both are the same constant, else 0."""
    import numpy as np

    a, b = one.reshape(-1) - one.mean(), other.reshape(-1) - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    if size == 0:
        return 1.0 if np.allclose(one, other) else 0.0
    return float(np.clip(a @ b / size, -1, 1))


def unsettled(result: Result, what: str, more: str) -> Sequence[Finding]:
    """A finding for each image whose map has not settled.

    Args:
        result: its rows have ``image``, ``forwards``, ``error`` (relative) and ``agreement``.
        what: is drawn at random, such as ``masks``.
        more: the option that takes more of them.
    """
    import numpy as np

    found = []
    for index, row in enumerate(result.rows):
        error, alike = (float("nan") if row[key] is None else row[key] for key in ("error", "agreement"))
        if not (error <= _LOOSE and alike >= _ALIKE):  # neither is true of what is no number
            said = (
                f"estimated error {error:.0%} of the map's range" if np.isfinite(error) else "no known error"
            )
            text = (
                f"{row['image']}: the map has not settled; another draw of {what} would show another one. "
                f"Take more with {more}."
            )
            evidence = (
                f"{said} after {row['forwards']} forwards; two halves of the {what} correlate by {alike:.2f}"
            )
            found.append(Finding("attention", text, evidence, index))
    return found
