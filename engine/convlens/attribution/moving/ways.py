"""The ways in which inputs of each kind can be moved: shifted, scaled, turned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.moving.geometry import stretched, stretching, turned
from convlens.attribution.moving.settings import TRANSFORMS, MovedParameters
from convlens.errors import ParameterError, UsageError
from convlens.hiding import default_fill, filling
from convlens.runtime.patches import as_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.registry import Images

_SHIFT = 60 / 224  # the paper's furthest translation, as a share of the side
_POSSIBLE = {
    "board": ("translation", "rotation"),
    "signal": ("translation", "scale"),
    "spectrogram": ("translation", "scale"),
}
_UNMOVED = {
    "tokens": "a sequence of tokens has no numbers between two tokens",
    "vector": "a vector of features has no places",
}


@dataclass(frozen=True)
class Change:
    """One way of moving inputs: by each of ``amounts``, the one called ``none`` leaving them as they are."""

    name: str
    unit: str
    label: str
    amounts: NDArray[Any]
    none: float
    apply: Callable[[NDArray[Any], NDArray[Any], float], NDArray[Any]]


def changes(model: Model, images: Images, given: MovedParameters) -> list[Change]:
    """The transforms asked for, or all that make sense for such an input.

    Raises:
        UsageError: an input that cannot be moved.
        ParameterError: a transform that such an input has not.
    """
    kind = model.source.kind
    if kind in _UNMOVED:
        raise UsageError(f"invariance shifts, scales and turns inputs, and {_UNMOVED[kind]}")
    possible = _POSSIBLE.get(kind, TRANSFORMS)
    wanted = given.transforms.split(",") if given.transforms else possible
    if wrong := [name for name in wanted if name not in possible]:
        raise ParameterError(
            f"transforms has {wrong[0]!r}, which makes no sense for a {kind}; "
            f"expected {' or '.join(possible)}"
        )
    axes = [axis - 1 for axis in model.source.axes]  # of one input, which has no batch axis
    in_time = len(axes) == 1 or kind == "spectrogram"
    make = {"translation": _translation, "scale": _scale, "rotation": _rotation}
    return [make[name](kind, images.array.shape[1:], axes, in_time, given) for name in wanted]


def _translation(
    kind: str, shape: Sequence[int], axes: Sequence[int], in_time: bool, given: MovedParameters
) -> Change:
    axis = axes[-1] if in_time or given.direction == "horizontal" else axes[-2]
    far = given.shift or max(1, round(_SHIFT * shape[axis]))
    if far >= shape[axis]:
        raise ParameterError(f"shift is {far}; expected less than {shape[axis]}, the input's length there")
    amounts = np.unique(np.rint(np.linspace(-far, far, 2 * -(-given.steps // 2) + 1)))
    unit = {"signal": "samples", "spectrogram": "frames", "board": "points"}.get(kind, "pixels")
    label = f"{'shift in time' if in_time else f'{given.direction} shift'} ({unit})"
    return Change("translation", unit, label, amounts, 0.0, partial(_shift, axis, given.fill == "edge"))


def _scale(
    kind: str, shape: Sequence[int], axes: Sequence[int], in_time: bool, given: MovedParameters
) -> Change:
    del kind, shape
    amounts = np.unique([*np.linspace(given.shrink, given.zoom, given.steps + 1), 1.0])
    label = "stretched in time (times)" if in_time else "scale (times)"
    zoomed = axes[-1:] if in_time else axes[-2:]
    return Change("scale", "times", label, amounts, 1.0, partial(_zoom, zoomed, given.fill == "edge"))


def _rotation(
    kind: str, shape: Sequence[int], axes: Sequence[int], in_time: bool, given: MovedParameters
) -> Change:
    del in_time
    plane = axes[-2], axes[-1]
    whole = given.turn == 360  # which is no turn at all
    amounts = np.linspace(0, given.turn, 2 * given.steps + (not whole), endpoint=not whole)
    if kind == "board":
        quarter = 90.0 if shape[plane[0]] == shape[plane[1]] else 180.0
        amounts = np.arange(0.0, min(given.turn + 1, 360.0), quarter)
    turn = partial(_turn, plane, given.fill == "edge")
    return Change("rotation", "degrees", "rotation (degrees)", amounts, 0.0, turn)


def _shift(axis: int, edge: bool, x: NDArray[Any], fill: NDArray[Any], amount: float) -> NDArray[Any]:
    return stretched(x, fill, {axis: stretching(x.shape[axis], shift=amount, edge=edge)})


def _zoom(
    axes: Sequence[int], edge: bool, x: NDArray[Any], fill: NDArray[Any], amount: float
) -> NDArray[Any]:
    return stretched(x, fill, {axis: stretching(x.shape[axis], zoom=amount, edge=edge) for axis in axes})


def _turn(
    plane: tuple[int, int], edge: bool, x: NDArray[Any], fill: NDArray[Any], amount: float
) -> NDArray[Any]:
    return turned(x, fill, plane, amount, edge)


def border(model: Model, images: Images, fill: str | None) -> NDArray[Any]:
    """What comes in at the border, in the shape of the batch; of no consequence where the edge does."""
    return filling(model, images, "mean" if fill == "edge" else fill or default_fill(model), (1,))


def batches(
    image: NDArray[Any], fill: NDArray[Any], change: Change, places: Sequence[int], size: int
) -> Iterator[NDArray[Any]]:
    """The image moved to each of ``places``, a batch at a time, in the input's own type."""
    for start in range(0, len(places), size):
        amounts = [float(change.amounts[place]) for place in places[start : start + size]]
        yield as_input(np.stack([change.apply(image, fill, amount) for amount in amounts]), image.dtype)
