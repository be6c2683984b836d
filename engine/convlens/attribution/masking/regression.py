"""Linear models fitted to sums over samples: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.convergence import agreement, relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = 10
"""Groups of samples, each left out once for the error (a jackknife over groups)."""


class NormalSums:
    """The sums of weighted least squares, of fixed rows and of drawn ones, the latter group by group.

    Args:
        features: numbers in a row.
        fit: from matrix (features x features) and vector to coefficients.
        mass: what the weights of all drawn rows count together; None: what they come to.
    """

    def __init__(
        self,
        features: int,
        fit: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
        mass: float | None = None,
    ) -> None:
        """Start with nothing."""
        self.fit = fit
        self.mass = mass
        self.fixed = np.zeros((features, features + 1))
        self.drawn = np.zeros((GROUPS, features, features + 1))
        self.weight = np.zeros(GROUPS)

    def add(
        self, rows: NDArray[Any], y: NDArray[Any], weights: NDArray[Any], groups: NDArray[Any] | None
    ) -> None:
        """Take in rows (B x features), what is to be fitted (B), weights (B) and the rows' groups (B).

        Rows without groups are fixed: they are no sample of anything.
        """
        given = np.concatenate([rows, y[:, None]], axis=1, dtype=np.float64)
        if groups is None:
            self.fixed += (rows * weights[:, None]).T @ given
            return
        for group in np.unique(groups).tolist():
            own = groups == group
            self.drawn[group] += (rows[own] * weights[own, None]).T @ given[own]
            self.weight[group] += float(weights[own].sum())

    def coefficients(self, groups: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """The fit to the fixed rows and the drawn ones of ``groups``, scaled to all; all by default."""
        chosen = np.arange(GROUPS) if groups is None else groups
        held = float(self.weight[chosen].sum())
        whole = self.mass if self.mass is not None else float(self.weight.sum())
        sums = self.fixed + (whole / held if held else 0.0) * self.drawn[chosen].sum(axis=0)
        return self.fit(sums[:, :-1], sums[:, -1])

    def error(self) -> NDArray[np.float64]:
        """Standard errors of the coefficients (Efron & Tibshirani 1993, chapter 11); 0 without drawn rows."""
        used = np.flatnonzero(self.weight)
        if len(used) < 2:
            return np.zeros(len(self.fixed))
        left_out = np.stack([self.coefficients(used[used != group]) for group in used])
        total = np.square(left_out - left_out.mean(axis=0)).sum(axis=0)
        return np.asarray(np.sqrt(total * (len(used) - 1) / len(used)))

    def halves(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The fits to the groups of even and of odd number."""
        used = np.flatnonzero(self.weight)
        if len(used) < 2:
            whole = self.coefficients()
            return whole, whole
        return self.coefficients(used[::2]), self.coefficients(used[1::2])


def settled(sums: NormalSums, count: int) -> tuple[float, float]:
    """The relative error of the first ``count`` coefficients, and how those of two halves correlate."""
    one, other = sums.halves()
    error = relative_error(sums.coefficients()[:count], sums.error()[:count])
    return error, agreement(one[:count], other[:count])


def solved(matrix: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    """The solution of a symmetric system; of several the shortest where the matrix has no full rank."""
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0])
