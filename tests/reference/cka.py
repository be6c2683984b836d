"""CKA from its definitions, in float64: with the centring matrix, and by sums over different images."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def hsic(k: Array, l: Array) -> float:  # noqa: E741
    """Gretton et al. 2005, definition 2: tr(K H L H) / (n - 1)^2 with H = I - 1 1^T / n."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(k @ h @ l @ h) / (n - 1) ** 2)


def cka(x: Array, y: Array) -> float:
    """Kornblith et al. 2019, equation 3 with the linear kernel, of features images x numbers."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def cka_of_features(x: Array, y: Array) -> float:
    """The same after section 3.2 of the paper: by the cross-covariance of centred features."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def unbiased_hsic(k: Array, l: Array) -> float:  # noqa: E741
    """Song et al. 2012, equation 4: means over ordered choices of two, four and three different images."""
    n = len(k)
    two = np.mean([k[i, j] * l[i, j] for i, j in permutations(range(n), 2)])
    four = np.mean([k[i, j] * l[q, r] for i, j, q, r in permutations(range(n), 4)])
    three = np.mean([k[i, j] * l[i, q] for i, j, q in permutations(range(n), 3)])
    return float(two + four - 2 * three)


def debiased_cka(x: Array, y: Array) -> float:
    """CKA of the unbiased estimates."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    return unbiased_hsic(k, l) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(l, l))
