"""IDX files, as MNIST and its family come: images in one file, labels in another beside it."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ImageError, UsageError
from convlens.recording.source import Item
from convlens_adapters.sources.numbered import Numbered, from_pixels

if TYPE_CHECKING:
    from convlens.cards import Card
    from convlens.graph.source import Source as Input

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def open_source(text: str, source: Input, card: Card) -> Numbered | None:
    """``...-images-idx3-ubyte`` (or ``.gz``); labels are taken from ``...-labels-idx1-ubyte`` beside it.

    Raises:
        UsageError: it holds no images of 8 bits, or as many labels as it should not.
    """
    del source, card
    path = Path(text)
    if not path.is_file() or not any(mark in path.name for mark in ("-idx", ".idx")):
        return None
    images = read(path)
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise UsageError(f"{path}: holds {list(images.shape)} of {images.dtype}; expected images of 8 bits")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read(beside) if beside != path and beside.is_file() else None
    if labels is not None and labels.shape != (len(images),):
        raise UsageError(f"{beside}: {list(labels.shape)} labels for {len(images)} images")

    def item(number: int) -> Item:
        label = None if labels is None else str(int(labels[number]))
        return Item(f"{path.name}:{number}", label, lambda: from_pixels(images[number]))

    return Numbered(str(path), len(images), item, [path] + [beside] * (labels is not None))


def read(path: Path) -> np.ndarray[Any, Any]:
    """The array in an IDX file, compressed or not.

    Raises:
        ImageError: it is none, or cut short.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        kind, axes = _TYPES[data[2]], data[3]
        shape = np.frombuffer(data, ">u4", axes, 4)
        return np.frombuffer(data, kind, int(np.prod(shape)), 4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, zlib.error, KeyError, IndexError, ValueError) as error:
        raise ImageError(f"{path}: not an IDX file that can be read ({error})") from error
