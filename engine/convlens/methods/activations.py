"""``activations``: every channel of a layer, for one image each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import shown

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model

_LISTED = 5


class ActivationsParameters(Parameters):
    """What ``activations`` can be told."""

    layer: str | None = Field(
        None, description="a layer by name or alias; the last one that keeps its place by default"
    )
    each: bool = Field(False, description="draw each channel by its own maximum instead of one scale for all")


@register
class Activations(Method[ActivationsParameters]):
    """The layer's value, N x channels x its spatial axes: ``activation`` (main), by onnxruntime.

    ``maximum`` and ``mean`` are taken over space, N x channels.
    """

    name = "activations"
    summary = "every channel of a layer as a small picture"
    paper = Paper("Yosinski et al. 2015", "section 2", "https://arxiv.org/abs/1506.06579")
    kind = "sprites"
    Parameters = ActivationsParameters

    def run(self, job: Job[ActivationsParameters]) -> Result:
        """Run every image once and read the layer."""
        import numpy as np

        model = job.model
        name = job.parameters.layer
        layer: Layer = model.layers.find(name) if name is not None else deepest(model)
        feeds = {model.source.name: job.images.array}
        value = model.runner.run(feeds, [layer.name], job.batch_size)[layer.name]
        if layer.channel_axis is not None and value.ndim > 2:
            value = np.moveaxis(value, layer.channel_axis, 1)
        flat = value.reshape(*value.shape[:2], -1) if value.ndim > 1 else value[:, None, None]
        maximum, mean = flat.max(axis=2), flat.mean(axis=2)
        rows = tuple(
            row
            for i, image in enumerate(job.images.names)
            for row in _strongest(image, layer, maximum[i], mean[i])
        )
        job.advance(1.0)
        return Result(
            method=self.name,
            kind=self.kind,
            main="activation",
            arrays={"activation": value, "maximum": maximum, "mean": mean},
            units={"activation": "activation", "maximum": "activation", "mean": "activation"},
            images=job.images.names,
            views=job.images.views,
            rows=rows,
            hints={"layer": layer.alias, "own_scale": job.parameters.each, **shown(job)},
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """The first rectifier and the last one that still knows where things are."""
        places = model.layers.placed()
        if not places:
            return ()
        text = "Every channel of a layer; bright is active, black is silent."
        chosen = {layer.alias: layer for layer in (places[0], deepest(model))}
        return tuple(
            Step("What the layers see", 50, f"layer {alias}", {"layer": alias}, text) for alias in chosen
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Channels that stay silent on every image given."""
        import numpy as np

        silent = np.flatnonzero((result.arrays["maximum"] <= 0).all(axis=0))
        count, layer = result.arrays["maximum"].shape[1], result.hints["layer"]
        if len(result.images) < 2 or len(silent) < 0.1 * count:
            return ()
        noun = "inputs" if "input" in result.hints else "photos"
        text = f"{len(silent)} of {count} channels of {layer} stay silent on all {len(result.images)} {noun}."
        evidence = f"their largest activation is zero; first ones: {', '.join(map(str, silent[:6]))}"
        return (Finding("note", text, evidence),)


def deepest(model: Model) -> Layer:
    """The last of ``Layers.placed``, the last layer where there is none."""
    found = model.layers.placed()
    layer: Layer = found[-1] if found else model.layers[-1]
    return layer


def _strongest(image: str, layer: Layer, maximum: Any, mean: Any) -> Sequence[dict[str, Any]]:
    order = sorted(range(len(maximum)), key=lambda c: (-float(maximum[c]), c))[:_LISTED]
    return [
        {
            "image": image,
            "layer": layer.alias,
            "channel": channel,
            "maximum": float(maximum[channel]),
            "mean": float(mean[channel]),
        }
        for channel in order
    ]
