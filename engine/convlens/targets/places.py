"""Places on the input, as they are typed after ``@``, and the cells of an output that lie there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from convlens.errors import TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import ReceptiveField

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """A place on the input, in pixels of what the model sees.

    Attributes:
        kind: ``all``, ``box``, ``point``, ``segment`` (where the class is the predicted one), ``peak``
            (where it is strongest) or ``number`` (a box of a detector by its index).
        text: as it was typed.
        spans: of a box, first and one after the last along each axis; None for a whole axis.
        point: one number an axis.
        number: which box.
    """

    kind: str
    text: str = ""
    spans: tuple[Span | None, ...] = ()
    point: tuple[int, ...] = ()
    number: int = 0


FORMS = "row,column or first:last,first:last in pixels of the input, segment, peak, or box:NUMBER"


def read_place(text: str, axes: int) -> Place:
    """What was typed after ``@``; nothing at all is the whole picture.

    Args:
        text: see the module's text.
        axes: how many spatial axes the input has.

    Raises:
        TargetError: it is no place, or has another number of axes.
    """
    plain = re.sub(r"\s", "", text)
    if not plain:
        return Place("all")
    if plain in ("segment", "peak"):
        return Place(plain, plain)
    if match := re.fullmatch(r"box:(\d+)", plain):
        return Place("number", plain, number=int(match[1]))
    parts = plain.split(",")
    if all(re.fullmatch(r"\d+", part) for part in parts):
        _check_axes(plain, len(parts), axes)
        return Place("point", plain, point=tuple(map(int, parts)))
    if all(re.fullmatch(r":|\d+:\d+", part) for part in parts):
        _check_axes(plain, len(parts), axes)
        spans: list[Span | None] = []
        for part in parts:
            first, last = part.split(":")
            if part != ":" and int(first) >= int(last):
                raise TargetError(f"@{plain}: nothing lies in {part}; expected first:last with first < last")
            spans.append((int(first), int(last)) if part != ":" else None)
        return Place("box", plain, spans=tuple(spans))
    raise TargetError(f"@{text}: no place; expected {FORMS}")


def _check_axes(text: str, found: int, axes: int) -> None:
    if found != axes:
        raise TargetError(f"@{text}: the input has {axes} spatial axes, found {found} numbers or ranges")


def check_inside(place: Place, extent: Sequence[int]) -> None:
    """Refuse a place that lies outside the input.

    Raises:
        TargetError: a point or a box does.
    """
    ends = place.point or tuple(span[1] - 1 if span else 0 for span in place.spans)
    if any(end >= size for end, size in zip(ends, extent, strict=False)):
        size = " x ".join(map(str, extent))
        raise TargetError(
            f"@{place.text} lies outside the input, which is {size} pixels as the model sees it"
        )


def centres(cells: int, pixels: int, field: ReceptiveField | None, axis: int) -> NDArray[np.float64]:
    """Where on the input the middle of each cell lies, in pixels, along one axis.

    Cells that share the input evenly lie in the middles of their shares. Where convolutions without
    padding cut the border off, they lie in the middles of their receptive fields.
    """
    stride = field.stride[axis] if field is not None else 0
    if field is not None and stride and abs(cells * stride - pixels) >= stride:
        size = field.size[axis]
        if size is not None:
            steps = np.arange(cells, dtype=np.float64) * stride
            found: NDArray[np.float64] = steps + (field.offset[axis] + (size - 1) / 2)
            if found[0] > -0.5 * stride and found[-1] < pixels - 1 + 0.5 * stride:
                return found
    shares: NDArray[np.float64] = (np.arange(cells, dtype=np.float64) + 0.5) * (pixels / cells) - 0.5
    return shares


def cell_at(place: Place, middles: Sequence[NDArray[np.float64]]) -> tuple[int, ...]:
    """The cell whose middle is nearest to a point."""
    pairs = zip(place.point, middles, strict=True)
    return tuple(int(np.abs(middle - at).argmin()) for at, middle in pairs)


def cells_in(place: Place, middles: Sequence[NDArray[np.float64]]) -> tuple[slice, ...]:
    """The cells whose middles lie in a box; the nearest one along an axis where the box is smaller."""
    found = []
    for span, middle in zip(place.spans, middles, strict=True):
        if span is None:
            found.append(slice(None))
            continue
        first, last = span[0] - 0.5, span[1] - 0.5
        hits = np.flatnonzero((middle >= first) & (middle < last))
        if not len(hits):
            hits = np.array([np.abs(middle - (first + last) / 2).argmin()])
        found.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(found)


def connected(mask: NDArray[np.bool_], start: tuple[int, ...]) -> NDArray[np.bool_]:
    """The part of ``mask`` that hangs together with the cell ``start``, by shared sides."""
    ringed = np.pad(mask, 1)  # no neighbour of a cell lies across an edge
    left = ringed.ravel()
    found = np.zeros_like(left)
    steps = [stride // left.itemsize for stride in ringed.strides]
    first = int(np.ravel_multi_index([at + 1 for at in start], ringed.shape))
    open_ = [first] if left[first] else []
    left[first] = False
    while open_:
        cell = open_.pop()
        found[cell] = True
        for step in steps:
            for other in (cell + step, cell - step):
                if left[other]:
                    left[other] = False
                    open_.append(other)
    return found.reshape(ringed.shape)[(slice(1, -1),) * mask.ndim]
