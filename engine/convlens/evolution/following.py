"""Channels followed through a training: their strongest units among the images, and what drives these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.layerwise.units import seen
from convlens.channels import channels_behind, split_channels
from convlens.errors import LayerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.units import Peaks
    from convlens.evolution.gathered import Gathered
    from convlens.graph.layers import Layer
    from convlens.model import Model

NONE = -1  # the image of a channel that nothing excites


@dataclass(frozen=True)
class Strongest:
    """The strongest unit of each channel of a layer over all images.

    Attributes:
        image: its number, channels; :data:`NONE` where no activation is above zero.
        value: its activation.
        place: its index along the layer's axes but batch and channels, channels x axes.
    """

    image: NDArray[np.int64]
    value: NDArray[Any]
    place: NDArray[np.int64]


def strongest(peaks: Peaks) -> Strongest:
    """Over all images; of equal ones that with the larger value before the rectifier, then the first."""
    value, before = (np.where(np.isnan(each), -np.inf, each) for each in (peaks.value, peaks.before))
    image = np.lexsort((-before, -value), axis=0)[0]
    best = np.take_along_axis(value, image[None], axis=0)[0]
    place = np.take_along_axis(peaks.place, image[None, :, None], axis=0)[0]
    fires = (best > 0) & np.isfinite(best)
    return Strongest(np.where(fires, image, NONE), np.where(fires, best, 0.0), place)


def moved(before: Strongest, now: Strongest) -> NDArray[np.bool_]:
    """Whether another image is the strongest of each channel; channels that are silent in both stay."""
    return np.asarray(before.image != now.image)


def asked(model: Model, texts: Sequence[str]) -> dict[str, list[int]]:
    """Channels as they were typed, ``relu2:17``, ``relu2:3,8-11`` or ``relu2:all``, by the layer's name.

    Raises:
        LayerError: a layer without channels or that does not exist, or a channel that it does not have.
    """
    found: dict[str, list[int]] = {}
    for text in texts:
        known = {name for layer in model.layers for name in (layer.name, layer.alias)}
        name, tail = split_channels(text, known)
        layer = model.layers.find(name)
        if layer.channel_axis is None or layer.channels is None:
            raise LayerError(f"layer {layer.alias!r} has no channel axis of known length; choose another")
        if tail is None:
            raise LayerError(
                f"{text!r} names no channel; expected a number behind the colon, like {layer.alias}:0"
            )
        numbers = channels_behind(text, tail, layer.alias, layer.channels)
        numbers = tuple(range(layer.channels)) if numbers is None else numbers
        own = found.setdefault(layer.name, [])
        own += [number for number in dict.fromkeys(numbers) if number not in own]
    return found


def usual(last: Strongest, top: int) -> list[int]:
    """The ``top`` channels that are strongest at the end, from the strongest on."""
    order = np.argsort(-last.value, kind="stable")[:top]
    return [int(number) for number in order]


def boxes(
    layer: Layer, found: Strongest, channels: Sequence[int], extent: Sequence[int]
) -> NDArray[np.int64]:
    """What part of the input each unit sees, channels x 2 * axes; zeros where there is no unit or no axis."""
    made = np.zeros((len(channels), 2 * max(2, len(extent))), np.int64)
    for row, channel in enumerate(channels):
        if extent and found.image[channel] != NONE:
            made[row] = seen(layer, found.place[channel].tolist(), extent)
    return made


def reconstructed(
    model: Model, images: Gathered, layer: Layer, found: Strongest, channels: Sequence[int], batch_size: int
) -> NDArray[Any]:
    """What drives the strongest unit of each channel, at the input, by deconvnet; zeros where there is none.

    Returns:
        Channels x the input's shape; of tokens their embedding's.
    """
    from convlens.attribution.layerwise.projected import projected

    number = np.asarray(channels, np.int64)
    fires = found.image[number] != NONE
    # a silent channel takes part with the first image, so that the shape of the signal is known
    image = np.where(fires, found.image[number], 0)
    place = np.where(fires[:, None], found.place[number], 0)
    array = images.array(model, image)
    strength = found.value[number].astype(array.dtype if array.dtype.kind == "f" else np.float32)
    return projected(model, array, layer, number, place, strength, "deconvnet", batch_size)
