"""Which layers of a network are compared, and which channels are followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from convlens.errors import LayerError

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model

_LAYERS = 5  # whose channels are followed where none are named, as many as in the paper's figure


@dataclass(frozen=True)
class Plan:
    """What is looked at in each checkpoint.

    Attributes:
        compared: layers that are held against those of other checkpoints.
        followed: layers whose channels are followed.
        channels: of each followed layer; empty as long as they are not chosen.
        top: how many are to be chosen of each.
    """

    compared: tuple[Layer, ...]
    followed: tuple[Layer, ...]
    channels: tuple[tuple[int, ...], ...]
    top: int

    def with_channels(self, channels: Sequence[Sequence[int]]) -> Plan:
        """The same with chosen channels."""
        return replace(self, channels=tuple(map(tuple, channels)))


def plan_of(model: Model, layers: Sequence[str], channels: Mapping[str, Sequence[int]], top: int) -> Plan:
    """What to look at.

    Args:
        model: the first checkpoint.
        layers: that were asked for; without them all rectifiers and the class scores, or all layers with
            channels where there is no rectifier.
        channels: that were asked for, by the ONNX name of their layer.
        top: how many channels a layer, where none were asked for.

    Raises:
        LayerError: there is no such layer, or none at all.
    """
    known = [layer for layer in model.layers if layer.channels is not None]
    usual = [layer for layer in known if layer.kind == "rectifier"] or known
    if layers:
        compared = list(dict.fromkeys(model.layers.find(name) for name in layers))
    else:
        scores = model.layers.get(model.classes.logits) if model.classes is not None else None
        compared = list(dict.fromkeys([*usual, *([scores] if scores is not None else [])]))
    if not compared:
        raise LayerError("the model has no layer that could be compared; --layer names one")
    if channels:
        own = [layer for layer in model.layers if layer.name in channels]
        return Plan(tuple(compared), tuple(own), tuple(tuple(channels[layer.name]) for layer in own), top)
    followed = [layer for layer in compared if layer.channels is not None] if layers else _spread(usual)
    return Plan(tuple(compared), tuple(followed), (), top)


def _spread(layers: Sequence[Layer]) -> list[Layer]:
    """Some of the layers, the first and the last among them."""
    if len(layers) <= _LAYERS:
        return list(layers)
    return [layers[round(place)] for place in np.linspace(0, len(layers) - 1, _LAYERS)]
