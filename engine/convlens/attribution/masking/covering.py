"""What covers a patch of an image, wherever it lies: a given filling, or its surroundings carried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.masking.inpainting import inpainted
from convlens.errors import ParameterError
from convlens.hiding import default_fill, filling
from convlens.runtime.incremental.changes import Changes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.registry import Images

_UNMIXED = {
    "tokens": "the numbers of tokens cannot be mixed",
    "board": "the points of a board cannot be mixed",
    "vector": "a feature has nothing around it",
}


@dataclass(frozen=True)
class Cover:
    """What covers patches of some images.

    Attributes:
        name: as the parameter ``fill`` calls it.
        array: the images as a batch.
        axes: their spatial axes.
        fill: in the shape of the batch; None where each patch is filled from its surroundings.
    """

    name: str
    array: NDArray[Any]
    axes: tuple[int, ...]
    fill: NDArray[Any] | None

    def changes(self, index: int, starts: Any, sides: Any) -> Changes:
        """One image, covered in a patch at each of some places.

        Args:
            index: which image.
            starts: first covered position, patches x axes.
            sides: one number an axis, of all patches or of each.

        Raises:
            ParameterError: a patch that is to be filled from its surroundings is the whole image.
        """
        starts = np.asarray(starts, np.int64).reshape(-1, len(self.axes))
        each = np.broadcast_to(np.asarray(sides, np.int64), starts.shape)
        extent = np.array([self.array.shape[axis] for axis in self.axes])
        if self.fill is None and (each == extent).all(axis=1).any():
            raise ParameterError(
                f"fill is {self.name!r} and the patch is the whole input, with nothing around it; expected a "
                "smaller patch, or another fill"
            )
        room = each.max(axis=0)
        outer = np.minimum(starts, extent - room)

        def content(rows: NDArray[np.int64]) -> NDArray[Any]:
            if (each[rows] == room).all():
                return self._shown(index, starts[rows], room.tolist())
            found = self._cut(self.array[index], outer[rows], room.tolist())
            for number, row in enumerate(rows.tolist()):
                own = self._shown(index, starts[row : row + 1], each[row].tolist())[0]
                found[number][self._window(starts[row] - outer[row], each[row].tolist())] = own
            return found

        return Changes(outer, tuple(room.tolist()), content)

    def _shown(self, index: int, starts: NDArray[np.int64], sides: Sequence[int]) -> NDArray[Any]:
        if self.fill is None:
            return inpainted(self.array[index], self.axes, starts, sides)
        return self._cut(self.fill[index], starts, sides)

    def _cut(self, image: NDArray[Any], starts: NDArray[np.int64], sides: Sequence[int]) -> NDArray[Any]:
        return np.stack([image[self._window(place, sides)] for place in starts.tolist()])

    def _window(self, place: Sequence[int] | NDArray[np.int64], sides: Sequence[int]) -> tuple[slice, ...]:
        window = [slice(None)] * (self.array.ndim - 1)
        for axis, start, side in zip(self.axes, place, sides, strict=True):
            window[axis - 1] = slice(int(start), int(start) + side)
        return tuple(window)


def cover_of(model: Model, images: Images, given: str | None, sides: Sequence[int]) -> Cover:
    """What the parameter ``fill`` means for some images.

    Args:
        model: that they go into.
        images: what is covered.
        given: the parameter; None is what such an input has by default.
        sides: of a patch, which a blur is as wide as.

    Raises:
        CardError: a pixel value is asked for and no card says what pixels become.
        ParameterError: a fill that such an input cannot have.
    """
    name, kind = given or default_fill(model), model.source.kind
    if name != "inpaint":
        return Cover(name, images.array, model.source.axes, filling(model, images, name, sides))
    if kind in _UNMIXED:
        raise ParameterError(f"fill is 'inpaint', and {_UNMIXED[kind]}; expected a number")
    return Cover(name, images.array, model.source.axes, None)
