"""What came of an attack, in numbers: arrays with their units, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.fooling.aims import ClassAim

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.fooling.search import Outcome
    from convlens.fooling.sight import Sight
    from convlens.fooling.transfer import Others

_GREY = 128
_SPAN = 127  # levels that a magnified change has to either side of grey

Arrays = dict[str, "tuple[NDArray[Any], str]"]
"""Arrays by name, each with its unit."""


def pictures(outcome: Outcome, sight: Sight) -> Arrays:
    """Photos before and after, and the change, magnified around grey."""
    views = sight.ground.views
    factor = np.maximum(1, _SPAN // np.maximum(outcome.linf, 1)).astype(np.int64)
    delta = outcome.delta.double().movedim(1, -1).numpy()
    drawn = np.clip(_GREY + delta * factor[:, None, None, None], 0, 255).round().astype(np.uint8)
    return {
        "fooled": (views(outcome.clean + outcome.delta), "level"),
        "clean": (views(outcome.clean), "level"),
        "difference": (drawn, "level, magnified around 128"),
        "magnified": (factor, "factor"),
    }


def numbers(outcome: Outcome) -> Arrays:
    """Other inputs before and after, and the change."""
    unit = "as the model takes it"
    return {
        "fooled": ((outcome.clean + outcome.delta).numpy(), unit),
        "clean": (outcome.clean.numpy(), unit),
        "difference": (outcome.delta.numpy(), unit),
    }


def measures(sight: Sight, outcome: Outcome) -> Arrays:
    """Numbers, one or two an image."""
    unit = "level" if sight.ground.whole else "as the model takes it"
    gained = outcome.gain[:, 1] - outcome.gain[:, 0]
    found: Arrays = {
        "linf": (outcome.linf, unit),
        "l2": (outcome.l2, unit),
        "steps": (outcome.steps, "steps"),
        "told": (outcome.told, "what is driven up, if the model were linear"),
        "gained": (gained, "what is driven up"),
    }
    if outcome.before is not None and outcome.after is not None:
        both = np.stack([outcome.before, outcome.after], axis=1)
        seen = both.argmax(axis=2)
        sure = np.take_along_axis(both, seen[:, :, None], axis=2)[:, :, 0]
        found |= {"seen": (seen, "class index"), "probability": (sure, "probability")}
    if not isinstance(sight.aim, ClassAim):
        found["score"] = outcome.gain, "score of the target"
    return found


def rows_of(
    names: Sequence[str], sight: Sight, outcome: Outcome, others: Sequence[Others]
) -> list[dict[str, Any]]:
    """The table: a row an image."""
    classes, aim = sight.model.classes, sight.aim
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"image": name}
        if classes is not None and outcome.before is not None and outcome.after is not None:
            first, last = int(outcome.before[i].argmax()), int(outcome.after[i].argmax())
            row |= {
                "before": classes.label(first),
                "probability before": float(outcome.before[i, first]),
                "after": classes.label(last),
                "probability after": float(outcome.after[i, last]),
            }
        if isinstance(aim, ClassAim) and outcome.fooled is not None:
            row["fooled"] = bool(outcome.fooled[i])
            if aim.toward is not None:
                row["target"] = aim.classes.label(aim.toward)
        else:
            row |= {"score before": float(outcome.gain[i, 0]), "score after": float(outcome.gain[i, 1])}
        row |= {
            "linf": float(outcome.linf[i]),
            "l2": float(outcome.l2[i]),
            "steps": int(outcome.steps[i]),
            "told": float(outcome.told[i]),
            "gained": float(outcome.gain[i, 1] - outcome.gain[i, 0]),
        }
        for other in others:
            row[other.name] = other.labels[i][1] if other.before[i] != other.after[i] else "not fooled"
        rows.append(row)
    return rows
