"""What a dream drives up, and how its detail is handed on from size to size.

Mordvintsev, Olah and Tyka (2015): whatever a layer sees in a photo is made stronger, by taking the layer's
activation as its own gradient; first in a small copy of the photo, then in larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.synthesis.canvas import resample
from convlens.synthesis.objectives import Goal

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.synthesis.loop import Enlarge, Stage
    from convlens.targets import Target

_AT_ONCE = 1 << 24
"""Products of features that are held at once."""


def dream_goal(model: Model, target: Target) -> Goal:
    """What a target is in a dream: of a layer half its mean square, whose slope is the layer itself.

    A mean over places is the same for a picture as for the mean of its tiles, which a norm is not. In a
    weighted sum each layer counts so; everything else is the target's own score.

    Args:
        model: the model.
        target: of one image, for any number of rows.
    """

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        total = sum(weight * _own(term, values) for weight, term in target.terms or ((1.0, target),))
        assert isinstance(total, Tensor)
        return total

    return Goal(target.needs(model.graph.outputs), objective, target.text)


def guided_goal(model: Model, target: Target, guide: Tensor) -> Goal:
    """Each place of a layer is driven towards that feature vector of the guide which fits it best.

    The mean over places of the largest dot product with any place of the guide, as in the notebook of
    Mordvintsev et al. (2015).

    Args:
        model: the model.
        target: a layer, or a weighted sum of layers.
        guide: the guide as the model takes it, one row.

    Raises:
        TargetError: the target is something else, or a layer has no channels.
    """
    terms = target.terms or ((1.0, target),)
    for _, term in terms:
        if term.kind != "layer" or term.layer is None or term.layer.channel_axis is None:
            raise TargetError(
                f"a guide is matched place by place to the channels of a layer, and {term.text} is none; "
                "give a layer as target"
            )
    names = target.needs(model.graph.outputs)
    with torch.no_grad():
        seen = model.torch.values({model.source.name: guide}, names)
    wanted = {term.value: _vectors(seen[term.value], term.layer)[0] for _, term in terms if term.layer}

    def objective(values: Mapping[str, Tensor]) -> Tensor:
        found = [
            weight * _fit(_vectors(values[term.value], term.layer), wanted[term.value])
            for weight, term in terms
            if term.layer
        ]
        return torch.stack(found).sum(dim=0)

    return Goal(names, objective, f"{target.text} as in the guide")


def octaves(size: Sequence[int], count: int, factor: float, steps: int, least: int) -> list[Stage]:
    """Sizes from small to full, with as many steps at each.

    Args:
        size: of the picture.
        count: how many sizes, at most.
        factor: from one to the next.
        steps: at each.
        least: a size whose shortest axis is shorter is left out, except the full one.
    """
    from convlens.synthesis.loop import Stage

    stages = [Stage(tuple(size), steps)]
    for number in range(1, count):
        smaller = tuple(round(length / factor**number) for length in size)
        if min(smaller) < least:
            break
        stages.insert(0, Stage(smaller, steps))
    return stages


def handed_on(photo: Tensor) -> Enlarge:
    """What is done between two sizes: the dream's detail goes over to a fresh copy of the photo.

    The photo itself is so resampled once for each size, and loses nothing to being resampled again.

    Args:
        photo: pictures at their full size.
    """

    def enlarge(pictures: Tensor, stage: Stage) -> Tensor:
        detail = pictures - resample(photo, tuple(pictures.shape[2:]))
        return resample(photo, stage.size) + resample(detail, stage.size)

    return enlarge


def _own(term: Target, values: Mapping[str, Tensor]) -> Tensor:
    """What one term is, N."""
    if term.kind == "layer":
        flat = values[term.value].flatten(1)
        return (flat * flat).mean(dim=1) / 2
    found: Any = term.score(values)
    return torch.as_tensor(found)


def _vectors(value: Tensor, layer: Layer) -> Tensor:
    """A layer's feature vectors, N x places x channels."""
    assert layer.channel_axis is not None
    return value.movedim(layer.channel_axis, -1).flatten(1, -2) if value.ndim > 2 else value[:, None]


def _fit(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over places of the largest product with a row of ``wanted`` (places x channels), N."""
    flat = found.detach().flatten(0, 1)
    step = max(1, _AT_ONCE // len(wanted))
    best = torch.cat([(flat[at : at + step] @ wanted.T).argmax(dim=1) for at in range(0, len(flat), step)])
    return (found * wanted[best].view_as(found)).sum(dim=2).mean(dim=1)
