"""The pointing game: whether a map's strongest place lies in a box (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def windows(
    boxes: Sequence[Sequence[tuple[int, int]]], count: int, extent: Sequence[int], axes: Sequence[str]
) -> list[tuple[slice, ...]]:
    """One window an image.

    Raises:
        ParameterError: neither one box nor one an image, or a box that does not lie in the input.
    """
    if len(boxes) not in (1, count):
        raise ParameterError(f"box gives {len(boxes)} boxes for {count} images; expected 1 or {count}")
    for box in boxes:
        if len(box) != len(extent):
            raise ParameterError(f"box has {len(box)} axes; expected {len(extent)} ({', '.join(axes)})")
        for (first, last), size, name in zip(box, extent, axes, strict=True):
            if not 0 <= first < last <= size:
                raise ParameterError(f"box is {first}:{last} along {name}; expected FROM < TO <= {size}")
    return [tuple(slice(a, b) for a, b in boxes[i if len(boxes) > 1 else 0]) for i in range(count)]


def hits(maps: NDArray[Any], boxes: Sequence[tuple[slice, ...]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Whether each map's largest number lies in its box, and the share of what speaks for it that does."""
    found, shares = [], []
    for values, box in zip(maps, boxes, strict=True):
        clean = np.where(np.isfinite(values), values, -np.inf)
        inside = np.zeros(values.shape, bool)
        inside[box] = True
        found.append(bool(inside.reshape(-1)[int(clean.argmax())]))
        positive = np.where(np.isfinite(values), np.maximum(values, 0), 0.0)
        total = float(positive.sum())
        shares.append(float(positive[box].sum()) / total if total > 0 else 0.0)
    return np.array(found), np.array(shares)
