"""What people pass as images, as one batch that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.errors import ImageError, UsageError
from convlens.graph.source import Source
from convlens.images import expand, flatten, read_image
from convlens.preprocess import Preprocess
from convlens.registry import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Inputs: TypeAlias = (
    "Images | NDArray[Any] | str | PathLike[str] | Image.Image | Sequence[str | PathLike[str] | Image.Image]"
)


def batch(given: Inputs, source: Source, prepare: Callable[[], Preprocess]) -> Images:
    """A batch, from arrays as the model takes them, or from photos through the card.

    Args:
        given: an array (images along the first axis), a path or PIL image, or several.
        source: the input that they are for.
        prepare: gives the way from photo to array; only called for photos.

    Raises:
        CardError: photos were given and the card does not say how they go in.
        UsageError: an array of the wrong shape, or nothing at all.
        ImageError: a photo cannot be decoded.
    """
    if isinstance(given, Images):
        return given
    if isinstance(given, np.ndarray) or type(given).__module__.startswith("torch"):
        return _from_array(np.asarray(given), source)
    items: list[Any] = [given] if isinstance(given, (str, PathLike)) else []
    if not items:
        items = list(given) if isinstance(given, Iterable) else [given]
    if not items:
        raise UsageError("no images given; expected at least one")
    pictures: list[tuple[str, Image.Image]] = []
    for number, item in enumerate(items):
        if isinstance(item, (str, PathLike)):
            pictures += [(p.name, read_image(p)) for p in expand([fspath(item)])]
        else:
            pictures.append((f"image {number}", flatten(item)))
    way = prepare()
    views = np.stack([way.view(picture) for _, picture in pictures])
    return Images(way.array(views), _unique([name for name, _ in pictures]), views)


def readable(paths: Sequence[Path], prepare: Preprocess) -> tuple[Images | None, list[tuple[Path, str]]]:
    """The photos that can be decoded as one batch, and the others with the reason."""
    views, names = [], []
    bad: list[tuple[Path, str]] = []
    for path in paths:
        try:
            views.append(prepare.view(read_image(path)))
            names.append(path.name)
        except ImageError as error:
            bad.append((path, str(error)))
    if not views:
        return None, bad
    stack = np.stack(views)
    return Images(prepare.array(stack), _unique(names), stack), bad


def _from_array(array: NDArray[Any], source: Source) -> Images:
    shape = source.shape or ()
    fits = array.ndim == len(shape) and all(
        axis == 0 or not isinstance(dim, int) or dim == array.shape[axis] for axis, dim in enumerate(shape)
    )
    if not fits or not len(array):
        raise UsageError(
            f"the array has shape {list(array.shape)}; input {source.name!r} takes "
            f"{[dim if dim is not None else '?' for dim in shape]}, images along the first axis"
        )
    if array.dtype.kind not in "f" and source.dtype != array.dtype.name:
        array = array.astype(np.float32)
    return Images(array, tuple(f"input {i}" for i in range(len(array))))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """File names made unique by a number, since they become the names of pictures."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
