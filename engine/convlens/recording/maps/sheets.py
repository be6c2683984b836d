"""Many thumbnails in a few pictures, as small as a budget of bytes asks for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 2048
"""Pixels of a sheet at most, so that phones decode it."""

_QUALITIES = (None, 90, 75, 60, 45)  # of WebP, without loss first
_SMALLEST = 12  # pixels below which a thumbnail shows nothing


@dataclass(frozen=True)
class Sheets:
    """Thumbnails beside each other, row by row, sheet after sheet.

    Attributes:
        height: of one thumbnail in pixels.
        width: likewise.
        columns: thumbnails in a row.
        rows: rows in a sheet; the last may have fewer.
        files: the sheets as WebP.
        exact: whether pixels are as they were given.
    """

    height: int
    width: int
    columns: int
    rows: int
    files: tuple[bytes, ...]
    exact: bool


def sheets(thumbnails: NDArray[np.uint8], budget: int) -> Sheets | None:
    """Thumbnails as sheets of no more than about ``budget`` bytes; None where that is too little.

    Args:
        thumbnails: N x height x width x 3.
        budget: bytes of all sheets; kept by losing detail, then by halving the size.
    """
    while min(thumbnails.shape[1:3]) >= 1:
        count, height, width = thumbnails.shape[:3]
        columns, rows = max(1, SIDE // width), max(1, SIDE // height)
        rows = min(rows, ceil(count / columns))
        for quality in _QUALITIES:
            files = _encoded(thumbnails, columns, rows, quality, budget)
            if files is not None:
                return Sheets(height, width, columns, rows, tuple(files), quality is None)
        if min(height, width) // 2 < _SMALLEST:
            return None
        thumbnails = halved(thumbnails)
    return None


def halved(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half as high and wide, the mean of four pixels each; an odd last row or column is left out."""
    count, height, width = (size // part for size, part in zip(thumbnails.shape[:3], (1, 2, 2), strict=True))
    own = thumbnails[:, : 2 * height, : 2 * width].reshape(count, height, 2, width, 2, 3)
    return np.asarray(np.rint(own.mean(axis=(2, 4), dtype=np.float32)), np.uint8)


def _encoded(
    thumbnails: NDArray[np.uint8], columns: int, rows: int, quality: int | None, budget: int
) -> list[bytes] | None:
    """All sheets, None as soon as the first ones show that they will be too many bytes."""
    settings: dict[str, Any] = {"lossless": True, "method": 2} if quality is None else {"quality": quality}
    files, done, size = [], 0, 0
    for sheet, held in _laid(thumbnails, columns, rows):
        out = io.BytesIO()
        Image.fromarray(sheet).save(out, "WEBP", **settings)
        files.append(out.getvalue())
        done, size = done + held, size + len(files[-1])
        if size * len(thumbnails) > budget * done:
            return None
    return files


def _laid(thumbnails: NDArray[np.uint8], columns: int, rows: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Sheets as pixels, and how many thumbnails each holds."""
    height, width = thumbnails.shape[1:3]
    for first in range(0, len(thumbnails), columns * rows):
        own = thumbnails[first : first + columns * rows]
        used = ceil(len(own) / columns)
        sheet = np.zeros((used * columns, height, width, 3), np.uint8)
        sheet[: len(own)] = own
        laid = sheet.reshape(used, columns, height, width, 3).swapaxes(1, 2)
        yield np.ascontiguousarray(laid.reshape(used * height, columns * width, 3)), len(own)
