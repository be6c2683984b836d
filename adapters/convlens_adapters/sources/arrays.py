"""Numpy files with many inputs along the first axis, and perhaps their labels."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ImageError, UsageError
from convlens.recording.source import Item
from convlens_adapters.sources.numbered import Numbered, from_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from convlens.cards import Card
    from convlens.graph.source import Source as Input

_LABELS = ("y", "label", "labels", "target", "targets")


def open_source(text: str, source: Input, card: Card) -> Numbered | None:
    """``.npy``, or ``.npz`` with one array of inputs and perhaps one of labels (``y``, ``labels``).

    N x height x width (x colours) of 8 bits are photos and go through the card; anything else goes in as it
    is and has the shape that the model takes.

    Raises:
        UsageError: nothing in it fits.
    """
    del card
    path = Path(text)
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        return None
    inputs, labels = _read(path)
    if inputs.ndim == len(source.shape or ()) - 1 and not _photos(inputs, source):
        return None  # one input: a file like any other
    if labels is not None and labels.shape != (len(inputs),):
        raise UsageError(f"{path}: {list(labels.shape)} labels for {len(inputs)} inputs")
    photos = _photos(inputs, source)

    def item(number: int) -> Item:
        label = None if labels is None else str(labels[number])

        def take() -> Image.Image | NDArray[Any]:
            array = np.array(inputs[number])
            if photos:
                return from_pixels(array)
            if not np.isfinite(array).all():
                raise ImageError(f"{path.name}:{number}: holds NaN or infinity; expected finite numbers")
            real = source.dtype is None or "float" in source.dtype
            return array.astype(np.float32) if real and array.dtype.kind != "f" else array

        return Item(f"{path.name}:{number}", label, take)

    return Numbered(str(path), len(inputs), item, [path])


def _photos(inputs: NDArray[Any], source: Input) -> bool:
    tall = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3, 4))
    return source.image and inputs.dtype == np.uint8 and tall


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path}: not numpy arrays that can be read ({error})") from error
    labels = next((arrays.pop(name) for name in _LABELS if name in arrays), None)
    if len(arrays) != 1:
        raise UsageError(
            f"{path}: holds the arrays {', '.join(arrays) or 'none'}; expected one of inputs, and labels as "
            f"one of {', '.join(_LABELS)}"
        )
    return next(iter(arrays.values())), labels
