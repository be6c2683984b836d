"""What is known of the images on a map: names, labels, predictions, and what the colours stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ParameterError, nearest
from convlens.recording.maps.projections import codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording

CHANNEL = "channel:"


@dataclass(frozen=True)
class Known:
    """What a recording says of some of its images, in their order.

    Attributes:
        names: of the images.
        labels: what the data set calls each, None where it does not say.
        classes: index of the predicted class, None where there is none.
        predictions: its name.
        probabilities: its probability, NaN where there is none.
        values: what else the data set says of each.
    """

    names: list[str]
    labels: list[str | None]
    classes: list[int | None]
    predictions: list[str | None]
    probabilities: NDArray[np.float64]
    values: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, recording: Recording, model: Model, numbers: Sequence[int]) -> Known:
        """What is known of images ``numbers``."""
        at, told = np.asarray(numbers, np.int64), recording.images
        classes = [None if one is None else int(one) for one in told["class"][at]]
        predictions = [None if one is None else prediction(model, one) for one in classes]
        probabilities = np.array([np.nan if p is None else p for p in told["probability"][at]], np.float64)
        values = {name: column[at] for name, column in recording.values.items()}
        names, labels = told["name"][at].tolist(), told["label"][at].tolist()
        return cls(names, labels, classes, predictions, probabilities, values)

    def groups(self) -> tuple[str, list[str | None]]:
        """What classes images are of: by ``label``, else by ``prediction``, else by nothing."""
        if any(one is not None for one in self.labels):
            return "label", self.labels
        if any(one is not None for one in self.predictions):
            return "prediction", self.predictions
        return "", [None] * len(self.names)

    def points(self) -> list[dict[str, Any]]:
        """A mapping an image: name, label, class, prediction and probability, as plain data."""
        return [
            {
                "name": self.names[i],
                "label": self.labels[i],
                "class": self.classes[i],
                "prediction": self.predictions[i],
                "probability": float(p) if np.isfinite(p := self.probabilities[i]) else None,
            }
            for i in range(len(self.names))
        ]


def prediction(model: Model, index: int) -> str:
    """The name of a class as labels of data sets have it: without names its number."""
    classes = model.classes
    return classes.label(index) if classes is not None and classes.labels is not None else str(index)


@dataclass(frozen=True)
class Colour:
    """What the colours of points stand for.

    Attributes:
        by: ``label``, ``prediction``, ``right``, ``probability``, ``channel:12`` or the name of a value.
        title: the same for people.
        number: one number a point, NaN or -1 where nothing is known.
        names: of classes, which the numbers count; None where they are numbers of their own.
        unit: of the numbers.
    """

    by: str
    title: str
    number: NDArray[np.float64]
    names: list[str] | None
    unit: str

    def hint(self) -> dict[str, Any]:
        """As plain data, for drawing."""
        return {"by": self.by, "title": self.title, "names": self.names, "unit": self.unit}


def colour_of(given: str | None, known: Known, vectors: NDArray[Any], layer: str) -> Colour | None:
    """The colours that were asked for; where nothing was, labels, else predictions, else None.

    Args:
        given: as :attr:`Colour.by` has it.
        known: what is known of the points.
        vectors: their feature vectors.
        layer: where those come from.

    Raises:
        ParameterError: nothing of that name is known.
    """
    by = given or known.groups()[0]
    if not by:
        return None
    if by in ("label", "prediction"):
        texts = known.labels if by == "label" else known.predictions
        if all(one is None for one in texts):
            whose = "the data set has no labels" if by == "label" else "the model has no class scores"
            raise ParameterError(f"colour is {by!r}, but {whose}; take {_others(known, vectors, by)}")
        return _classes(by, texts)
    if by == "right":
        return _right(known, vectors)
    if by == "probability" and np.isfinite(known.probabilities).any():
        text = "probability of the predicted class"
        return Colour(by, text, known.probabilities, None, "probability")
    if by.startswith(CHANNEL) and by.removeprefix(CHANNEL).isdecimal():
        channel = int(by.removeprefix(CHANNEL))
        if channel < vectors.shape[1]:
            own = vectors[:, channel].astype(np.float64)
            return Colour(by, f"channel {channel} of {layer}", own, None, "activation, mean over places")
    if by in known.values:
        column = known.values[by]
        if column.dtype.kind == "f":
            return Colour(by, by, column, None, by)
        return _classes(by, column.tolist())
    raise ParameterError(
        f"colour is {by!r}{nearest(by, known.values)}; expected {_others(known, vectors, '')}"
    )


def _classes(by: str, texts: Sequence[Any]) -> Colour:
    number, names = codes(texts)
    return Colour(by, by, number.astype(np.float64), names, f"index of the {by}")


def _right(known: Known, vectors: NDArray[Any]) -> Colour:
    pairs = list(zip(known.labels, known.predictions, strict=True))
    if not {one for one, _ in pairs} & {other for _, other in pairs} - {None}:
        raise ParameterError(
            "colour is 'right', but no label is the name of a class that the model predicts; "
            f"take {_others(known, vectors, 'right')}"
        )
    number = [-1.0 if None in pair else float(pair[0] == pair[1]) for pair in pairs]
    names = ["prediction differs from the label", "prediction is the label"]
    return Colour("right", "prediction", np.array(number), names, "1 where the prediction is the label")


def _others(known: Known, vectors: NDArray[Any], but: str) -> str:
    """What colours there are."""
    found = [f"{CHANNEL}0 to {CHANNEL}{vectors.shape[1] - 1}", *known.values]
    if any(one is not None for one in known.predictions):
        found = ["prediction", "probability", *found]
    if any(one is not None for one in known.labels):
        found = ["label", *found]
    return ", ".join(one for one in found if one != but)
