"""How well a checkpoint tells the classes of labelled images, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.classes import Classes

UNKNOWN = -1  # the class of an image whose label says none


@dataclass(frozen=True)
class Score:
    """Of one checkpoint; None where nothing is known.

    Attributes:
        accuracy: share of the labelled images whose class is the most probable one.
        truth: mean probability of the right class.
        surest: mean probability of the most probable class, over all images.
    """

    accuracy: float | None = None
    truth: float | None = None
    surest: float | None = None


def classes_of(labels: Sequence[str | None], classes: Classes | None) -> NDArray[np.int64]:
    """The class that each label names, by a name of it or, where no class is called that, by its number."""
    found = np.full(len(labels), UNKNOWN, np.int64)
    if classes is None:
        return found
    names = {
        name.strip().lower(): index
        for index, all_names in reversed(list(enumerate(classes.labels or ())))
        for name in all_names
    }
    for row, label in enumerate(labels):
        text = "" if label is None else label.strip().lower()
        if text in names:
            found[row] = names[text]
        elif text.isdecimal() and int(text) < classes.count:
            found[row] = int(text)
    return found


def score(probabilities: NDArray[np.float64] | None, truth: NDArray[np.int64]) -> Score:
    """What the probabilities (images x classes) say of the images whose class is known."""
    if probabilities is None:
        return Score()
    surest = float(probabilities.max(axis=1).mean())
    known = np.flatnonzero(truth != UNKNOWN)
    if not len(known):
        return Score(surest=surest)
    right = probabilities[known].argmax(axis=1) == truth[known]
    return Score(float(right.mean()), float(probabilities[known, truth[known]].mean()), surest)
