"""Channels as a person asks a recording for them: ``LAYER:CHANNEL``, a layer as a whole, or nothing said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convlens.channels import channels_behind, split_channels

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.reading import Recording


_OPEN = 224  # the length that an open axis is taken to have


@dataclass(frozen=True)
class Asked:
    """Some of a layer: its number in the recording, and channels by number (None: as a whole)."""

    layer: int
    channels: tuple[int, ...] | None


def asked(recording: Recording, texts: Sequence[str]) -> list[Asked]:
    """What was asked for, each layer once, in the order in which layers and channels were named.

    Args:
        recording: what is asked.
        texts: ``relu3_1:17``, several as ``relu3_1:17,40-43``, or ``relu3_1`` for a layer as a whole (also
            ``relu3_1:all``). A name that has a colon itself is a layer's where the recording knows it.

    Raises:
        LayerError: a layer that was not recorded, or a channel that it does not have.
    """
    found: dict[int, tuple[int, ...] | None] = {}
    for text in texts:
        one = _one(recording, text)
        known = found.get(one.layer, ())
        whole = known is None or one.channels is None
        found[one.layer] = None if whole else tuple(dict.fromkeys((*(known or ()), *(one.channels or ()))))
    return [Asked(layer, channels) for layer, channels in found.items()]


def _one(recording: Recording, text: str) -> Asked:
    name, tail = split_channels(text, {name for one in recording.layers for name in (one.alias, one.name)})
    layer = recording.layer(name)
    followed = recording.layers[layer]
    channels = None if tail is None else channels_behind(text, tail, followed.alias, followed.channels)
    return Asked(layer, channels)


def small(recording: Recording, model: Model) -> list[int]:
    """The deepest layers whose units see at most a sixth, a third and two thirds of the input, by number.

    Where there are none, the deepest of those whose units see least.
    """
    size = [length or _OPEN for length in model.source.size]
    shares = []
    for followed in recording.layers:
        field = model.layers.find(followed.name).field
        share = 1.0
        if field is not None and followed.spatial_axes:
            each = zip(field.size, size, strict=True)
            share = max(1.0 if own is None else own / length for own, length in each)
        shares.append(share)
    found = [[n for n, share in enumerate(shares) if share <= most] for most in (1 / 6, 1 / 3, 2 / 3)]
    least = max(n for n, share in enumerate(shares) if share == min(shares))
    return list(dict.fromkeys(numbers[-1] for numbers in found if numbers)) or [least]


def ordered(recording: Recording, layer: int, order: str, top: int) -> NDArray[np.int64]:
    """All channels of a layer in an order, those that nothing excites last.

    Args:
        recording: what is asked.
        layer: by number.
        order: ``strongest`` (the largest activation first), ``number``, or ``selective``: how far the mean
            of the ``top`` strongest activations lies above the mean of all, in standard deviations; channels
            that fewer than ``top`` images excite come behind all others.
        top: how many of the recorded places count.
    """
    tally, value = recording.tallies[layer], recording.strongest[layer].value[:, :top]
    if order == "number":
        return np.arange(len(value))
    fires = np.where(np.isfinite(value) & (value > 0), value, 0.0)
    if order == "strongest":
        return np.argsort(-fires[:, 0], kind="stable")
    spread = np.sqrt(np.maximum(np.nan_to_num(tally.variance), 0.0))
    apart = fires.mean(axis=1) - np.nan_to_num(tally.mean)
    stands = np.divide(apart, spread, out=np.zeros(len(value)), where=spread > 0)
    return np.lexsort((-stands, -(fires > 0).sum(axis=1)))
