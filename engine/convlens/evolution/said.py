"""What a course shows, in plain language, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from convlens.evolution.course import Course

_LISTED = 12  # layers or channels that evidence names


def findings(
    course: Course,
    layers: Sequence[str],
    names: Sequence[str],
    threshold: float,
    followed: Sequence[Mapping[str, Any]],
) -> list[dict[str, str]]:
    """In which order layers settle, whether that depends on the estimator, and which channels jump.

    Args:
        course: of the training.
        layers: that were compared, in the order in which they are computed.
        names: of the checkpoints.
        threshold: from which on a layer counts as settled.
        followed: the table of followed channels.
    """
    known = [(layer, own) for layer, own in zip(layers, course.settles(threshold), strict=True) if own >= 0]
    found = (
        [_order([own for _, own in known], [layer for layer, _ in known], names, threshold)] if known else []
    )
    early = [
        (layer, float(course.cka_last[row, 0]))
        for row, layer in enumerate(layers)
        if course.settles(threshold)[row] == 0
    ]
    if early:
        text = (
            f"{_are([layer for layer, _ in early])} that alike at {names[0]} already, so CKA says little of "
            "what training did there; the change of weights says more."
        )
        listed = _listed([f"{layer} {value:.3f}" for layer, value in early])
        found.append(_finding(text, f"linear CKA of {names[0]} with {names[-1]}: {listed}"))
    plain, strict = course.settles(threshold), course.settles(threshold, debiased=True)
    later = [
        f"{layer} from {names[two]} instead of {names[one]}"
        for layer, one, two in zip(layers, plain, strict, strict=True)
        if one != two and min(one, two) >= 0
    ]
    if later:
        text = (
            "With the unbiased estimator, which many features do not push up, some layers settle otherwise."
        )
        found.append(_finding(text, _listed(later)))
    jumping = [
        f"{row['layer']}:{row['channel']} at {', '.join(row['jumps'])}" for row in followed if row["jumps"]
    ]
    if jumping:
        text = (
            f"In {len(jumping)} of {len(followed)} followed channels another image becomes the strongest, "
            "so that what is seen of them changes suddenly."
        )
        found.append(_finding(text, _listed(jumping, "; ")))
    return found


def _order(
    settles: Sequence[int], layers: Sequence[str], names: Sequence[str], threshold: float
) -> dict[str, str]:
    """In which order layers settle that can be compared."""
    last = len(names) - 1
    steps = np.diff(settles)
    if len(set(settles)) == 1 and settles[0] == last:
        text = "No layer is settled before the last checkpoint."
    elif len(set(settles)) == 1:
        text = f"{'All layers settle' if len(layers) > 1 else 'The layer settles'} at {names[settles[0]]}."
    elif (steps >= 0).all():
        text = "Layers settle from the bottom up."
    elif (steps <= 0).all():
        text = "Layers settle from the top down."
    else:
        text = "Layers do not settle in the order of their depth."
    parts = [
        f"{layer} {'at the end only' if number == last else f'from {names[number]}'}"
        for layer, number in zip(layers, settles, strict=True)
    ]
    return _finding(text, f"linear CKA with {names[-1]} stays at {threshold:g} or above: {_listed(parts)}")


def _are(layers: Sequence[str]) -> str:
    """The layers as the subject of a sentence."""
    if len(layers) == 1:
        return f"{layers[0]} is"
    return f"{', '.join(layers[:-1])} and {layers[-1]} are"


def _listed(parts: Sequence[str], between: str = ", ") -> str:
    more = f"{between}{len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return between.join(parts[:_LISTED]) + more


def _finding(text: str, evidence: str) -> dict[str, str]:
    return {"level": "note", "text": text, "evidence": evidence}
