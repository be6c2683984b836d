"""A layer's feature maps, each as one number an input: its activation summed over space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import LayerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model


@dataclass(frozen=True)
class FeatureMaps:
    """The channels of one layer; ``layer`` has a channel axis and one row an input."""

    layer: Layer

    def totals(self, value: NDArray[Any]) -> NDArray[np.float64]:
        """Sums over all places, N x channels, from the layer's value."""
        moved = np.moveaxis(value, self.layer.channel_axis or 1, 1)
        return np.asarray(moved.reshape(*moved.shape[:2], -1).sum(axis=2, dtype=np.float64))

    def total(self, value: NDArray[Any], channel: int) -> NDArray[np.float64]:
        """The sum over all places of one channel, N."""
        one = value.take(channel, axis=self.layer.channel_axis or 1)
        return np.asarray(one.reshape(len(one), -1).sum(axis=1, dtype=np.float64))


def feature_maps(model: Model, name: str | None) -> FeatureMaps | None:
    """Those of the layer asked for; without one of the deepest whose units have a place, None without any.

    Raises:
        LayerError: the layer that was asked for has no channels with places, or no row an input.
    """
    rows = model.source.shape[0] if model.source.shape else None

    def fits(layer: Layer) -> bool:
        counted = layer.shape is None or (bool(layer.shape) and layer.shape[0] == rows)
        return bool(layer.spatial_axes) and bool(layer.channel_axis) and counted

    known = [layer for layer in model.layers.placed() if fits(layer)]
    if name is None:
        return FeatureMaps(known[-1]) if known else None
    layer = model.layers.find(name)
    if not fits(layer):
        hint = f", such as {known[-1].alias!r}" if known else ""
        raise LayerError(
            f"layer {layer.alias!r} has no feature maps (channels whose units have a place); expected one "
            f"that has{hint}"
        )
    return FeatureMaps(layer)
