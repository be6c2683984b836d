"""What people pass as images, as one batch that a model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.cards import Card
from convlens.errors import CardError, ImageError, UsageError
from convlens.files import RAW, finite, read_arrays, taken
from convlens.graph.source import KINDS, Source
from convlens.images import expand, flatten, read_image
from convlens.preprocess import Preprocess
from convlens.registry import Images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

Inputs: TypeAlias = (
    "Images | NDArray[Any] | str | PathLike[str] | Image.Image | Sequence[str | PathLike[str] | Image.Image]"
)

NOUNS = {
    "photo": "photo",
    "image": "image",
    "spectrogram": "spectrogram",
    "signal": "signal",
    "video": "video",
    "volume": "volume",
    "board": "board",
    "tokens": "text",
    "vector": "input",
}
"""What one input of each kind is called where they are counted."""


@dataclass
class _Gathered:
    """Inputs read so far: views of photos through the card, arrays as the model takes them."""

    names: list[str] = field(default_factory=list)
    views: list[NDArray[np.uint8]] = field(default_factory=list)
    arrays: list[NDArray[Any]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    origins: list[Path | Image.Image] = field(default_factory=list)

    def add(self, path: Path, source: Source, card: Card, prepare: Callable[[], Preprocess]) -> None:
        """What lies at ``path``. Raises ImageError where that cannot be read or does not fit."""
        if path.suffix.lower() in RAW:
            for name, array in read_arrays(path, source, card.input.rate, card.input.pad or 0):
                self._matching(path, array)
                self.names.append(name)
                self.arrays.append(array)
        else:
            self.photo(path.name, read_image(path), path, prepare)

    def photo(
        self, name: str, image: Image.Image, origin: Path | Image.Image, prepare: Callable[[], Preprocess]
    ) -> None:
        """A photo through the card; ``origin`` is where it can be had again."""
        view = prepare().view(image)
        if self.arrays and not self.views:
            raise ImageError(f"{name}: a picture among arrays; give the two apart")
        self.views.append(view)
        self.names.append(name)
        self.sizes.append(image.size)
        self.origins.append(origin)

    def _matching(self, path: Path, array: NDArray[Any]) -> None:
        if self.views:
            raise ImageError(f"{path}: an array among pictures; give the two apart")
        if self.arrays and self.arrays[0].shape != array.shape:
            raise ImageError(
                f"{path}: {list(array.shape)} numbers, the inputs before it have "
                f"{list(self.arrays[0].shape)}; inputs of one size go together"
            )

    def images(self, prepare: Callable[[], Preprocess]) -> Images:
        """All of it as one batch."""
        names = _unique(self.names)
        if self.views:
            views = np.stack(self.views)
            return Images(prepare().array(views), names, views, tuple(self.sizes), tuple(self.origins))
        return Images(np.stack(self.arrays), names)


def batch(
    given: Inputs, source: Source, prepare: Callable[[], Preprocess], card: Card | None = None
) -> Images:
    """A batch, from arrays as the model takes them, or from files through the card.

    Args:
        given: an array (images along the first axis), a path or PIL image, or several.
        source: the input that they are for.
        prepare: gives the way from photo to array; only called for photos.
        card: what else is known of the input: the rate of sound, the token that stands for nothing.

    Raises:
        CardError: photos were given and the card does not say how they go in.
        UsageError: an array of the wrong shape, or nothing at all.
        ImageError: a file cannot be read.
    """
    if isinstance(given, Images):
        return given
    _heeded(source, card or Card())
    if isinstance(given, np.ndarray) or type(given).__module__.startswith("torch"):
        return _from_array(np.asarray(given), source)
    items: list[Any] = [given] if isinstance(given, (str, PathLike)) else []
    if not items:
        items = list(given) if isinstance(given, Iterable) else [given]
    if not items:
        raise UsageError("no images given; expected at least one")
    gathered, card = _Gathered(), card or Card()
    for number, item in enumerate(items):
        if isinstance(item, (str, PathLike)):
            for path in expand([fspath(item)], taken(source)):
                gathered.add(path, source, card, prepare)
        else:
            upright = flatten(item)
            gathered.photo(f"image {number}", upright, upright, prepare)
    return gathered.images(prepare)


def readable(
    paths: Sequence[Path], source: Source, prepare: Callable[[], Preprocess], card: Card | None = None
) -> tuple[Images | None, list[tuple[Path, str]]]:
    """The inputs that can be read as one batch, and the others with the reason."""
    gathered, card = _Gathered(), card or Card()
    _heeded(source, card)
    bad: list[tuple[Path, str]] = []
    if any(path.suffix.lower() not in RAW for path in paths):
        try:
            prepare()
        except ImageError:
            if all(path.suffix.lower() not in RAW for path in paths):
                raise
    for path in paths:
        try:
            gathered.add(path, source, card, prepare)
        except ImageError as error:
            text = str(error)
            bad.append((path, text if text.startswith(str(path)) else f"{path}: {text}"))
    return (gathered.images(prepare) if gathered.names else None), bad


def none_readable(unread: Sequence[tuple[Path, str]]) -> ImageError:
    """The error where not one input can be used: the reason itself for one, the first of several."""
    if len(unread) == 1:
        return ImageError(unread[0][1])
    return ImageError(
        f"none of the {len(unread)} inputs could be used and nothing was written; the first: {unread[0][1]}"
    )


def words(source: Source, prepare: Callable[[], Preprocess], card: Card, photos: bool) -> str:
    """How inputs go into the model, in a few sentences.

    Args:
        source: the input.
        prepare: gives the way from photo to array; only called for photos.
        card: what else is known.
        photos: whether pictures go in; else arrays do, as they are.
    """
    if source.kind == "photo" and photos:
        return prepare().words()
    text = source.words()
    how = f"{text[:1].upper()}{text[1:]} Arrays go in as they are."
    (length,) = source.size if len(source.spatial) == 1 else (None,)
    if source.kind == "signal" and card.input.rate:
        cut = "" if length is None else f", the first {length} samples or zeros after the last"
        how += f" Sound goes in as -1 to 1 at {card.input.rate:g} samples per second{cut}."
    if source.kind == "tokens" and length is not None:
        how += f" Texts are cut after {length} tokens or filled with token {card.input.pad or 0}."
    return how


def _heeded(source: Source, card: Card) -> None:
    """Refuse what is said of pixels where none go in, since nothing would come of it.

    Raises:
        CardError: the card normalises pixels and the input takes no photo.
    """
    said = [name for name in ("mean", "std", "range", "channels") if getattr(card.input, name) is not None]
    if said and source.kind != "photo":
        verb, them = ("is", "it") if len(said) == 1 else ("are", "them")
        raise CardError(
            f"{' and '.join(said)} {verb} for photos, and input {source.name!r} takes {KINDS[source.kind]}, "
            f"which goes in as it is; leave {them} out, or say --kind photo where photos go in"
        )


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
    whole = source.dtype is not None and "float" not in source.dtype
    if whole and array.dtype.name != source.dtype:
        exact = array.astype(source.dtype)
        if array.dtype.kind not in "fiub" or not np.array_equal(exact, array):
            raise UsageError(
                f"the array holds {array.dtype.name} that do not all fit {source.dtype}, which input "
                f"{source.name!r} takes"
            )
        array = exact
    elif not whole and array.dtype.kind != "f":
        array = array.astype(np.float32)
    if not finite(array):
        raise UsageError("the array holds NaN or infinity; expected finite numbers")
    return Images(array, tuple(f"input {i}" for i in range(len(array))))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """File names made unique by a number, since they become the names of pictures."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
