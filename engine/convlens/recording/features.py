"""The feature vector of an image: of a layer the mean of each channel over its places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.plan import Followed


def vectors_of(value: NDArray[Any], channel_axis: int) -> NDArray[np.float32]:
    """One vector an image, N x channels; means are taken in float64.

    Args:
        value: a layer's value, images first.
        channel_axis: from 1 up.
    """
    moved = np.moveaxis(value, channel_axis, 1)
    mean = moved.reshape(*moved.shape[:2], -1).mean(axis=2, dtype=np.float64)
    return np.asarray(mean, np.float32)


def features_of(
    model: Model, layer: Followed, array: NDArray[Any], batch_size: int = 4
) -> NDArray[np.float32]:
    """What a recording keeps of images, for images that it has not seen: N x channels.

    Args:
        model: the model that was recorded.
        layer: of which a vector is kept.
        array: images as the model takes them.
        batch_size: images in one forward.
    """
    found = model.runner.run({model.source.name: array}, [layer.name], batch_size)[layer.name]
    return vectors_of(found, layer.channel_axis)
