"""Parts cut out of inputs, all of one size whether or not they reach over the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.errors import CardError

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.registry import Images


def cut(
    array: NDArray[Any], axes: Sequence[int], spans: Sequence[tuple[int, int]], fill: float
) -> NDArray[Any]:
    """A copy of a part of an array, with ``fill`` where it reaches over the edge.

    Args:
        array: what is cut.
        axes: along which.
        spans: first place and first place after along each, also below 0 and above the axis' length.
        fill: what stands outside.
    """
    inside: list[slice] = [slice(None)] * array.ndim
    around = [(0, 0)] * array.ndim
    for axis, (first, after) in zip(axes, spans, strict=True):
        inside[axis] = slice(max(0, first), max(0, after))
        around[axis] = max(0, -first), max(0, after - array.shape[axis])
    return np.pad(array[tuple(inside)], around, constant_values=fill)


def spans(corners: NDArray[np.int64], axes: int) -> list[tuple[int, int]]:
    """First place and first place after along each axis, from corners as ``units.framed`` writes them."""
    half = len(corners) // 2
    first, after = corners[half - axes : half].tolist(), corners[2 * half - axes :].tolist()
    return list(zip(first, after, strict=True))


def stacked(
    parts: Mapping[tuple[int, int], NDArray[Any]], shape: tuple[int, ...], fill: float
) -> NDArray[Any]:
    """Parts as one array, ``shape`` x that of the largest; ``fill`` where there is nothing.

    Parts of inputs of different lengths, of which a unit sees everything, are filled up at their ends.
    """
    sizes = [part.shape for part in parts.values()] or [(1,)]
    dtype = next((part.dtype for part in parts.values()), np.dtype(np.float32))
    found = np.full((*shape, *np.max(sizes, axis=0)), fill, dtype)
    for at, part in parts.items():
        found[at][tuple(map(slice, part.shape))] = part
    return found


def looks(model: Model, batch: Images) -> NDArray[Any]:
    """A batch as people look at it: photos as height x width x colours of 8 bits, all else as it is.

    Arrays for a model of photos go back to pixels by its card; where it has none, each from its own
    smallest number to its largest.
    """
    if not model.source.image:
        return batch.array
    if batch.views is not None:
        return batch.views
    array = batch.array.astype(np.float64)
    try:
        known = model.preprocess
    except CardError:
        axes = tuple(range(1, array.ndim))
        low, high = (edge(array, axis=axes, keepdims=True) for edge in (np.min, np.max))
        share = np.divide(array - low, high - low, out=np.zeros_like(array), where=high > low)
        last = _last(share, model.source.layout)
    else:
        last = _last(array, known.layout) * np.asarray(known.std) + np.asarray(known.mean)
        last = (last - known.low) / (known.high - known.low)
    last = last[..., ::-1] if model.colours == "BGR" else last
    return np.asarray(np.rint(np.clip(last, 0, 1) * 255), np.uint8)


def _last(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """Channels last."""
    if layout == "NHW":
        return array[..., None]
    return np.moveaxis(array, 1, -1) if layout == "NCHW" else array
