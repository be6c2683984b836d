"""What a painted photo costs: how far a loss network finds it from the photo's content and from a style.

Johnson, Alahi and Fei-Fei 2016, section 3.2, with both distances relative to the size of what is sought, so
that one set of weights suits layers and networks of any scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convlens.errors import LayerError, TargetError, UnsupportedError
from convlens.graph.layers import shape_text
from convlens.graph.source import KINDS
from convlens.instrument.session import Session
from convlens.synthesis.canvas import Canvas
from convlens.synthesis.regularise import tv
from convlens.synthesis.styles import gram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model

PARTS = ("content", "style", "tv")
"""What the loss is made of, in the order of :meth:`Loss.of`."""

_SCALES = 4  # halvings of the picture at which style is looked at by default
_KEPT = 1  # which of them, from 0, keeps the content
_TINY = 1e-30  # keeps the relative error of a layer that is silent on a photo finite


@dataclass(frozen=True)
class Weights:
    """How much each part of the loss counts."""

    content: float
    style: float
    tv: float


class Loss:
    """The loss of one painted photo at a time, and its slope through the network."""

    def __init__(
        self,
        model: Model,
        canvas: Canvas,
        style: NDArray[Any],
        content_layer: Layer,
        style_layers: Sequence[Layer],
        weights: Weights,
    ) -> None:
        """Measure the style once.

        Args:
            model: the loss network.
            canvas: what a picture is.
            style: the picture whose style is sought, colours x height x width from 0 to 1.
            content_layer: where painted photo and photo shall be alike.
            style_layers: where Gram matrices shall be.
            weights: of the parts.

        Raises:
            LayerError: a layer has no Gram matrix.
            TargetError: the style is silent in a layer, so that nothing can be learnt from it.
        """
        gram.check(style_layers)
        self.model = model
        self.canvas = canvas
        self.content_layer = content_layer
        self.style_layers = tuple(style_layers)
        self.weights = weights
        with torch.no_grad():
            shown = torch.from_numpy(style[None]).to(device=self.device, dtype=getattr(torch, canvas.dtype))
            self.wanted = gram.grams_of(self._values(shown, self._styled), self.style_layers)
        for layer, wanted in zip(self.style_layers, self.wanted, strict=True):
            if not bool(torch.isfinite(wanted).all()) or not bool(wanted.any()):
                raise TargetError(
                    f"layer {layer.alias!r} is silent on the style or gives numbers that are not finite; "
                    "choose other layers (--style-layer)"
                )

    @property
    def device(self) -> torch.device:
        """Where the loss network computes."""
        graph = self.model.instrument(self.canvas.dtype)
        return next((held.device for held in chain(graph.parameters(), graph.buffers())), torch.device("cpu"))

    @property
    def _styled(self) -> list[str]:
        return [layer.name for layer in self.style_layers]

    def of(self, painted: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a number that can be differentiated, and its :data:`PARTS`, unweighted.

        The content's part is the squared distance of the features over their own square, the style's the
        mean of :func:`convlens.synthesis.styles.gram.apart` over the layers, the last the mean total
        variation.

        Args:
            painted: 1 x colours x height x width from 0 to 1.
            photo: the same photo as it was.

        Raises:
            TargetError: a layer has no gradient.
        """
        with torch.no_grad():
            kept = self._values(photo, [self.content_layer.name])[self.content_layer.name]
        found = self._values(painted, [self.content_layer.name, *self._styled])
        if painted.requires_grad and not all(value.requires_grad for value in found.values()):
            raise TargetError(
                "a layer of the loss has no gradient; choose layers before the step that cuts it"
            )
        value = found[self.content_layer.name]
        content = (value - kept).square().sum() / kept.square().sum().clamp(min=_TINY)
        grams = gram.grams_of(found, self.style_layers)
        apart = [gram.apart(own, wanted)[0] for own, wanted in zip(grams, self.wanted, strict=True)]
        style = torch.stack(apart).mean()
        variation = tv(painted)[0]
        total = self.weights.content * content + self.weights.style * style + self.weights.tv * variation
        return total, torch.stack([content, style, variation]).detach()

    def _values(self, picture: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Values of the loss network for one picture, in the picture's own precision.

        Files of a fixed batch see it several times; those in half precision get it so.
        """
        graph, name = self.model.instrument(self.canvas.dtype), self.model.source.name
        fed = graph.working(self.canvas.feed(picture), name)
        rows = self.model.runner.fixed_batch or 1
        if rows > 1:
            fed = fed.expand(rows, *fed.shape[1:])
        if fed.ndim == 4 and self.canvas.axes == (0, 1, 2, 3):
            fed = fed.contiguous(memory_format=torch.channels_last)
        with Session(graph, source=name) as session:
            found = session.collect({name: fed}, list(dict.fromkeys(names)))
        return {key: value[:1].to(picture.dtype) for key, value in found.items()}


def check_photos(model: Model) -> None:
    """Refuse a loss network that takes no photo.

    Raises:
        UnsupportedError: it takes something else.
    """
    source = model.source
    if not source.image:
        raise UnsupportedError(
            f"input {source.name!r} ({shape_text(source.shape)}) takes {KINDS[source.kind]}; a style is "
            "learnt with a network that takes photos"
        )


def layers_for(model: Model, content: str | None, style: Sequence[str]) -> tuple[Layer, list[Layer]]:
    """The layers of the loss: those named, else the last rectified one at each of the first four scales.

    Content is looked at in the second of them and style in all, which in VGG16 is relu2_2, and relu1_2,
    relu2_2, relu3_3 and relu4_3. A deeper one keeps less of the photo.

    Raises:
        LayerError: there is no such layer, or none whose units have a place.
    """
    chosen = [model[name] for name in style]
    if chosen and content is not None:
        return model[content], chosen
    last: dict[tuple[float, ...], Layer] = {}
    for layer in model.layers.placed():
        if layer.field is not None and layer.channel_axis is not None:
            last[layer.field.stride] = layer
    scales = [last[stride] for stride in sorted(last)][:_SCALES]
    if not scales:
        raise LayerError(
            "the model has no layer whose units have a place; style and content are looked at in such layers"
        )
    return model[content] if content is not None else scales[min(_KEPT, len(scales) - 1)], chosen or scales
