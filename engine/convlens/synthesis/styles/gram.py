"""Gram matrices of layers: what a picture is made of, wherever in it; and how far two of them are apart.

The Gram matrix of a layer holds, for each pair of channels, the mean over all places of the product of
their activations. It says which features occur together and forgets where, so that pictures with the same
Gram matrices show the same texture (Gatys, Ecker & Bethge 2015, "Texture Synthesis Using Convolutional
Neural Networks", section 3) or have the same style (Gatys, Ecker & Bethge 2016, "Image Style Transfer Using
Convolutional Neural Networks", section 2.2). Where a mask is given, places count as it says (Gatys et al.
2017, "Controlling Perceptual Factors in Neural Style Transfer", section 4: guided Gram matrices).

The papers sum over places and divide by their number M in the loss; here the matrix itself is the mean, so
that pictures of different sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from convlens.errors import LayerError
from convlens.graph.layers import shape_text

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas


def gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Gram matrices: N x channels x channels, in squared units of the layer.

    Args:
        features: N x channels x spatial axes (any number of them, also none).
        mask: how much each place counts, from 0 to 1: spatial axes, or N x spatial axes. Activations are
            multiplied by it, and the mean is over the squares of its numbers, as in the paper.
    """
    flat = features.flatten(2) if features.ndim > 2 else features[:, :, None]
    if mask is None:
        return torch.einsum("ncp,ndp->ncd", flat, flat) / flat.shape[2]
    guide = mask.reshape(-1, 1, flat.shape[2]).to(flat)
    guided = flat * (guide / guide.square().sum(dim=2, keepdim=True).sqrt())
    return torch.einsum("ncp,ndp->ncd", guided, guided)


def apart(grams: Tensor, wanted: Tensor) -> Tensor:
    """How far Gram matrices are from those wanted, N: the sum of squared differences over that of ``wanted``.

    It is 0 where they are the same and 1 for a picture in which the layer is silent. It is the loss of the
    papers, E = sum (G - A)^2 / 4 C^2 M^2 with C channels and M places, in units of its own value for a
    silent picture, so that layers of any scale and width can be added up. Where ``wanted`` itself is all
    zeros, it is the sum of squares alone.

    Args:
        grams: N x channels x channels.
        wanted: the same, or 1 x channels x channels for all.
    """
    return relative((grams - wanted).flatten(1), wanted.flatten(1))


def relative(difference: Tensor, wanted: Tensor) -> Tensor:
    """Sum of squares of ``difference`` over that of ``wanted``, or over 1 where that is silent: N each."""
    size = wanted.square().sum(dim=1)
    return difference.square().sum(dim=1) / torch.where(size > 0, size, torch.ones_like(size))


def features_of(value: Tensor, layer: Layer) -> Tensor:
    """A layer's value as N x channels x its spatial axes in the order of the picture's.

    Axes that are neither follow the spatial ones.
    """
    axis = _channel_axis(layer) % value.ndim
    first = [0, axis, *(a % value.ndim for a in layer.spatial_axes)]
    return value.permute([*first, *(a for a in range(value.ndim) if a not in first)])


def mask_at(mask: Tensor, features: Tensor) -> Tensor:
    """A mask of the picture as one of the places of a layer: the mean over what lies at each place.

    Args:
        mask: spatial axes of the picture.
        features: N x channels x as many spatial axes, perhaps others.
    """
    space = mask.ndim
    size = features.shape[2 : 2 + space]
    found = mask.to(features)
    for axis, length in enumerate(size):
        lines = found.movedim(axis, -1)
        pooled = functional.adaptive_avg_pool1d(lines.reshape(1, -1, lines.shape[-1]), length)
        found = pooled.view(*lines.shape[:-1], length).movedim(-1, axis)
    others = features.shape[2 + space :]
    return found.reshape(*size, *(1 for _ in others)).expand(*size, *others)


def grams_of(
    values: Mapping[str, Tensor], layers: Sequence[Layer], mask: Tensor | None = None
) -> list[Tensor]:
    """Gram matrices of several layers.

    Args:
        values: by ONNX name.
        layers: whose, see :func:`check`.
        mask: how much each place of the picture counts: its spatial axes.
    """
    found = []
    for layer in layers:
        features = features_of(values[layer.name], layer)
        found.append(gram(features, None if mask is None else mask_at(mask, features)))
    return found


def measured(
    model: Model, canvas: Canvas, pictures: Tensor, layers: Sequence[Layer], mask: Tensor | None = None
) -> list[Tensor]:
    """Gram matrices of pictures, one a layer: N x channels x channels each; no gradient.

    Args:
        model: the model.
        canvas: what a picture is.
        pictures: N pictures.
        layers: whose, see :func:`check`.
        mask: how much each place of the pictures counts: their spatial axes.
    """
    with torch.no_grad():
        graph = model.instrument(canvas.dtype)
        names = list(dict.fromkeys(layer.name for layer in layers))
        values = graph.values({model.source.name: canvas.feed(pictures)}, names)
        return grams_of(values, layers, mask)


def check(layers: Sequence[Layer]) -> None:
    """Refuse layers that have no Gram matrix over places.

    Raises:
        LayerError: one has no channel axis, or no places.
    """
    for layer in layers:
        _channel_axis(layer)
        if not layer.spatial_axes:
            raise LayerError(
                f"layer {layer.alias!r} ({shape_text(layer.shape)}) has no places; Gram matrices are means "
                "over places, so name a layer nearer to the input"
            )


def _channel_axis(layer: Layer) -> int:
    if layer.channel_axis is None:
        raise LayerError(f"layer {layer.alias!r} ({shape_text(layer.shape)}) has no channel axis")
    return layer.channel_axis
