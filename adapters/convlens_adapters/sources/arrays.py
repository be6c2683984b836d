"""Numpy files with many inputs along the first axis, and perhaps their labels and other values."""

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

_INPUTS = ("inputs", "observations", "obs", "images", "states", "x")
_LABELS = ("y", "label", "labels", "target", "targets")


def open_source(text: str, source: Input, card: Card) -> Numbered | None:
    """``.npy``, or ``.npz`` with one array of inputs, perhaps labels, and one number or text an input.

    N x height x width (x colours) of 8 bits are photos and go through the card; anything else goes in as it
    is and has the shape that the model takes. Labels are called ``y`` or ``labels``; every further array of
    length N, such as rewards, is a value to ask for by its name.

    Raises:
        UsageError: nothing in it fits.
    """
    del card
    path = Path(text)
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        return None
    inputs, labels, values = _read(path, source)
    if inputs.ndim == len(source.shape or ()) - 1 and not _photos(inputs, source):
        return None  # one input: a file like any other
    if labels is not None and labels.shape != (len(inputs),):
        raise UsageError(f"{path}: {list(labels.shape)} labels for {len(inputs)} inputs")
    columns = {name: _columned(path, name, array, len(inputs)) for name, array in values.items()}
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

        own = {name: column[number].item() for name, column in columns.items()}
        return Item(f"{path.name}:{number}", label, take, own)

    kinds = {name: "text" if column.dtype.kind == "U" else "number" for name, column in columns.items()}
    return Numbered(str(path), len(inputs), item, [path], columns=kinds)


def _photos(inputs: NDArray[Any], source: Input) -> bool:
    tall = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3, 4))
    return source.image and inputs.dtype == np.uint8 and tall


def _fits(array: NDArray[Any], source: Input) -> bool:
    """Whether an array can be many inputs of the model."""
    shape = source.shape or ()
    same = array.ndim == len(shape) and all(
        not isinstance(dim, int) or dim == length
        for dim, length in zip(shape[1:], array.shape[1:], strict=True)
    )
    return array.dtype.kind in "biuf" and (same or _photos(array, source))


def _read(path: Path, source: Input) -> tuple[NDArray[Any], NDArray[Any] | None, dict[str, NDArray[Any]]]:
    """Inputs, labels, and all other arrays by name."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None, {}
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path}: not numpy arrays that can be read ({error})") from error
    labels = next((arrays.pop(name) for name in _LABELS if name in arrays), None)
    fitting = [name for name in arrays if _fits(arrays[name], source)]
    found = fitting if len(fitting) == 1 else [name for name in _INPUTS if name in (fitting or arrays)][:1]
    found = list(arrays) if len(arrays) == 1 else found
    if not found:
        raise UsageError(
            f"{path}: holds the arrays {', '.join(arrays) or 'none'}; expected one of inputs, of the model's "
            f"shape {list(source.shape or ())} or called {' or '.join(_INPUTS)}, and labels as one of "
            f"{', '.join(_LABELS)}"
        )
    return arrays.pop(found[0]), labels, arrays


def _columned(path: Path, name: str, array: NDArray[Any], count: int) -> NDArray[Any]:
    """One value an input, float64 or text.

    Raises:
        UsageError: it is something else.
    """
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in "biufU":
        raise UsageError(
            f"{path}: the array {name} is {list(array.shape)} of {array.dtype}; expected one number or text "
            f"for each of {count} inputs, or none of that name"
        )
    column = array.reshape(count)
    return column if array.dtype.kind == "U" else column.astype(np.float64)
