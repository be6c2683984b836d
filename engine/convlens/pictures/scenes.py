"""Inputs that are no photos, drawn as what they are, with one number a position in colours.

The hint ``input`` of a Result (see :mod:`convlens.shown`) says what went in; its array ``input`` holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures import boards, signals, slices, words
from convlens.pictures.colour import Scale


@dataclass(frozen=True)
class Scene:
    """One input and the numbers that lie over it.

    Attributes:
        kind: what the input is.
        values: one number a position, in the shape of ``extent``.
        given: the input, channels first (1 where it has none), then its spatial axes.
        scale: the colours of ``values``.
        axes: what is counted along each axis of ``values``.
        rate: of a signal, samples per second; None where that is not known.
        words: of tokens, what is written into each box.
        marks: boxes around places, with ``from``, ``to`` and ``effect``.
        small: whether several are drawn above each other.
    """

    kind: str
    values: NDArray[Any]
    given: NDArray[Any]
    scale: Scale
    axes: Sequence[str]
    rate: float | None = None
    words: Sequence[str] = ()
    marks: Sequence[Mapping[str, Any]] = ()
    small: bool = False


WIDE = frozenset({"signal", "spectrogram", "tokens", "video", "volume", "vector"})
"""Kinds that cannot be read in a narrow column."""

_BY_KIND: dict[str, Callable[[Any], Image.Image]] = {
    "signal": signals.waveform,
    "spectrogram": signals.plane,
    "image": signals.plane,
    "tokens": words.boxes,
    "board": boards.board,
    "video": slices.frames,
    "volume": slices.middles,
    "vector": words.bars,
}


def scene(
    info: Mapping[str, Any],
    values: NDArray[Any],
    given: NDArray[Any],
    scale: Scale,
    own: Mapping[str, Any] = {},
    small: bool = False,
) -> Image.Image:
    """One input with ``values`` (its spatial axes) over it.

    Args:
        info: the hint ``input``.
        values: one number a position.
        given: the input as the model takes it, without the batch axis.
        scale: the colours of ``values``.
        own: words and marks of this input.
        small: leave out what takes room.
    """
    shape = channels_first(given, info)
    return _BY_KIND[info["kind"]](
        Scene(
            info["kind"],
            values.reshape(shape.shape[1:]),
            shape.astype(np.float64),
            scale,
            info["axes"],
            info.get("rate"),
            own.get("words", ()),
            own.get("marks", ()),
            small,
        )
    )


def channels_first(array: NDArray[Any], info: Mapping[str, Any]) -> NDArray[Any]:
    """An input-shaped array (no batch axis) as channels x its spatial axes; features are an axis of space."""
    spatial = [axis - 1 for axis in info["spatial"]]
    if not spatial:
        return array.reshape(1, -1)
    channel = info["channel"] - 1
    order = [*([channel] if info["channel"] > 0 else []), *spatial]
    rest = [axis for axis in range(array.ndim) if axis not in order]
    moved = array.transpose([*order, *rest])
    lengths = [array.shape[axis] for axis in spatial]
    return moved.reshape(-1, *lengths)


def reduced(array: NDArray[Any], info: Mapping[str, Any], how: str | None) -> NDArray[Any]:
    """One number a position: the largest or mean magnitude over the channels, or their signed sum.

    Arrays that have no channels any more come back as they are, as magnitudes where that is asked for.
    """
    spatial = len(info["spatial"]) or 1
    array = _by_position(array, info) if array.ndim > spatial else array[None]
    if how == "max":
        return np.asarray(np.abs(array).max(axis=0))
    with np.errstate(invalid="ignore"):  # infinities of both signs: no number, drawn grey
        return np.asarray(np.abs(array).mean(axis=0) if how == "mean" else array.sum(axis=0))


def _by_position(array: NDArray[Any], info: Mapping[str, Any]) -> NDArray[Any]:
    """Channels first; what stands at the embedding of tokens has its vector's numbers last."""
    if info["kind"] == "tokens":
        return np.moveaxis(array.reshape(array.shape[0], -1), -1, 0)
    return channels_first(array, info)
