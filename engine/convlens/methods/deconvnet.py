"""``deconvnet``: the strongest activations of a layer's channels, projected back onto the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from convlens.channels import ALL, check_channels, counted_channels
from convlens.errors import LayerError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.units import Peaks
    from convlens.graph.layers import Layer

_NONE = -1  # the image of a unit that there is not


def _numbers(value: Any) -> Any:
    """``all``, or channels by number, each named once: a row of the result is of a channel."""
    if value is None:
        return None
    found = counted_channels(value)
    if found is None:
        return ALL
    again = [number for number, times in Counter(found).items() if times > 1]
    if again:
        raise ValueError(f"channel {again[0]} is named more than once; name it once")
    return found


class DeconvnetParameters(Parameters):
    """What ``deconvnet`` can be told."""

    layer: str | None = Field(
        None,
        description="a layer by name or alias; by default the deepest whose units see less than the image",
    )
    channel: Annotated[tuple[int, ...] | Literal["all"] | None, BeforeValidator(_numbers)] = Field(
        None, description="channels by their numbers (3,17,40-43 or all); the strongest by default"
    )
    top: int = Field(9, ge=1, le=512, description="how many channels where none are named")
    units: int = Field(9, ge=1, le=100, description="how many units of a channel, over all images")
    per_image: int | None = Field(
        None,
        ge=1,
        le=100,
        description="how many of them one image may give; by default as few as are needed",
    )
    unpool: Literal["add", "last"] = Field(
        "add",
        description="what becomes of signals that overlapping pooling windows send to one place: they add, "
        "as in a gradient, or the last one stands, as where each is written to its place in turn",
    )


@register
class Deconvnet(Method[DeconvnetParameters]):
    """For each channel of a layer its strongest units over all images, each projected back to the input.

    As in the paper, everything else in the layer is set to zero, the unit's own activation is sent back
    through the switches of max pooling, rectifiers that let positive signal pass, and transposed filters.
    ``reconstruction`` (main) is what arrives at the input, channels x units x the input's shape; units of
    a channel from the strongest on. ``image`` says which image each is of (counted from 0, -1 where there
    is no further unit with an activation above zero), ``activation`` how strong it is, ``position`` where
    it lies, ``boxes`` which part of the input it sees (top, left, bottom, right, in pixels; of a signal 0,
    first, 1, after; of a volume three starts, then three ends). ``channel`` holds the channels' numbers.
    All of these are of the images together; ``peak`` is the strongest activation of each of the channels
    in each image, N x channels. Where one image gives several units, none lies within another's reach,
    half of what a unit sees. Of tokens, ``reconstruction`` is what arrives at their embedding.
    """

    name = "deconvnet"
    summary = "what in the images drives the strongest units of a layer's channels, by Zeiler and Fergus"
    paper = Paper("Zeiler & Fergus 2014", "sections 2.1 and 4.1, figure 2", "https://arxiv.org/abs/1311.2901")
    kind = "montage"
    Parameters = DeconvnetParameters
    gradients = True
    lowers = True
    together = True

    def run(self, job: Job[DeconvnetParameters]) -> Result:
        """Two forwards an image, the first for the activations, then one backward a unit."""
        import numpy as np

        from convlens.attribution.layerwise.projected import projected, switches
        from convlens.attribution.layerwise.units import layer_peaks, placed_layer, seen
        from convlens.explained import explained_at
        from convlens.instrument.unpooling import last_stands

        model, array, settings = job.model, job.images.array, job.parameters
        layer = placed_layer(model, settings.layer)
        peaks = layer_peaks(model, array, layer, job.batch_size)
        channel = _channels(peaks, layer, settings)
        units = _units(job, layer, peaks, channel)
        kept = units["image"] != _NONE
        if not kept.any():
            asked = ", ".join(map(str, channel.tolist()[:9]))
            raise LayerError(
                f"channel{'s' * (len(channel) > 1)} {asked} of {layer.alias} never fire"
                f"{'s' * (len(channel) == 1)} on these images, so there is nothing to project back; "
                "leave --channel out for the strongest ones"
            )
        count, extent = kept.shape[1], [array.shape[axis] for axis in model.source.spatial]
        named = channel[:, None].repeat(count, axis=1)
        boxes = np.zeros((*kept.shape, 2 * max(2, len(extent))), np.int64)
        boxes[kept] = [seen(layer, place, extent) for place in units["position"][kept].tolist()]
        signal = projected(
            model,
            array,
            layer,
            named[kept],
            units["position"][kept],
            units["activation"][kept],
            "deconvnet",
            job.batch_size,
            job.advance,
            images=units["image"][kept],
            **({"prepare": last_stands} if settings.unpool == "last" else {}),
        )
        found = np.zeros((*kept.shape, *signal.shape[1:]), signal.dtype)
        found[kept] = signal
        names = job.images.names
        rows = tuple(
            {
                "layer": layer.alias,
                "channel": int(channel[k]),
                "unit": u + 1,
                "image": names[units["image"][k, u]],
                "activation": float(units["activation"][k, u]),
                "position": units["position"][k, u].tolist(),
            }
            for k, u in zip(*(each.tolist() for each in kept.nonzero()), strict=True)
        )
        return Result(
            method=self.name,
            kind=self.kind,
            main="reconstruction",
            arrays={
                "reconstruction": found,
                "channel": channel,
                **units,
                "boxes": boxes,
                "peak": peaks.value[:, channel],
                **given_arrays(job),
            },
            units={
                "reconstruction": "signal at the input",
                "channel": "index",
                "image": "index",
                "activation": "activation",
                "position": "index along the layer's spatial axes",
                "boxes": UNITS.get(model.source.kind, "pixels"),
                "peak": "activation",
                **given_units(job),
            },
            images=names,
            views=job.images.views,
            rows=rows,
            hints={
                "layout": model.source.layout,
                "channels": model.colours,
                "layer": layer.alias,
                "switches": switches(model, layer),
                "each": [dict(words_of(job, i)) for i in range(len(array))],
                **shown(job),
            },
            how={"explained_at": explained_at(model.graph, model.source).words()},
            shared=("reconstruction", "channel", *units, "boxes"),
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Channels that nothing excites, and nets in which no switch remembers where things were."""
        from convlens.attribution.layerwise.projected import without_switches

        layer, found = result.hints["layer"], []
        if not result.hints["switches"] and len(result.rows) > 1:
            found.append(Finding("note", *without_switches(layer)))
        silent = [
            int(channel)
            for channel, images in zip(result.arrays["channel"], result.arrays["image"], strict=True)
            if (images == _NONE).all()
        ]
        if not silent:
            return found
        listed = ", ".join(map(str, silent[:8])) + (", ..." if len(silent) > 8 else "")
        have = "has" if len(silent) == 1 else "have"
        text = (
            f"{len(silent)} of the channels of {layer} {have} no unit with an activation above zero, so "
            "nothing is reconstructed."
        )
        evidence = f"number {listed}; images: {len(result.images)}"
        return [*found, Finding("note", text, evidence)]


def _channels(peaks: Peaks, layer: Layer, settings: DeconvnetParameters) -> NDArray[Any]:
    """The channels asked for, else those with the strongest units of all images."""
    import numpy as np

    total = peaks.value.shape[1]
    if settings.channel == ALL:
        return np.arange(total)
    if settings.channel is not None:
        check_channels(settings.channel, layer.alias, total)
        return np.asarray(settings.channel)
    best = np.lexsort((-peaks.before, -peaks.value), axis=0)[0]
    value, before = (np.take_along_axis(each, best[None], axis=0)[0] for each in (peaks.value, peaks.before))
    return np.lexsort((-before, -value))[: min(settings.top, total)]


def _units(
    job: Job[DeconvnetParameters], layer: Layer, peaks: Peaks, channel: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """The strongest units of each channel over all images, channels x units, from the strongest on."""
    import numpy as np

    from convlens.attribution.layerwise.units import layer_values, several_peaks

    settings, count = job.parameters, len(job.images)
    each = settings.per_image or -(-settings.units // count)
    value, drive, place = (
        peaks.value[:, channel, None],
        peaks.before[:, channel, None],
        peaks.place[:, channel],
    )
    place = place[:, :, None]
    if each > 1:
        reach = _reach(layer, peaks.place.shape[-1])
        parts = [
            several_peaks(one[channel], before[channel], each, reach)
            for after, drives in layer_values(job.model, job.images.array, layer, job.batch_size)
            for one, before in zip(after, drives, strict=True)
        ]
        value, drive, place = (np.stack(column) for column in zip(*parts, strict=True))
    taken = min(settings.units, count * value.shape[2])
    flat = [np.moveaxis(a, 1, 0).reshape(len(channel), -1, *a.shape[3:]) for a in (value, drive, place)]
    order = np.lexsort((-flat[1], -flat[0]), axis=1)[:, :taken]
    activation = np.take_along_axis(flat[0], order, axis=1)
    position = np.take_along_axis(flat[2], order[..., None], axis=1)
    fires = activation > 0
    return {
        "image": np.where(fires, order // value.shape[2], _NONE),
        "activation": np.where(fires, activation, 0.0).astype(peaks.value.dtype),
        "position": np.where(fires[..., None], position, 0),
    }


def _reach(layer: Layer, axes: int) -> list[int]:
    """Half of what a unit sees, in units, along each of the layer's axes but batch and channels."""
    rest = [axis for axis in range(1, axes + 2) if axis != layer.channel_axis]
    found = [1] * axes
    assert layer.field is not None
    for axis, size, stride in zip(layer.spatial_axes, layer.field.size, layer.field.stride, strict=False):
        if size is not None and stride > 0:
            found[rest.index(axis)] = max(1, round(size / stride / 2))
    return found
