"""Rows of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def repeated(array: NDArray[Any], count: int) -> NDArray[Any]:
    """The array repeated at its end to ``count`` rows, for models that take no fewer."""
    missing = count - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
