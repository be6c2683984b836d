"""Images of a data set read again in groups: their pixels as vectors, and small pictures of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlens.errors import CardError, ImageError
from convlens.pictures.colour import positive
from convlens.pictures.scenes import scene
from convlens.shown import info

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.registry import Images

GROUP = 64
"""Images that are held at once."""

PIXELS = 64 * 64 * 3
"""Numbers that are kept of one input where all are held at once; larger ones are averaged."""

SMALL = frozenset({"photo", "image", "board", "spectrogram"})
"""Kinds of which something can be seen in a small picture."""


def groups(
    recording: Recording, model: Model, numbers: Sequence[int], size: int = GROUP
) -> Iterator[tuple[Sequence[int], Images]]:
    """Images of a data set in their order, not many at once; each group has one size.

    Args:
        recording: of the data set.
        model: the model that was recorded.
        numbers: of the images.
        size: images in a group.

    Raises:
        UsageError: the data set is gone or changed.
        ImageError: an image cannot be read.
    """
    for start in range(0, len(numbers), size):
        own = [int(number) for number in numbers[start : start + size]]
        try:
            yield own, recording.batch(model, own)
        except ValueError:  # numpy: they differ in size
            for number in own:
                yield [number], recording.batch(model, [number])


def pixels(images: Images, views: bool = True) -> NDArray[np.float32]:
    """Each input as one vector: of photos the pixels that the model sees, 0 to 1, else what goes in.

    Args:
        images: the inputs.
        views: False takes what goes in of photos too.
    """
    if views and images.views is not None:
        return np.asarray(images.views.reshape(len(images), -1) / np.float32(255), np.float32)
    return np.asarray(images.array.reshape(len(images), -1), np.float32)


def unit(views: bool) -> str:
    """What the numbers of :func:`pixels` are."""
    return "pixel values from 0 to 1" if views else "numbers as the model takes them"


def fewer(images: Images, axes: Sequence[int], most: int = PIXELS) -> tuple[NDArray[np.float32], int]:
    """:func:`pixels` of inputs averaged over squares until they hold at most ``most`` numbers.

    Args:
        images: the inputs.
        axes: the spatial axes of their arrays.
        most: numbers of one input.

    Returns:
        The vectors, and the side of the squares.
    """
    views = images.views
    whole = images.array if views is None else views
    along = tuple(axes) if views is None else (1, 2)
    size = int(np.prod(whole.shape[1:]))
    side = 1
    while size > most and side < max((whole.shape[axis] for axis in along), default=1):
        side += 1
        lengths = [-(-dim // side) if axis in along else dim for axis, dim in enumerate(whole.shape)]
        size = int(np.prod(lengths[1:]))
    found = whole.astype(np.float32)
    if side > 1:
        for axis in along:
            found = _averaged(found, axis, side)
    if views is not None:
        found /= 255
    return found.reshape(len(found), -1), side


def _averaged(array: NDArray[np.float32], axis: int, side: int) -> NDArray[np.float32]:
    """Means of ``side`` neighbours along an axis; the last may be of fewer."""
    starts = np.arange(0, array.shape[axis], side)
    counts = np.diff(np.append(starts, array.shape[axis])).astype(np.float32)
    shape = [-1 if one == axis else 1 for one in range(array.ndim)]
    return np.asarray(np.add.reduceat(array, starts, axis=axis) / counts.reshape(shape), np.float32)


def one_hot(tokens: NDArray[Any], most: int) -> NDArray[np.float32] | None:
    """Token sequences, N x length, as vectors whose distance counts the places that differ.

    Half the squared distance of two vectors is that count. None where all together are more than ``most``
    numbers.
    """
    columns = []
    total = 0
    for place in tokens.reshape(len(tokens), -1).T:
        known = np.unique(place)
        total += len(known) * len(place)
        if total > most:
            return None
        columns.append((place[:, None] == known).astype(np.float32))
    return np.concatenate(columns, axis=1)


def thumbnails(model: Model, images: Images, side: int) -> NDArray[np.uint8] | None:
    """Small pictures, N x height x width x 3, the longer side at most ``side``; None where none say anything.

    Photos are as the model sees them, boards and planes as they are drawn elsewhere.
    """
    if model.source.kind not in SMALL:
        return None
    return np.stack([_reduced(picture, side) for picture in _drawn(model, images)])


def _drawn(model: Model, images: Images) -> Iterator[Image.Image]:
    if model.source.image:
        for view in images.views if images.views is not None else seen_in(model, images.array):
            yield Image.fromarray(view.repeat(3, axis=2) if view.shape[2] == 1 else view[..., :3])
        return
    about, scale = info(model.source), positive(np.ones(1), "").pale()
    for array in images.array:
        shape = [array.shape[axis - 1] for axis in model.source.spatial]
        yield scene(about, np.zeros(shape), array, scale, small=True)


def seen_in(model: Model, array: NDArray[Any]) -> NDArray[np.uint8]:
    """What photos that came as arrays look like: N x height x width x channels, 8 bits.

    By the card where it says how pixels go in, else each from its least to its largest number.
    """
    found = np.asarray(array, np.float64)
    if model.source.channel < 0:
        found = found[..., None]
    elif model.source.channel == 1:
        found = np.moveaxis(found, 1, -1)
    try:
        told = model.preprocess
        found = found * np.asarray(told.std) + np.asarray(told.mean)
        low, high = told.low, told.high
    except (CardError, ImageError):
        low, high = 0.0, 1.0
        axes = (1, 2, 3)
        least = found.min(axis=axes, keepdims=True)
        spread = found.max(axis=axes, keepdims=True) - least
        found = (found - least) / np.where(spread > 0, spread, 1.0)
    found = np.clip(np.rint((found - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return np.asarray(found[..., ::-1] if model.colours == "BGR" else found)


def _reduced(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    scale = min(1.0, side / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGB"), np.uint8)
