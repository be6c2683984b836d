"""A goal of two halves: a layer's values as in one photo, Gram matrices as in others.

The first half is the content loss of Gatys, Ecker & Bethge 2016 (section 2.1), the second the style loss
(section 2.2) of one or several samples, each with its weight and, where it has one, its own part of the
picture. Textures are the second half alone (Gatys, Ecker & Bethge 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convlens.synthesis.objectives import Goal
from convlens.synthesis.styles.gram import apart, grams_of, relative

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas


@dataclass(frozen=True)
class Sample:
    """The texture of one photo, or of one photo a picture.

    Attributes:
        grams: a Gram matrix a layer, N (or 1, for all) x channels x channels each.
        weight: how much it counts among the samples.
        mask: how much each place of the picture is to be like it: the picture's spatial axes; None for
            all alike.
    """

    grams: Sequence[Tensor]
    weight: float = 1.0
    mask: Tensor | None = None


@dataclass(frozen=True)
class Match:
    """What pictures are to match.

    Attributes:
        layers: whose Gram matrices count.
        shares: weight of each.
        samples: whose they should be.
        content: layers whose values themselves count.
        values: what those should be, N x ... each.
        portions: weight of each.
    """

    layers: Sequence[Layer]
    shares: Sequence[float]
    samples: Sequence[Sample]
    content: Sequence[Layer] = ()
    values: Sequence[Tensor] = ()
    portions: Sequence[float] = field(default=())

    @property
    def names(self) -> list[str]:
        """ONNX values that are read."""
        return list(dict.fromkeys(layer.name for layer in (*self.layers, *self.content)))

    def style_losses(self, values: Mapping[str, Tensor]) -> Tensor:
        """How far Gram matrices are from each sample's at each layer: N x samples x layers.

        In shares of the sample's own matrix, see :func:`convlens.synthesis.styles.gram.apart`.
        """
        whole: list[Tensor] | None = None
        found = []
        for sample in self.samples:
            if sample.mask is None:
                grams = whole = whole or grams_of(values, self.layers)
            else:
                grams = grams_of(values, self.layers, sample.mask)
            losses = [apart(own, wanted) for own, wanted in zip(grams, sample.grams, strict=True)]
            found.append(torch.stack(losses, dim=1))
        return torch.stack(found, dim=1)

    def content_losses(self, values: Mapping[str, Tensor]) -> Tensor:
        """How far layers are from what they should be: N x content layers.

        The sum of squared differences over the sum of squares of what they should be.
        """
        found = []
        for layer, wanted in zip(self.content, self.values, strict=True):
            found.append(relative((values[layer.name] - wanted).flatten(1), wanted.flatten(1)))
        return torch.stack(found, dim=1)

    def loss(self, values: Mapping[str, Tensor]) -> Tensor:
        """All of it, weighted: N."""
        total: Tensor | None = None
        if self.samples:
            losses = self.style_losses(values)
            weights = losses.new_tensor([sample.weight for sample in self.samples])
            total = torch.einsum("nsl,s,l->n", losses, weights, losses.new_tensor(self.shares))
        if self.content:
            losses = self.content_losses(values)
            kept = losses @ losses.new_tensor(self.portions)
            total = kept if total is None else total + kept
        assert total is not None
        return total

    def goal(self, text: str) -> Goal:
        """The loss, downwards."""

        def objective(values: Mapping[str, Tensor]) -> Tensor:
            return -self.loss(values)

        return Goal(self.names, objective, text)


def seen(model: Model, canvas: Canvas, pictures: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Values of the model for pictures, by ONNX name; no gradient."""
    with torch.no_grad():
        graph = model.instrument(canvas.dtype)
        return graph.values({model.source.name: canvas.feed(pictures)}, list(names))
