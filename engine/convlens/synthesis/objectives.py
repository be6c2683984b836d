"""What is driven up: targets, row by row, as the loop takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from convlens.errors import LayerError

if TYPE_CHECKING:
    from torch import Tensor

    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.targets import Target

Objective: TypeAlias = "Callable[[Mapping[str, Tensor]], Tensor]"
"""From values by ONNX name to one number a picture, which is driven up."""


@dataclass(frozen=True)
class Goal:
    """What is driven up.

    Attributes:
        names: ONNX values that are read.
        objective: from those to one number a picture.
        text: what it is, for people.
    """

    names: Sequence[str]
    objective: Objective
    text: str


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
