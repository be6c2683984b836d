"""What the curves of a course show, for :mod:`convlens.pictures.curves`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LINES = 10  # in one panel; of more layers some, spread over the depth
_SCORED = {
    "accuracy": "accuracy",
    "truth": "probability of the right class",
    "surest": "probability of the surest class",
}


def curves(
    names: Sequence[str],
    layers: Sequence[str],
    filters: Sequence[str],
    followed: Sequence[str],
    threshold: float,
    scored: Sequence[str],
) -> dict[str, Any]:
    """Hints: features, weights and, where there are any, channels and scores over the checkpoints.

    Args:
        names: of the checkpoints.
        layers: that are compared.
        filters: layers with weights.
        followed: layers whose channels are followed.
        threshold: from which on a layer counts as settled.
        scored: names of the arrays with scores.
    """
    features, weights = _lines(layers), _lines(filters)
    panels = [
        {
            "figure": "features",
            "title": f"likeness to {names[-1]}{_some(layers)}",
            "y_label": "linear CKA",
            "lines": [{"array": "cka_last", **line} for line in features],
            "baseline": [{"y": threshold, "label": f"settled: {threshold:g}"}],
            "y_range": [0, 1],
            "ordered": True,
        },
        {
            "figure": "features",
            "title": f"likeness to the checkpoint before{_some(layers)}",
            "y_label": "linear CKA",
            "lines": [{"array": "cka_before", **line} for line in features],
            "y_range": [0, 1],
            "ordered": True,
        },
    ]
    if weights:
        panels += [
            {
                "figure": "weights",
                "title": f"change that is left to {names[-1]}{_some(filters)}",
                "y_label": "share of the weights' length",
                "lines": [{"array": "change_last", **line} for line in weights],
                "ordered": True,
            },
            {
                "figure": "weights",
                "title": f"filters and what they are at {names[-1]}{_some(filters)}",
                "y_label": "mean cosine",
                "lines": [{"array": "cosine_last", **line} for line in weights],
                "ordered": True,
            },
        ]
    if followed:
        panels.append(
            {
                "figure": "channels",
                "title": "channels whose strongest image is another than at the checkpoint before",
                "y_label": "share of all channels",
                "lines": [{"array": "jumps", **line} for line in _lines(followed)],
                "y_range": [0, 1],
                "ordered": True,
            }
        )
    if scored:
        panels.append(
            {
                "figure": "classes",
                "title": "accuracy and confidence" if len(scored) > 1 else "confidence",
                "y_label": "share, probability",
                "lines": [{"array": name, "label": _SCORED[name]} for name in scored],
                "y_range": [0, 1],
            }
        )
    axis = {"x_label": "checkpoint", "x_ticks": list(range(len(names))), "categories": list(names)}
    return {"curves": [{**panel, **axis} for panel in panels], "title": "over the training"}


def _lines(layers: Sequence[str]) -> list[dict[str, Any]]:
    return [{"row": row, "label": layers[row]} for row in _chosen(len(layers))]


def _chosen(count: int) -> list[int]:
    if count <= _LINES:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, _LINES)]


def _some(layers: Sequence[str]) -> str:
    return f" ({_LINES} of {len(layers)} layers)" if len(layers) > _LINES else ""
