"""Images of a data set that all checkpoints are compared on, held as they were decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlens.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.source import Source

LEAST = 4
"""Images that are needed: how alike two layers tell fewer of them apart says nothing."""


@dataclass(frozen=True)
class Gathered:
    """Images in a fixed order.

    Attributes:
        stored: views of photos (N x height x width x colours, 8 bits), else arrays as the model takes them.
        names: of the images.
        labels: of the images, None where the data set does not say.
        photos: whether they are views.
        unread: names of what could not be read, with the reason.
        count: how many items the data set has.
    """

    stored: NDArray[Any]
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    photos: bool
    count: int
    unread: tuple[tuple[str, str], ...] = field(default=())

    def __len__(self) -> int:
        """How many."""
        return len(self.stored)

    def array(self, model: Model, rows: slice | NDArray[Any]) -> NDArray[Any]:
        """Some of them as the model takes them."""
        part = self.stored[rows]
        return model.preprocess.array(part) if self.photos else part

    def extent(self, model: Model) -> list[int]:
        """Lengths of the input's spatial axes."""
        shape = self.array(model, slice(0, 1)).shape
        return [shape[axis] for axis in model.source.spatial]

    def batches(self, model: Model, size: int) -> Iterator[NDArray[Any]]:
        """All of them, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.array(model, slice(start, start + size))


def gather(model: Model, source: Source, limit: int, seed: int) -> Gathered:
    """At most ``limit`` images of a data set, spread evenly over it.

    Args:
        model: says how photos go in.
        source: the data set.
        limit: one is drawn from each of so many equal parts, so that a data set sorted by class gives all of
            them, and one in which classes take turns as well.
        seed: of the draw.

    Raises:
        ImageError: too few can be read.
        UsageError: there are too few, or they differ in size.
    """
    if len(source) < LEAST:
        raise UsageError(
            f"{source.text}: {len(source)} images; expected {LEAST} or more, better some hundreds"
        )
    stored: list[NDArray[Any]] = []
    names: list[str] = []
    labels: list[str | None] = []
    unread: list[tuple[str, str]] = []
    for number in _spread(len(source), limit, seed):
        (item,) = source.items(number, number + 1)
        try:
            read = item.read()
            found = model.preprocess.view(read) if isinstance(read, Image.Image) else _fitting(model, read)
        except ImageError as error:
            unread.append((item.name, str(error)))
            continue
        if stored and (stored[0].shape, stored[0].dtype) != (found.shape, found.dtype):
            told = f"{list(found.shape)} numbers, the inputs before it have {list(stored[0].shape)}"
            raise UsageError(f"{item.name}: {told}; inputs of one size go together")
        stored.append(found)
        names.append(item.name)
        labels.append(item.label)
    if len(stored) < LEAST:
        told = f"{len(stored)} of {len(stored) + len(unread)} images can be read; expected {LEAST} or more"
        raise ImageError(f"{source.text}: {told}; the last: {unread[-1][1]}" if unread else told)
    photos = stored[0].dtype == np.uint8 and model.source.image
    return Gathered(np.stack(stored), tuple(names), tuple(labels), photos, len(source), tuple(unread))


def _spread(count: int, limit: int, seed: int) -> Sequence[int]:
    if count <= limit:
        return range(count)
    edges = np.linspace(0, count, limit + 1).astype(np.int64)
    found: list[int] = np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()
    return found


def _fitting(model: Model, array: NDArray[Any]) -> NDArray[Any]:
    shape = (model.source.shape or ())[1:]
    fits = array.ndim == len(shape) and all(
        not isinstance(dim, int) or dim == length for dim, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ImageError(f"{list(array.shape)} numbers; the model takes {list(shape)}")
    return array
