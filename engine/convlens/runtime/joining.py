"""What several forwards gave, put together along the first axis."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.errors import UnsupportedError


def cut(
    found: Mapping[str, NDArray[Any]], kept: int, rows: int, constants: Container[str]
) -> dict[str, NDArray[Any]]:
    """The first ``kept`` of ``rows`` images; ``constants`` stay whole.

    Raises:
        UnsupportedError: the first axis of a value does not count images.
    """
    out = {}
    for name, array in found.items():
        if name in constants:
            out[name] = array
            continue
        if array.ndim == 0 or len(array) != rows:
            raise UnsupportedError(
                f"value {name!r} has shape {list(array.shape)} for {rows} image{'s' * (rows > 1)}: its "
                "first axis does not count images, so what several forwards give cannot be joined; "
                "give one image at a time"
            )
        out[name] = array[:kept]
    return out


def joined(
    parts: Sequence[Mapping[str, NDArray[Any]]], names: Sequence[str], constants: Container[str]
) -> dict[str, NDArray[Any]]:
    """What several forwards gave, images along the first axis.

    Raises:
        UnsupportedError: a value differs in shape from forward to forward.
    """
    if len(parts) == 1:
        return dict(parts[0])
    out = {}
    for name in names:
        arrays = [part[name] for part in parts]
        if name in constants:
            out[name] = arrays[0]
            continue
        shapes = list(dict.fromkeys(array.shape[1:] if array.ndim else None for array in arrays))
        if None in shapes or len(shapes) > 1:
            told = " and ".join(str(list(array.shape)) for array in (arrays[0], arrays[-1]))
            raise UnsupportedError(
                f"value {name!r} differs in shape from image to image ({told}) and cannot be joined; "
                "give one image at a time"
            )
        out[name] = np.concatenate(arrays)
    return out
