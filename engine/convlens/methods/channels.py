"""``channels``: the channels that an image excites most, and the pattern that each one reacts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from convlens.errors import LayerError
from convlens.registry import Field, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model


_OPEN = 224  # the length that an open axis is taken to have


class ChannelsParameters(Parameters):
    """What ``channels`` can be told."""

    layer: str | None = Field(
        None,
        description="a layer by name or alias; by default the deepest whose units see less than the image",
    )
    top: int = Field(6, ge=1, le=64, description="how many channels of each image")
    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "guided", description="what rectifiers do to the signal on its way back"
    )


@register
class Channels(Method[ChannelsParameters]):
    """For each image the ``top`` channels by their strongest unit, each with that unit's signal.

    ``signal`` (main) is what arrives at the input from the strongest unit alone, everything else in
    the layer left out: N x top x the input's shape. Where the layer is a rectifier's, the signal
    starts before it, and units of equal activation are ranked by their value there: units that a
    ReLU6 has saturated, whose own gradient is zero, still show what excites them. ``channel``,
    ``value`` (the activation), ``before`` (its value before the rectifier) and ``position`` say which
    unit it is, ``boxes`` which part of the input it sees (top, left, bottom, right, in pixels; of a
    signal 0, first, 1, after; of a volume three starts, then three ends). Of tokens, ``signal`` is what
    arrives at their embedding.
    """

    name = "channels"
    summary = "the channels that an image excites most, with the pattern each reacts to"
    paper = Paper(
        "Zeiler & Fergus 2014; Springenberg et al. 2015",
        "figure 2; figure 3",
        "https://arxiv.org/abs/1412.6806",
    )
    kind = "crops"
    Parameters = ChannelsParameters
    gradients = True

    def run(self, job: Job[ChannelsParameters]) -> Result:
        """One forward for the values, then one backward for each of the chosen units."""
        import numpy as np

        from convlens.explained import explained_at
        from convlens.instrument.gradients import unit_gradients
        from convlens.pictures.colour import number

        model, array = job.model, job.images.array
        layer = _layer(model, job.parameters.layer)
        start = _before_rectifier(model, layer)
        names = list(dict.fromkeys((layer.name, start.name)))
        values = model.runner.run({model.source.name: array}, names, job.batch_size)
        axis = layer.channel_axis
        assert axis is not None
        after, before = (np.moveaxis(values[name], axis, 1) for name in (layer.name, start.name))
        space = after.shape[2:]
        after, before = (value.reshape(*value.shape[:2], -1) for value in (after, before))
        top = min(job.parameters.top, after.shape[1])
        strongest = after.max(axis=2, keepdims=True)
        tied = np.where(after == strongest, before, -np.inf)
        order = np.lexsort((-tied.max(axis=2), -strongest[..., 0]), axis=1)
        channel = order[:, :top]
        place = np.take_along_axis(tied.argmax(axis=2), channel, axis=1)
        strength = np.take_along_axis(strongest[..., 0], channel, axis=1)
        drive = np.take_along_axis(tied.max(axis=2), channel, axis=1)
        position = np.stack(np.unravel_index(place, space), axis=-1)
        units = np.concatenate([channel[..., None], position], axis=-1).reshape(len(array) * top, -1)
        units = units[:, _order(axis, values[layer.name].ndim)]
        signal = unit_gradients(
            model,
            np.repeat(array, top, axis=0),
            start,
            units,
            job.parameters.rule,
            job.batch_size,
            job.advance,
        )
        signal = signal.reshape(len(array), top, *signal.shape[1:])
        extent = [array.shape[axis] for axis in model.source.spatial]
        boxes = np.zeros((len(array), top, 2 * max(2, len(extent))), np.int64)
        for i in range(len(array)):
            for k in range(top):
                spans = _seen(layer, axis, position[i, k].tolist(), extent)
                spans = ((0, 1), *spans) if len(spans) == 1 else spans
                boxes[i, k] = [*(first for first, _ in spans), *(after for _, after in spans)]
        rows = tuple(
            {
                "image": name,
                "layer": layer.alias,
                "channel": int(channel[i, k]),
                "value": float(strength[i, k]),
                "before": float(drive[i, k]),
                "position": position[i, k].tolist(),
            }
            for i, name in enumerate(job.images.names)
            for k in range(top)
        )
        return Result(
            method=self.name,
            kind=self.kind,
            main="signal",
            arrays={
                "signal": signal,
                "channel": channel,
                "value": strength,
                "before": drive,
                "position": position,
                "boxes": boxes,
                **given_arrays(job),
            },
            units={
                "signal": "signal at the input",
                "value": "activation",
                "before": "activation before the rectifier",
                "channel": "index",
                "position": "index along the layer's spatial axes",
                "boxes": UNITS.get(model.source.kind, "pixels"),
                **given_units(job),
            },
            images=job.images.names,
            views=job.images.views,
            rows=rows,
            hints={
                "layout": model.source.layout,
                "channels": model.colours,
                **shown(job),
                "each": [
                    {
                        "labels": [f"{channel[i, k]}: {number(float(strength[i, k]))}" for k in range(top)],
                        **words_of(job, i),
                    }
                    for i in range(len(array))
                ],
                "title": f"strongest channels of {layer.alias} ({job.parameters.rule})",
            },
            how={"explained_at": explained_at(model.graph, model.source).words()},
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """One step, at the layer that is chosen by default."""
        if not model.source.spatial or not model.layers.placed():
            return ()
        what = "photo" if model.source.image else "input"
        where = (
            "Above: the part of the photo that the strongest unit sees. Below: what in it excites the unit."
        )
        if not model.source.image:
            where = "The box is what the strongest unit sees, the colours are what in it excites the unit."
        number = "The number is the channel and its activation."
        text = f"The channels that each {what} excites most. {where} {number}"
        return (Step("What its strongest channels react to", 60, "strongest channels", {}, text),)


def _layer(model: Model, name: str | None) -> Layer:
    """The layer asked for; without one the deepest whose units see less than the whole image."""
    if name is not None:
        layer = model.layers.find(name)
        if layer.field is None or not layer.spatial_axes:
            raise LayerError(
                f"layer {layer.alias!r} keeps no place for its units; expected one before the dense part"
            )
        return layer
    known = model.layers.placed()
    if not known:
        raise LayerError("the model has no layer whose units have a place in the image")
    size = [s or _OPEN for s in model.source.size]
    partial = [
        layer
        for layer in known
        if layer.field and all(s is not None and s < n for s, n in zip(layer.field.size, size, strict=True))
    ]
    return partial[-1] if partial else known[0]


def _before_rectifier(model: Model, layer: Layer) -> Layer:
    """The layer that a rectified one is made of; a layer that is no rectifier's is its own."""
    from convlens.graph.rectifiers import find_rectifiers

    rectifier = find_rectifiers(model.graph).get(layer.name)
    source = model.layers.get(rectifier.source) if rectifier is not None else None
    return source if source is not None and source.spatial_axes == layer.spatial_axes else layer


def _seen(
    layer: Layer, channel_axis: int, position: Sequence[int], extent: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """What the unit at ``position`` sees along each of the input's axes; all of it where that is not known.

    A position counts every axis of the layer but batch and channels, also one that an exporter put in.
    """
    rest = [axis for axis in range(1, len(position) + 2) if axis != channel_axis]
    if layer.field is None or len(layer.spatial_axes) != len(extent):
        return tuple((0, size) for size in extent)
    return layer.field.box([position[rest.index(axis)] for axis in layer.spatial_axes], extent)


def _order(channel_axis: int, rank: int) -> list[int]:
    """Columns of (channel, position...) in the order of the layer's axes after the batch."""
    rest = iter(range(1, rank - 1))
    return [0 if axis == channel_axis else next(rest) for axis in range(1, rank)]
