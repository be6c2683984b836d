"""Which classes take which share of a map of labels, for its legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.classes import Classes

_NAMED = 7  # labels beside the input's own that get a colour


def label_areas(labels: NDArray[Any], own: int, classes: Classes) -> list[dict[str, Any]]:
    """The label of the whole input first, then up to seven others by their share of the positions.

    Args:
        labels: class index at each position.
        own: class of the whole input.
        classes: for their names.

    Returns:
        One mapping a label with ``class``, ``name`` and ``share`` (0 to 1); what is not listed are others.
    """
    found, counts = np.unique(labels, return_counts=True)
    shares = dict(zip(found.tolist(), (counts / labels.size).tolist(), strict=True))
    rest = sorted((label for label in shares if label != own), key=lambda label: (-shares[label], label))
    return [
        {"class": label, "name": classes.label(label), "share": float(shares.get(label, 0.0))}
        for label in [own, *rest[:_NAMED]]
    ]
