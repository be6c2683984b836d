"""Goals beside targets: a direction in a layer's channels, pictures that differ, and weighted sums of goals.

* :func:`along`: a layer driven along a vector of its channels, which :func:`direction_of` reads from a
  ``.npy`` file or takes from a photo.
* :func:`apart`: what keeps the pictures of one search different from each other. Each picture's number then
  depends on the others, so that all of them have to be one batch: a group that is split is another search.
* :func:`diverse`: a goal with :func:`apart` beside it, in proportion.
* :func:`added`: several goals as one, each with its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import LayerError, ParameterError
from convlens.graph.layers import shape_text
from convlens.synthesis.objectives import Goal
from convlens.targets import check_rows, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model

FLOOR = 0.1
"""Cosine below which it counts as this, so that what points elsewhere still feels a pull."""

_TINY = 1e-37  # the smallest normal number: keeps the slope of a root finite where everything is zero


def direction_of(model: Model, layer: Layer, given: str | Path) -> NDArray[np.float64]:
    """A vector in the channels of ``layer``: one number a channel.

    Args:
        model: the model.
        layer: whose channels.
        given: a ``.npy`` file with one number a channel; or a photo (or whatever the model takes, or a
            folder of them), of which the mean activation of each channel is taken, as in
            Carter et al. 2019, "Activation Atlas", https://distill.pub/2019/activation-atlas/.

    Raises:
        LayerError: the layer has no channel axis.
        ParameterError: the file cannot be read, or holds something else; the vector is zero or not finite.
        UsageError: there is no such photo.
        ImageError: it cannot be read.
    """
    path = Path(given)
    axis = _channel_axis(layer)
    found = _stored(path, layer) if path.suffix.lower() == ".npy" else _mean(model, layer, axis, path)
    if not np.isfinite(found).all():
        raise ParameterError(f"direction {path.name}: not every number is finite")
    if not found.any():
        raise ParameterError(
            f"direction {path.name}: all {len(found)} numbers are zero, which points nowhere; "
            "choose another layer or file"
        )
    return found


def _stored(path: Path, layer: Layer) -> NDArray[np.float64]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ParameterError(f"direction {path}: no file of one array could be read ({error})") from error
    count, shape = layer.channels, getattr(array, "shape", None)
    wanted = "one number a channel" if count is None else f"{count} numbers, one a channel"
    if shape is None or array.dtype.kind not in "fiu":
        found = "several arrays" if shape is None else f"an array of {array.dtype}"
        raise ParameterError(f"direction {path.name}: {found}; layer {layer.alias!r} takes {wanted}")
    if len(shape) != 1 or (count is not None and len(array) != count):
        found = shape_text(shape) or "one"
        raise ParameterError(f"direction {path.name}: {found} numbers; layer {layer.alias!r} takes {wanted}")
    return np.asarray(array, np.float64)


def _mean(model: Model, layer: Layer, axis: int, path: Path) -> NDArray[np.float64]:
    """The mean activation of each channel over all places of the photo."""
    images = model.images(path)
    value = model.runner.run({model.source.name: images.array}, [layer.name], 8)[layer.name]
    check_rows(layer.name, value.shape, len(images))
    channels = np.moveaxis(value.astype(np.float64), axis, 0)
    return np.asarray(channels.reshape(len(channels), -1).mean(axis=1))


def along(layer: Layer, vector: NDArray[Any], power: float = 1.0) -> Goal:
    """How far each place of a layer points along a vector of its channels, averaged over the places.

    At each place, the dot product of the activations with the vector times their cosine to the power;
    cosines count as 0.1 at least. Without it (``power`` 0) channels that are strong anyway win
    (Olah et al. 2017, "Feature Visualization"; Carter et al. 2019, "Activation Atlas").

    Args:
        layer: where.
        vector: one number a channel, see :func:`direction_of`; its length does not matter.
        power: of the cosine, 0 or more.

    Raises:
        LayerError: the layer has no channel axis.
        ParameterError: the vector has another length, or the power is below 0.
    """
    axis = _channel_axis(layer)
    if power < 0:
        raise ParameterError(f"power of the cosine is {power:g}; expected 0 or more")
    if vector.ndim != 1 or (layer.channels is not None and len(vector) != layer.channels):
        raise ParameterError(
            f"a direction of {shape_text(vector.shape)}; layer {layer.alias!r} has {layer.channels} channels"
        )
    unit = np.asarray(vector, np.float64) / np.linalg.norm(vector)

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        features = _by_channel(values[layer.name], axis)
        dots = torch.einsum("ncp,c->np", features, features.new_tensor(unit))
        if power:
            lengths = (features.square().sum(dim=1) + _TINY).sqrt()
            dots = dots * (dots / lengths).clamp(min=FLOOR) ** power
        return dots.mean(dim=1)

    return Goal((layer.name,), objective, f"a direction in {layer.alias}")


def apart(layer: Layer) -> Goal:
    """How little each picture's texture at a layer is like that of the others, 0 (not at all) to -1.

    Of each picture the Gram matrix of the layer's channels over its places; a picture's number is the
    negative mean cosine between its matrix and that of each other picture (Olah et al. 2017, "Feature
    Visualization", section on diversity, which takes the sum over pairs: the mean does not depend on how
    many pictures there are). One picture alone gets 0.

    Raises:
        LayerError: the layer has no channel axis.
    """
    axis = _channel_axis(layer)

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        features = _by_channel(values[layer.name], axis)
        # a cosine does not depend on the size of what goes in: squares of squares stay in range
        size = features.detach().abs().amax(dim=(1, 2), keepdim=True).clamp(min=_TINY)
        features = features / size
        grams = torch.einsum("ncp,ndp->ncd", features, features).flatten(1)
        grams = grams / (grams.square().sum(dim=1, keepdim=True) + _TINY).sqrt()
        alike = grams @ grams.T
        others = alike.sum(dim=1) - alike.diagonal()
        return -others / max(1, len(grams) - 1)

    return Goal((layer.name,), objective, f"pictures apart at {layer.alias}")


def diverse(goal: Goal, layer: Layer, strength: float) -> Goal:
    """A goal with :func:`apart` beside it, weighted by ``strength`` times each picture's own score as it is.

    So the strength means the same for goals of every size: at 0.1, pictures that are alike to the last lose
    a tenth of their score, and one that is unlike all others loses nothing.

    Raises:
        LayerError: the layer has no channel axis.
        ParameterError: the strength is below 0.
    """
    if strength < 0:
        raise ParameterError(f"strength of the diversity is {strength:g}; expected 0 or more")
    term = apart(layer)

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        score = goal.objective({name: values[name] for name in goal.names})
        return score + strength * score.detach().abs() * term.objective({layer.name: values[layer.name]})

    names = tuple(dict.fromkeys((*goal.names, layer.name)))
    return Goal(names, objective, f"{goal.text}, {term.text}")


def added(*parts: tuple[float, Goal]) -> Goal:
    """Goals as one: the sum of each one's number times its weight, picture by picture."""

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        found = [w * goal.objective({name: values[name] for name in goal.names}) for w, goal in parts]
        return torch.stack(found).sum(dim=0)

    names = tuple(dict.fromkeys(name for _, goal in parts for name in goal.names))
    return Goal(names, objective, joined([(weight, goal.text) for weight, goal in parts]))


def _by_channel(value: Tensor, axis: int) -> Tensor:
    """N x channels x places; a layer without places is one."""
    moved = value.movedim(axis, 1)
    return moved.reshape(*moved.shape[:2], -1)


def _channel_axis(layer: Layer) -> int:
    if layer.channel_axis is None:
        raise LayerError(f"layer {layer.alias!r} ({shape_text(layer.shape)}) has no channel axis")
    return layer.channel_axis
