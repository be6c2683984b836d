"""``spikes``: the channels that an image excites far more than other images do, and what they react to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from convlens import catalogue
from convlens.errors import CardError, ParameterError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model

_LISTED = 5


class SpikesParameters(Parameters):
    """What ``spikes`` can be told."""

    layer: str | None = Field(
        None,
        description="a layer by name or alias; by default the deepest whose units see less than the input",
    )
    background: str | None = Field(
        None,
        description="a folder of other inputs to compare with; the photos that come along by default, other "
        "inputs need one of arrays",
    )
    top: int = Field(6, ge=1, le=64, description="how many channels are shown, those that stand out most")
    level: float = Field(
        0.05, gt=0, le=0.5, description="chance that any channel of the layer is called a spike by accident"
    )
    as_set: bool = Field(False, description="test the images together, as one set, instead of each alone")
    synthetic: int = Field(
        0,
        ge=0,
        le=10000,
        description="of photos: steps of the search for the picture that each channel shown answers to most; "
        "none by default",
    )
    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "guided", description="what rectifiers do to the signal on its way back"
    )


@register
class Spikes(Method[SpikesParameters]):
    """Every channel's mean activation against a background of other inputs: which ones spike?

    ``z`` (main, N x channels) is how many standard errors the channel's mean over space (``mean``) lies
    above its mean on the background (``background``). ``spread`` is the background's standard deviation,
    drawn towards what is usual in the layer, since a few inputs say little of one channel's (Smyth 2004).
    ``spike`` says where z is above ``threshold``, N: what Student's distribution exceeds in one of all
    channels with a chance of ``level``. Inputs of the background that are the image itself are left out.
    With ``as_set`` the images are one sample, and all of these are the same for each of them.

    Of the ``top`` channels of largest z: ``channel``, and of its strongest unit ``value`` (the
    activation), ``position``, ``boxes`` (the part of the input it sees) and ``signal`` (what arrives at the
    input from it), as in ``channels``; with ``synthetic`` steps, ``synthetic`` is the picture that the
    channel answers to most, N x top x colours x height x width, from 0 to 1, as ``visualise`` finds it.
    """

    name = "spikes"
    summary = "the channels that an image excites far more than other images do"
    paper = Paper(
        "Graetz 2019; Smyth 2004",
        "How to visualize convolutional features in 40 lines of code; sections 4 and 6",
        "https://towardsdatascience.com/how-to-visualize-convolutional-features-in-40-lines-of-code-70b7d87b0030",
    )
    kind = "curves"
    Parameters = SpikesParameters
    gradients = True
    lowers = True

    def run(self, job: Job[SpikesParameters]) -> Result:
        """One forward an image and background input, then one backward for each channel that is shown."""
        import numpy as np

        from convlens.attribution.layerwise import units as chosen
        from convlens.attribution.sets.background import background, mean_of
        from convlens.explained import explained_at
        from convlens.instrument.gradients import unit_gradients

        model, array, given = job.model, job.images.array, job.parameters
        layer = chosen.placed_layer(model, given.layer)
        start = chosen.before_rectifier(model, layer)
        others = background(model, layer, given.background, job.batch_size)
        found, means = [], []
        for after, before in chosen.layer_values(model, array, layer, job.batch_size):
            found.append(chosen.peaks(after, before))
            means.append(mean_of(after))
        peaks = chosen.Peaks(
            *(np.concatenate([getattr(each, key) for each in found]) for key in ("value", "before", "place"))
        )
        mean = np.concatenate(means)
        tested = _tested(job, others, mean)
        top = min(given.top, mean.shape[1])
        channel = np.argsort(-tested["z"], axis=1, kind="stable")[:, :top]
        position = np.take_along_axis(peaks.place, channel[..., None], axis=1)
        signal = unit_gradients(
            model,
            array,
            start,
            chosen.unit_rows(layer, channel, position),
            given.rule,
            job.batch_size,
            job.advance,
            images=np.repeat(np.arange(len(array)), top),
        )
        extent = [array.shape[axis] for axis in model.source.spatial]
        boxes = [[chosen.seen(layer, place, extent) for place in each] for each in position.tolist()]
        arrays = {
            **tested,
            "mean": mean,
            "channel": channel,
            "value": np.take_along_axis(peaks.value, channel, axis=1),
            "position": position,
            "boxes": np.asarray(boxes),
            "signal": signal.reshape(len(array), top, *signal.shape[1:]),
            **given_arrays(job),
        }
        if given.synthetic:
            arrays["synthetic"] = _synthetic(job, layer, channel)
        return Result(
            method=self.name,
            kind=self.kind,
            main="z",
            arrays=arrays,
            units={
                "z": "standard errors above the background",
                "spike": "whether z is above the threshold",
                "threshold": "standard errors",
                "mean": "activation",
                "background": "activation",
                "spread": "activation",
                "channel": "index",
                "value": "activation",
                "position": "index along the layer's spatial axes",
                "boxes": UNITS.get(model.source.kind, "pixels"),
                "signal": "signal at the input",
                **({"synthetic": "0 black to 1 white"} if given.synthetic else {}),
                **given_units(job),
            },
            images=job.images.names,
            views=job.images.views,
            rows=_rows(job.images.names, layer, arrays),
            hints=_hints(job, layer, arrays, others.name),
            how={
                "explained_at": explained_at(model.graph, model.source).words(),
                "background": {
                    "name": others.name,
                    "inputs": len(others.means),
                    "unread": list(others.unread),
                },
            },
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """Once, at the layer that is chosen by default, where the photos that come along can go in."""
        from convlens.attribution.sets.background import FEWEST

        others = len(catalogue.photos()) - 1  # an image that is one of them is left out
        if not model.source.image or not model.layers.placed() or others < FEWEST:
            return ()
        try:
            _ = model.preprocess
        except CardError:
            return ()
        text = (
            "How strongly each channel of a layer answers on the average over the photo, and which of them "
            "answer far more than they do on the photos that come along. Below: what the strongest unit of "
            "the channels that stand out most sees, and what in it excites the unit."
        )
        return (Step("Which channels it excites more than other photos do", 65, "spikes", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """How many channels spike on each image, and which."""
        found = []
        layer, count = result.hints["layer"], result.array.shape[1]
        for index, name in enumerate(result.images):
            spike, z = result.arrays["spike"][index], result.array[index]
            order = sorted(spike.nonzero()[0].tolist(), key=lambda channel: -float(z[channel]))
            limit = f"above {result.arrays['threshold'][index]:.1f} standard errors"
            if not order:
                text = f"{name}: no channel of {layer} answers far more than it does on other inputs."
                evidence = f"the largest of {count} is {float(z.max()):.1f}; spikes are {limit}"
            else:
                text = f"{name}: {len(order)} of {count} channels of {layer} spike."
                first = ", ".join(f"{layer}:{each} at {float(z[each]):.1f}" for each in order[:_LISTED])
                evidence = f"{first}{' ...' if len(order) > _LISTED else ''}; spikes are {limit}"
            found.append(Finding("note", text, evidence, index))
        return found


def _synthetic(job: Job[SpikesParameters], layer: Layer, channel: NDArray[Any]) -> NDArray[Any]:
    """The picture of each channel that is shown, N x top x colours x height x width."""
    import numpy as np

    from convlens.synthesis.channels import channel_pictures

    model, given = job.model, job.parameters
    if not model.source.image:
        raise ParameterError(
            f"synthetic pictures are drawn of photos, and the model takes {model.source.kind}; leave "
            "synthetic out, and give a channel to visualise"
        )
    numbers, place = np.unique(channel, return_inverse=True)
    made = channel_pictures(model, layer, numbers.tolist(), given.synthetic, job.seed, job.batch_size)
    return np.asarray(made[place.reshape(channel.shape)])


def _tested(job: Job[SpikesParameters], others: Any, mean: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Each image, or all of them as one sample, against the background."""
    import numpy as np

    from convlens.attribution.sets.moderated import reference

    array, names, given = job.images.array, job.images.names, job.parameters
    keys = ("z", "spike", "threshold", "background", "spread")
    columns: list[tuple[Any, ...]] = []
    groups = [slice(0, len(array))] if given.as_set else [slice(i, i + 1) for i in range(len(array))]
    for group in groups:
        held = reference(others.without(array[group], "the set" if given.as_set else names[group][0]))
        count = len(array[group])
        z, threshold = held.score(mean[group].mean(axis=0), count), held.threshold(given.level)
        columns += [(z, z > threshold, np.float64(threshold), held.mean, held.spread)] * count
    return {key: np.stack(column) for key, column in zip(keys, zip(*columns, strict=True), strict=True)}


def _rows(names: Sequence[str], layer: Layer, arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, Any], ...]:
    """The channels that are shown, each as a target that any other method takes."""
    return tuple(
        {
            "image": name,
            "target": f"{layer.alias}:{channel}",
            "spike": bool(arrays["spike"][i, channel]),
            "z": float(arrays["z"][i, channel]),
            "mean": float(arrays["mean"][i, channel]),
            "background": float(arrays["background"][i, channel]),
            "position": arrays["position"][i, k].tolist(),
            "box": arrays["boxes"][i, k].tolist(),
        }
        for i, name in enumerate(names)
        for k, channel in enumerate(arrays["channel"][i].tolist())
    )


def _hints(
    job: Job[SpikesParameters], layer: Layer, arrays: dict[str, NDArray[Any]], name: str
) -> dict[str, Any]:
    """Two pictures an image: the channels as stems, and the units of those that stand out."""
    whole = job.parameters.as_set
    marks = {
        "marks": "spike",
        "marks_label": "spikes",
        "kind": "stem",
        "x_label": f"channel of {layer.alias}",
    }
    first = {
        **marks,
        "array": "mean",
        "background": "background",
        "background_label": f"mean on {name}",
        "title": f"mean activation{' of the set' if whole else ''}",
        "y_label": "activation, mean over space",
    }
    second = {
        **marks,
        "array": "z",
        "baseline": [
            {"y": "threshold", "label": f"reached by accident in one layer of {1 / job.parameters.level:.3g}"}
        ],
        "title": "how far above the background",
        "y_label": "standard errors",
    }
    title = f"mean activation of every channel of {layer.alias}"
    return {
        "layer": layer.alias,
        "layout": job.model.source.layout,
        "channels": job.model.colours,
        "curves": [first, second],
        **({"over": "images"} if whole else {}),
        **shown(job),
        "parts": [
            {"kind": "curves", "hints": {"title": title}},
            {
                "kind": "crops",
                "main": "signal",
                "hints": {
                    "title": f"channels of {layer.alias} that stand out most ({job.parameters.rule})",
                    **({"made": "synthetic"} if job.parameters.synthetic else {}),
                },
            },
        ],
        "each": [
            {
                "labels": [
                    f"{channel}: {'' if spike[channel] else 'no spike, '}z {z[channel]:.1f}"
                    for channel in own.tolist()
                ],
                **words_of(job, index),
            }
            for index, (own, spike, z) in enumerate(
                zip(arrays["channel"], arrays["spike"], arrays["z"], strict=True)
            )
        ],
    }
