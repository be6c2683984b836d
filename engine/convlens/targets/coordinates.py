"""How the four numbers of a box are to be read: told from the numbers of actual outputs, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convlens.errors import TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW = 20  # boxes from which on "none is wrong" is evidence
_NONE, _MANY = 0.0, 0.02  # shares of boxes that may, and must, be impossible in a reading
_NORMAL = 1.5  # largest coordinate of boxes in shares of the picture; some reach over its edge


@dataclass(frozen=True)
class Reading:
    """How boxes are written.

    Attributes:
        order: ``corners`` (left, upper, right, lower), ``rows first`` (upper, left, lower, right) or
            ``centres`` (middle column, middle row, width, height).
        normal: whether they are shares of the picture and not pixels.
    """

    order: str
    normal: bool

    def words(self) -> str:
        """For people."""
        order = {
            "corners": "left, upper, right, lower",
            "rows first": "upper, left, lower, right",
            "centres": "middle, width, height",
        }
        return f"{order[self.order]} in {'shares of the picture' if self.normal else 'pixels'}"

    def corners(self, boxes: NDArray[np.floating], extent: tuple[int, ...]) -> NDArray[np.float64]:
        """Boxes (B x 4) as upper, left, lower and right end in pixels."""
        numbers = boxes.astype(np.float64)
        if self.order == "centres":
            x, y, width, height = numbers.T
            found = np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=1)
        else:
            found = numbers if self.order == "rows first" else numbers[:, [1, 0, 3, 2]]
        return found * np.array([*extent, *extent]) if self.normal else found


def reading(boxes: NDArray[np.floating], extent: tuple[int, ...], rows_first: bool, kept: bool) -> Reading:
    """How ``boxes`` are written.

    A box whose right end lies left of its left end is impossible, and so is a negative width. Where many
    boxes are impossible in one reading and none in the other, it is the other.

    Args:
        boxes: B x 4, all that the model gives for one image.
        extent: height and width of the input in pixels.
        rows_first: whether the outputs' names are those of a library that writes rows first.
        kept: whether they are what a suppression kept, which is given corners everywhere.

    Raises:
        TargetError: both readings are possible, or none.
    """
    numbers = boxes.astype(np.float64)
    numbers = numbers[np.isfinite(numbers).all(axis=1)]
    if not len(numbers):
        raise TargetError("the model gives no boxes on this image")
    normal = bool(np.abs(numbers).max() <= _NORMAL)
    sides = np.ones(2) if normal else np.array([extent[1], extent[0]], float)
    slack = 1e-3 * sides
    crossed = float((numbers[:, 2:] < numbers[:, :2] - slack).any(axis=1).mean())
    negative = float((numbers[:, 2:] < -slack).any(axis=1).mean())
    if rows_first:
        order = "rows first"
    elif kept and crossed <= _NONE:
        order = "corners"
    elif crossed >= _MANY and negative <= _NONE:
        order = "centres"
    elif crossed <= _NONE and len(numbers) >= _FEW and _beyond(numbers, sides):
        order = "corners"
    elif negative > _NONE:
        raise TargetError(
            f"the boxes are not decoded ({negative:.0%} would have a negative size, {crossed:.0%} crossed "
            "corners), so where they lie is not known"
        )
    else:
        raise TargetError(
            f"the {len(numbers)} boxes can be read as corners as well as middles with sizes, so where they "
            "lie is not known"
        )
    wrong = numbers[:, 2:] if order == "centres" else numbers[:, :2]
    if normal and order == "centres" and float((wrong > 1 + _NORMAL).mean()) > _MANY:
        raise TargetError("the boxes are not decoded: many would be larger than the picture")
    return Reading(order, normal)


def _beyond(numbers: NDArray[np.float64], sides: NDArray[np.float64]) -> bool:
    """Whether, read as middles with sizes, many boxes reach far beyond the picture."""
    ends = numbers[:, :2] + numbers[:, 2:] / 2
    return bool((ends > 1.1 * sides).any(axis=1).mean() >= _MANY)
