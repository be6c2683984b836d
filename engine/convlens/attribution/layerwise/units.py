"""Units of a layer: which of a channel's fire most, where they lie, and what part of the input they see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import LayerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model

_OPEN = 224  # the length that an open axis is taken to have


@dataclass(frozen=True)
class Peaks:
    """The strongest unit of every channel, of each of some inputs: N x channels.

    Attributes:
        value: the unit's activation.
        before: its value before the layer's rectifier; units of equal activation are ranked by it.
        place: its index along the layer's axes other than batch and channels, N x channels x axes.
    """

    value: NDArray[Any]
    before: NDArray[Any]
    place: NDArray[Any]

    def order(self) -> NDArray[Any]:
        """Channels from the strongest to the weakest, N x channels; of equal ones the lower number first."""
        return np.lexsort((-self.before, -self.value), axis=1)


def placed_layer(model: Model, name: str | None) -> Layer:
    """The layer asked for; without one the deepest whose units see less than the whole input.

    Raises:
        LayerError: its units have no place in the input, or no layer's have.
    """
    if name is not None:
        layer = model.layers.find(name)
        if layer.field is None or not layer.spatial_axes:
            raise LayerError(
                f"layer {layer.alias!r} keeps no place for its units; expected one before the dense part"
            )
        return layer
    known = model.layers.placed()
    if not known:
        raise LayerError("the model has no layer whose units have a place in the image")
    size = [s or _OPEN for s in model.source.size]
    partial = [
        layer
        for layer in known
        if layer.field and all(s is not None and s < n for s, n in zip(layer.field.size, size, strict=True))
    ]
    return partial[-1] if partial else known[0]


def before_rectifier(model: Model, layer: Layer) -> Layer:
    """The layer that a rectified one is made of; a layer that is no rectifier's is its own."""
    from convlens.graph.rectifiers import find_rectifiers

    rectifier = find_rectifiers(model.graph).get(layer.name)
    source = model.layers.get(rectifier.source) if rectifier is not None else None
    return source if source is not None and source.spatial_axes == layer.spatial_axes else layer


def layer_peaks(model: Model, array: NDArray[Any], layer: Layer, batch_size: int) -> Peaks:
    """The strongest unit of every channel of a layer, batch by batch.

    Args:
        model: the model.
        array: inputs, images first.
        layer: with a channel axis.
        batch_size: images in one forward; the layer's values are held for that many.
    """
    parts = [peaks(after, before) for after, before in layer_values(model, array, layer, batch_size)]
    columns = zip(*((part.value, part.before, part.place) for part in parts), strict=True)
    return Peaks(*(np.concatenate(column) for column in columns))


def layer_values(
    model: Model, array: NDArray[Any], layer: Layer, batch_size: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """A layer's value and what its rectifier reads, N x channels x the other axes in their order."""
    assert layer.channel_axis is not None
    names = (layer.name, before_rectifier(model, layer).name)
    starts = range(0, len(array), batch_size)
    batches = ({model.source.name: array[start : start + batch_size]} for start in starts)
    for values in model.runner.stream(batches, list(dict.fromkeys(names))):
        after, before = (np.moveaxis(values[name], layer.channel_axis, 1) for name in names)
        yield after, before


def peaks(after: NDArray[Any], before: NDArray[Any]) -> Peaks:
    """The strongest units of a layer's value, and of the value that its rectifier reads, channels first."""
    space = after.shape[2:]
    after, before = (value.reshape(*value.shape[:2], -1) for value in (after, before))
    strongest = after.max(axis=2, keepdims=True)
    tied = np.where(after == strongest, before, -np.inf)
    place = np.stack(np.unravel_index(tied.argmax(axis=2), space), axis=-1)
    return Peaks(strongest[..., 0], tied.max(axis=2), place)


def several_peaks(
    after: NDArray[Any], before: NDArray[Any], count: int, reach: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The ``count`` strongest units of every channel of one input that lie apart.

    Args:
        after: the layer's value, channels x its other axes.
        before: the value that its rectifier reads.
        count: how many.
        reach: units nearer than that along every axis count as one.

    Returns:
        Activation, value before the rectifier (both ``-inf`` where there are not so many) and place, of
        channels x count.
    """
    left = after.astype(np.float64)
    value = np.full((len(after), count), -np.inf)
    drive, place = value.copy(), np.zeros((*value.shape, after.ndim - 1), np.int64)
    for number in range(count):
        found = peaks(left[None], before[None])
        value[:, number], drive[:, number], place[:, number] = found.value[0], found.before[0], found.place[0]
        for channel, at in enumerate(found.place[0].tolist()):
            near = tuple(slice(max(0, i - r + 1), i + r) for i, r in zip(at, reach, strict=True))
            left[channel][near] = -np.inf
    drive[np.isneginf(value)] = -np.inf
    return value, drive, place


def unit_rows(layer: Layer, channel: NDArray[Any], place: NDArray[Any]) -> NDArray[Any]:
    """Channels and places as indices along the layer's axes after the batch, units x (rank - 1).

    Args:
        layer: where they lie.
        channel: of each unit, in any shape.
        place: of each unit, with one axis more, as :class:`Peaks` counts.
    """
    columns = np.concatenate([channel[..., None], place], axis=-1).reshape(channel.size, -1)
    rest = iter(range(1, columns.shape[1]))
    order = [0 if axis == layer.channel_axis else next(rest) for axis in range(1, columns.shape[1] + 1)]
    return np.asarray(columns[:, order])


def seen(layer: Layer, place: Sequence[int], extent: Sequence[int]) -> list[int]:
    """The part of the input that a unit sees: where it starts along each axis, then where it ends.

    All of the input where that is not known. A signal has a first axis of one number, so that there
    are four numbers at least, as of a picture: top, left, bottom, right.

    Args:
        layer: where the unit lies.
        place: its index along every axis of the layer but batch and channels, also one that an exporter
            put in.
        extent: lengths of the input's spatial axes.
    """
    spans: tuple[tuple[int, int], ...] = tuple((0, size) for size in extent)
    if layer.field is not None and len(layer.spatial_axes) == len(extent):
        spans = layer.field.box(_along(layer, place), extent)
    return _corners(spans)


def framed(layer: Layer, place: Sequence[int], extent: Sequence[int]) -> list[int]:
    """As :func:`seen`, but not cut where it reaches over the input's edge.

    So it is equally large for all units of a layer, with the unit in the middle. Along an axis of which
    a unit sees as much as there is, or more, it is all of the input.
    """
    spans = [(0, size) for size in extent]
    if layer.field is not None and len(layer.spatial_axes) == len(extent):
        for axis, position in enumerate(_along(layer, place)):
            size = layer.field.size[axis]
            if size is not None and size < extent[axis]:
                first = int(layer.field.offset[axis] + position * layer.field.stride[axis])
                spans[axis] = first, first + size
    return _corners(spans)


def _along(layer: Layer, place: Sequence[int]) -> list[int]:
    """A unit's index along the layer's spatial axes."""
    rest = [axis for axis in range(1, len(place) + 2) if axis != layer.channel_axis]
    return [int(place[rest.index(axis)]) for axis in layer.spatial_axes]


def _corners(spans: Sequence[tuple[int, int]]) -> list[int]:
    spans = [(0, 1), *spans] if len(spans) == 1 else spans
    return [*(first for first, _ in spans), *(after for _, after in spans)]
