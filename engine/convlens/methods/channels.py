"""``channels``: the channels that an image excites most, or more than others do, and what each reacts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from convlens.registry import Field, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.units import Peaks
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.recording.reading import Recording


class ChannelsParameters(Parameters):
    """What ``channels`` can be told."""

    layer: str | None = Field(
        None,
        description="a layer by name or alias; by default the deepest whose units see less than the image, "
        "of a recording the deepest that was recorded",
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

    Against a recording, channels stand in the order of how unusual their value is: ``share``, N x top, is the
    share of the recorded images on which the channel stays below it (never told too large; exact where the
    value is among the strongest that were kept), and among equal ones ``ratio`` decides, N x top: the value
    over what one image of a hundred exceeds (0 where that is not above zero).
    """

    name = "channels"
    summary = "the channels that an image excites most, or more than others do, and what each reacts to"
    paper = Paper(
        "Zeiler & Fergus 2014; Springenberg et al. 2015",
        "figure 2; figure 3",
        "https://arxiv.org/abs/1412.6806",
    )
    kind = "crops"
    Parameters = ChannelsParameters
    gradients = True
    lowers = True
    recording = "may"

    def run(self, job: Job[ChannelsParameters]) -> Result:
        """One forward for the values, then one backward for each of the chosen units."""
        import numpy as np

        from convlens.attribution.layerwise import units as chosen
        from convlens.explained import explained_at
        from convlens.instrument.gradients import unit_gradients
        from convlens.pictures.colour import number

        model, array = job.model, job.images.array
        layer = _layer(model, job.parameters.layer, job.recording)
        start = chosen.before_rectifier(model, layer)
        peaks = chosen.layer_peaks(model, array, layer, job.batch_size)
        top = min(job.parameters.top, peaks.value.shape[1])
        order, unusual = _order(job.recording, layer, peaks)
        channel = order[:, :top]
        unusual = {name: np.take_along_axis(each, channel, axis=1) for name, each in unusual.items()}
        strength, drive = (np.take_along_axis(each, channel, axis=1) for each in (peaks.value, peaks.before))
        position = np.take_along_axis(peaks.place, channel[..., None], axis=1)
        units = chosen.unit_rows(layer, channel, position)
        signal = unit_gradients(
            model,
            array,
            start,
            units,
            job.parameters.rule,
            job.batch_size,
            job.advance,
            images=np.repeat(np.arange(len(array)), top),
        )
        signal = signal.reshape(len(array), top, *signal.shape[1:])
        extent = [array.shape[axis] for axis in model.source.spatial]
        boxes = np.asarray(
            [[chosen.seen(layer, place, extent) for place in each] for each in position.tolist()]
        )
        rows = tuple(
            {
                "image": name,
                "layer": layer.alias,
                "channel": int(channel[i, k]),
                "value": float(strength[i, k]),
                "before": float(drive[i, k]),
                "position": position[i, k].tolist(),
                **{name: float(each[i, k]) for name, each in unusual.items()},
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
                **unusual,
                **given_arrays(job),
            },
            units={
                "signal": "signal at the input",
                "value": "activation",
                "before": "activation before the rectifier",
                "channel": "index",
                "position": "index along the layer's spatial axes",
                "boxes": UNITS.get(model.source.kind, "pixels"),
                **{name: _UNITS[name] for name in unusual},
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
                        "labels": [
                            f"{channel[i, k]}: {number(float(strength[i, k]))}"
                            + (f", above {_percent(unusual['share'][i, k])}" if unusual else "")
                            for k in range(top)
                        ],
                        **words_of(job, i),
                    }
                    for i in range(len(array))
                ],
                "title": _title(layer, job.parameters.rule, job.recording),
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


_UNITS = {"share": "share of the recorded images", "ratio": "times what one image of a hundred exceeds"}


def _layer(model: Model, name: str | None, recording: Recording | None) -> Layer:
    """The layer asked for, or the deepest that can be: of a recording, of those that were recorded.

    Raises:
        LayerError: its units have no place in the input, or it was not recorded.
    """
    from convlens.attribution.layerwise.units import placed_layer
    from convlens.errors import LayerError

    if recording is None:
        return placed_layer(model, name)
    if name is not None:
        return placed_layer(model, recording.layers[recording.layer(name)].name)
    recorded = {layer.name for layer in recording.layers}
    usual = placed_layer(model, None)
    if usual.name in recorded:
        return usual
    found = [layer for layer in model.layers if layer.name in recorded and layer.field and layer.spatial_axes]
    if not found:
        raise LayerError(f"{recording.folder}: no layer was recorded whose units have a place in the input")
    return found[-1]


def _order(
    recording: Recording | None, layer: Layer, peaks: Peaks
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Channels in the order in which they are shown, N x channels, and what the recording says of each."""
    if recording is None:
        return peaks.order(), {}
    from convlens.recording.channels.unusual import ranked, share_below, times

    place = recording.layer(layer.name)
    tally = recording.tallies[place]
    share = share_below(tally, recording.strongest[place], peaks.value)
    ratio = times(peaks.value, tally.quantile(0.99))
    return ranked(share, ratio, peaks.value), {"share": share, "ratio": ratio}


def _percent(share: float) -> str:
    """A share that does not round up to all."""
    import math

    return f"{math.floor(1000 * share) / 10:g}%"


def _title(layer: Layer, rule: str, recording: Recording | None) -> str:
    if recording is None:
        return f"strongest channels of {layer.alias} ({rule})"
    count = recording.manifest["images"]
    return f"most unusual channels of {layer.alias}, and the share of {count:,} images below ({rule})"
