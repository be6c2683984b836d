"""Which images of a data set are nearest to given ones, by the model's features and by their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UsageError
from convlens.recording import again
from convlens.recording.features import features_of
from convlens.recording.nearness.nearest import UNITS, Metric, Nearest, Search, chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.registry import Images

SIDE = 96
"""Longer side of the pictures of neighbours, in pixels."""


@dataclass(frozen=True)
class Near:
    """The nearest images to each of Q queries in one space, the nearest first.

    Attributes:
        space: ``features`` or ``pixels``.
        number: of the images in the data set, Q x k; -1 where there are fewer.
        distance: Q x k.
        unit: of the distances.
    """

    space: str
    number: NDArray[np.int64]
    distance: NDArray[np.float64]
    unit: str


def by_features(
    recording: Recording,
    model: Model,
    images: Images,
    k: int,
    metric: Metric,
    search: Search,
    batch_size: int = 4,
) -> Near:
    """The nearest by feature vectors, read piece by piece.

    Args:
        recording: of the data set.
        model: the model that was recorded.
        images: the queries.
        k: how many for each.
        metric: what distance is.
        search: who searches.
        batch_size: images in one forward.

    Raises:
        UsageError: no vectors were recorded, or those of a query hold no numbers.
    """
    if recording.feature is None:
        raise UsageError(f"{recording.folder}: no feature vectors were recorded")
    queries = features_of(model, recording.feature, images.array, batch_size)
    for name, query in zip(images.names, queries, strict=True):
        if not np.isfinite(query).all():
            raise UsageError(f"{name}: the model's features hold NaN or infinity, so nothing is near")
    found = Nearest(queries, k, metric, search)
    for numbers, vectors in chunks(recording.vectors()):
        found.add(numbers, vectors)
    return Near("features", found.number, found.distance, UNITS[metric])


def by_pixels(
    recording: Recording,
    model: Model,
    images: Images,
    k: int,
    search: Search,
    advance: Callable[[float], None] = lambda _share: None,
) -> tuple[Near, int]:
    """The nearest by what goes in, the data set read again in groups; and how many differ in size.

    Args:
        recording: of the data set.
        model: the model that was recorded.
        images: the queries.
        k: how many for each.
        search: who searches.
        advance: called with the share that is done.

    Raises:
        UsageError: the data set is gone or changed.
        ImageError: an image cannot be read any more.
    """
    metric: Metric = "hamming" if model.source.kind == "tokens" else "l2"
    readable = np.flatnonzero([not reason for reason in recording.images["reason"]])
    found, views, others, done = None, False, 0, 0
    for numbers, group in again.groups(recording, model, readable.tolist()):
        if found is None:
            views = images.views is not None and group.views is not None
            found = Nearest(again.pixels(images, views), k, metric, search)
        done += len(numbers)
        if group.array.shape[1:] != images.array.shape[1:]:
            others += len(numbers)
            continue
        found.add(np.asarray(numbers, np.int64), again.pixels(group, views))
        advance(done / len(readable))
    assert found is not None
    unit = UNITS[metric] + (f" of {again.unit(views)}" if metric == "l2" else "")
    return Near("pixels", found.number, found.distance, unit), others


@dataclass(frozen=True)
class Shown:
    """Images of a data set as they are drawn, by number.

    Attributes:
        pictures: of photos and what is drawn alike, height x width x 3, 8 bits.
        arrays: of everything else what goes in.
        same: for each query the numbers of the images that are the query itself.
    """

    pictures: Mapping[int, NDArray[np.uint8]]
    arrays: Mapping[int, NDArray[Any]]
    same: Sequence[frozenset[int]]


def shown(recording: Recording, model: Model, images: Images, numbers: Sequence[int]) -> Shown:
    """Read images again to draw them, and to tell which of them are the queries ``images`` themselves."""
    pictures: dict[int, NDArray[np.uint8]] = {}
    arrays: dict[int, NDArray[Any]] = {}
    same: list[set[int]] = [set() for _ in images.names]
    for own, group in again.groups(recording, model, numbers):
        small = again.thumbnails(model, group, SIDE) if model.source.image else None
        for index, number in enumerate(own):
            if small is not None:
                pictures[number] = small[index]
            else:
                arrays[number] = group.array[index]
            for query, array in zip(same, images.array, strict=True):
                if np.array_equal(np.asarray(array, group.array.dtype), group.array[index]):
                    query.add(number)
    return Shown(pictures, arrays, [frozenset(one) for one in same])


def gathered(number: NDArray[np.int64], held: Mapping[int, NDArray[Any]]) -> NDArray[Any] | None:
    """What is held of each image of Q x k, in one array; None where they differ in size or there are none."""
    shapes = {array.shape for array in held.values()}
    if len(shapes) != 1:
        return None
    nothing = np.zeros_like(next(iter(held.values())))
    rows = [np.stack([held.get(one, nothing) for one in row]) for row in number.tolist()]
    return np.stack(rows)
