"""What is read of a model that onnxruntime runs on altered copies of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.targets import Target

Values: TypeAlias = "Mapping[str, NDArray[Any]]"
Feeds: TypeAlias = "Callable[[int], Iterable[Mapping[str, NDArray[Any]]]]"
"""Inputs by name, batch by batch, as a function of the batch size."""


@dataclass(frozen=True)
class Reading:
    """One number a copy: for a class its probability, else the target's score.

    Attributes:
        names: the ONNX values that it takes.
        read: from those values, and others beside them, to one number a row, float64.
        unit: ``probability`` or ``score``.
        alone: whether rows of the values count what was found on one image, and not images.
    """

    names: tuple[str, ...]
    read: Callable[[Values], NDArray[np.float64]]
    unit: str
    alone: bool = False


def reading(model: Model, target: Target, raw: bool = False) -> Reading:
    """How ``target`` is read, on copies of one image (see :meth:`Target.of`).

    With ``raw`` a class is read as what precedes its probability, too.
    """
    classes = model.classes
    if target.kind in ("class", "predicted") and classes is not None and not raw:
        name, index = classes.name, target.index

        def probability(values: Values) -> NDArray[np.float64]:
            return np.asarray(classes.probabilities(values[name])[:, index], dtype=np.float64)

        return Reading((name,), probability, "probability")
    names = tuple(target.needs(model.graph.outputs))

    def score(values: Values) -> NDArray[np.float64]:
        own = {name: values[name] for name in names}  # a callable gets all that it is given
        return np.asarray(target.score(own), dtype=np.float64)

    return Reading(names, score, "score", target.alone)


def whole(
    model: Model, image: NDArray[Any], names: Iterable[str], alone: bool = False
) -> dict[str, NDArray[Any]]:
    """The values of one image as it is, in one forward.

    Args:
        model: the model.
        image: one input, with a batch axis of 1.
        names: ONNX values.
        alone: as :attr:`Reading.alone`.

    Raises:
        TargetError: a value has not one row an input.
    """
    found = model.runner.run({model.source.name: image}, list(dict.fromkeys(names)))
    for name, value in found.items():
        check_rows(name, value.shape, 1, alone)
    return found


def scores(model: Model, own: Reading, batches: Feeds, size: int) -> Iterator[NDArray[np.float64]]:
    """What :class:`Reading` gives for feeds that are made batch by batch."""
    for values in model.runner.stream(batches(size), list(own.names)):
        yield own.read(values)
