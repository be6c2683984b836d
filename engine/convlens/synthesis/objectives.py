"""What is driven up: targets, row by row, as the loop takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convlens.errors import LayerError
from convlens.synthesis.loop import Goal

if TYPE_CHECKING:
    from torch import Tensor

    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.targets import Target


def goal_of(model: Model, target: Target) -> Goal:
    """The target's own score of each picture."""

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = target.score(values)
        return found

    return Goal(target.needs(model.graph.outputs), objective, target.text)


def channels_of(layer: Layer, channels: Sequence[int]) -> Target:
    """One channel of ``layer`` a row: the mean of each.

    Raises:
        LayerError: the layer has no such channel.
    """
    from convlens.targets import Target

    if layer.channel_axis is None:
        raise LayerError(f"layer {layer.alias!r} has no channel axis")
    outside = [c for c in channels if c < 0 or (layer.channels is not None and c >= layer.channels)]
    if outside:
        count = f"; it has channels 0 to {layer.channels - 1}" if layer.channels else ""
        raise LayerError(f"layer {layer.alias!r} has no channel {outside[0]}{count}")
    each = tuple(f"channel {channel} of {layer.alias}" for channel in channels)
    return Target(
        "channel", layer.name, f"channels of {layer.alias}", tuple(channels), each=each, layer=layer
    )


def repeated(target: Target, rows: int) -> Target:
    """The same target for ``rows`` pictures."""
    if isinstance(target.index, tuple):
        return target
    index: Any = (target.index,) * rows if target.kind == "class" else target.index
    return replace(target, index=index, each=(target.text,) * rows)
