"""All images through one checkpoint: Gram matrices, strongest units and class scores in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.layerwise.units import Peaks, before_rectifier, peaks
from convlens.errors import UnsupportedError
from convlens.evolution.alike import Gram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.evolution.gathered import Gathered
    from convlens.graph.layers import Layer
    from convlens.model import Model

_HELD = 1 << 26
"""Features that are held at once, all images together: 256 MB. Of larger layers one part after the other is
computed again, since a Gram matrix needs each feature of all images."""

_COLUMNS = 1 << 12  # features that are brought to float64 at once


@dataclass(frozen=True)
class Passed:
    """What one checkpoint made of the images.

    Attributes:
        grams: of the layers that are compared.
        peaks: of the layers whose channels are followed.
        probabilities: of the classes, images x classes; None where the model has none.
    """

    grams: list[Gram]
    peaks: list[Peaks]
    probabilities: NDArray[np.float64] | None


@dataclass(frozen=True)
class _Part:
    """Features of one layer: its number and which of the flattened ones."""

    layer: int
    start: int
    stop: int


def passed(
    model: Model,
    images: Gathered,
    compared: Sequence[Layer],
    followed: Sequence[Layer],
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
    held: int = _HELD,
) -> Passed:
    """Run the images through a checkpoint.

    Args:
        model: the checkpoint.
        images: what goes in.
        compared: layers of which Gram matrices are made.
        followed: layers whose channels are followed.
        batch_size: images in one forward.
        advance: called with the share that is done.
        held: features that are held at once, all images together; the result does not depend on it.

    Raises:
        UnsupportedError: onnxruntime does not run the model, or a layer does not count images first.
    """
    passes = _passes(_widths(model, images, compared), max(1, held // len(images)))
    grams = [Gram(len(images)) for _ in compared]
    found: tuple[list[Peaks], Any] = ([], None)
    for number, parts in enumerate(passes or [[]]):
        blocks = [np.empty((len(images), part.stop - part.start), np.float32) for part in parts]
        more = _Watched(model, followed if number == 0 else (), number == 0)
        names = list(dict.fromkeys([*(compared[part.layer].name for part in parts), *more.names()]))
        row = 0
        for array in images.batches(model, batch_size):
            values = model.runner.run({model.source.name: array}, names, batch_size)
            for part, block in zip(parts, blocks, strict=True):
                flat = _rows(values[compared[part.layer].name], len(array), compared[part.layer])
                block[row : row + len(array)] = flat[:, part.start : part.stop]
            more.add(values)
            row += len(array)
            advance((number + row / len(images)) / max(1, len(passes)))
        for part, block in zip(parts, blocks, strict=True):
            for start in range(0, block.shape[1], _COLUMNS):
                grams[part.layer].add(block[:, start : start + _COLUMNS])
        if number == 0:
            found = more.found()
    return Passed(grams, *found)


class _Watched:
    """What is kept of each batch beside features."""

    def __init__(self, model: Model, layers: Sequence[Layer], scores: bool) -> None:
        self._layers = [(layer, before_rectifier(model, layer)) for layer in layers]
        self._classes = model.classes if scores else None
        self._peaks: list[list[Peaks]] = [[] for _ in layers]
        self._scores: list[NDArray[np.float64]] = []

    def names(self) -> list[str]:
        own = [self._classes.name] if self._classes is not None else []
        return own + [layer.name for pair in self._layers for layer in pair]

    def add(self, values: dict[str, NDArray[Any]]) -> None:
        for kept, (layer, before) in zip(self._peaks, self._layers, strict=True):
            kept.append(_peaks(values[layer.name], values[before.name], layer))
        if self._classes is not None:
            self._scores.append(self._classes.probabilities(values[self._classes.name]))

    def found(self) -> tuple[list[Peaks], NDArray[np.float64] | None]:
        """Of all batches."""
        joined = [
            Peaks(
                *(
                    np.concatenate([getattr(one, name) for one in kept])
                    for name in ("value", "before", "place")
                )
            )
            for kept in self._peaks
        ]
        return joined, np.concatenate(self._scores) if self._scores else None


def _peaks(after: NDArray[Any], before: NDArray[Any], layer: Layer) -> Peaks:
    assert layer.channel_axis is not None
    after, before = (
        np.moveaxis(value, layer.channel_axis, 1).astype(np.float64) for value in (after, before)
    )
    if after.ndim > 2:
        return peaks(after, before)
    found = peaks(
        after[..., None], before[..., None]
    )  # of a dense layer: one unit a channel, without a place
    return Peaks(found.value, found.before, found.place[..., :0])


def _widths(model: Model, images: Gathered, layers: Sequence[Layer]) -> list[int]:
    """Features of one image in each layer."""
    array = images.array(model, slice(0, 1))
    values = model.runner.run({model.source.name: array}, [layer.name for layer in layers], 1)
    return [_rows(values[layer.name], 1, layer).shape[1] for layer in layers]


def _rows(value: NDArray[Any], count: int, layer: Layer) -> NDArray[Any]:
    if not value.ndim or len(value) != count:
        raise UnsupportedError(
            f"layer {layer.alias!r} is {list(value.shape)} for {count} images: its first axis does not count "
            "them; choose others with --layer"
        )
    return value.reshape(count, -1)


def _passes(widths: Sequence[int], room: int) -> list[list[_Part]]:
    """Which features are computed together, so that no more than ``room`` of an image are held at once."""
    found: list[list[_Part]] = []
    left = 0
    for layer, width in enumerate(widths):
        start = 0
        while start < width:
            if not left:
                found.append([])
                left = room
            stop = min(width, start + left)
            found[-1].append(_Part(layer, start, stop))
            left -= stop - start
            start = stop
    return found
