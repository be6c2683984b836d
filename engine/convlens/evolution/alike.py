"""How alike two sets of features tell the same images apart: linear CKA, and when a layer settles.

Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", section 3
(https://arxiv.org/abs/1905.00414).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLAT = 1e-12
"""Squared spread of features over their squared size under which they are the same for all images: a spread
of a millionth is what rounding to float32 leaves."""


class Gram:
    """The centred Gram matrix of features, summed over blocks of features.

    Attributes:
        matrix: images x images, in float64.
        size: sum of squares of the features before they were centred.
    """

    def __init__(self, images: int) -> None:
        """Of no feature yet."""
        self.matrix = np.zeros((images, images))
        self.size = 0.0

    def add(self, block: NDArray[Any]) -> None:
        """Further features, images x features. Each is centred by itself, so blocks simply add up."""
        exact = block.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            self.size += float(np.einsum("ij,ij->", exact, exact))
            exact -= exact.mean(axis=0)
            self.matrix += exact @ exact.T

    @property
    def flat(self) -> bool:
        """Whether the features tell no two images apart, or are no numbers: nothing can be compared then."""
        spread = float(np.trace(self.matrix))
        return not np.isfinite(spread) or spread <= _FLAT * self.size or self.size == 0


def linear_cka(one: Gram, other: Gram) -> float:
    """Linear CKA of two sets of features of the same images, 0 to 1.

    Equation 3 of the paper on Gram matrices, ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``; NaN where one of
    them is the same for all images.
    """
    if one.flat or other.flat:
        return float("nan")
    norms = np.linalg.norm(one.matrix) * np.linalg.norm(other.matrix)
    return min(1.0, float(np.vdot(one.matrix, other.matrix) / norms))


def debiased_cka(one: Gram, other: Gram) -> float:
    """CKA with the unbiased estimator of HSIC, which few images and many features do not push up.

    Song et al. 2012, "Feature Selection via Dependence Maximization", equation 5, as Nguyen et al. 2021
    (https://arxiv.org/abs/2010.15327) take it for CKA. Around 0, also a little below, for features that have
    nothing to do with each other; NaN where there is nothing to compare.
    """
    if one.flat or other.flat:
        return float("nan")
    both, own, theirs = _unbiased(one, other), _unbiased(one, one), _unbiased(other, other)
    if own <= 0 or theirs <= 0:
        return float("nan")
    return float(both / np.sqrt(own * theirs))


def _unbiased(one: Gram, other: Gram) -> float:
    n = len(one.matrix)
    own, theirs = (gram.matrix - np.diag(np.diag(gram.matrix)) for gram in (one, other))
    rows = own.sum(axis=0), theirs.sum(axis=0)
    whole = rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2))
    return float((np.vdot(own, theirs) + whole - 2 / (n - 2) * (rows[0] @ rows[1])) / (n * (n - 3)))


def settled(alike: NDArray[Any], threshold: float) -> int:
    """The first checkpoint from which on likeness to the last one stays at ``threshold`` or above.

    Args:
        alike: one number a checkpoint, the last one of the last with itself.
        threshold: what counts as settled; NaN does not.

    Returns:
        Its number; that of the last where none before is settled.
    """
    low = np.flatnonzero(~(np.asarray(alike)[:-1] >= threshold))
    return int(low[-1]) + 1 if len(low) else 0
