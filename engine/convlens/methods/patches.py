"""``patches``: what excites channels most in a whole data set, beside its reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from convlens.registry import Close, Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.recording.strongest.patches import Places

_USUAL = 9  # channels of a layer that nobody counted, as many as stand on one sheet


class PatchesParameters(Parameters):
    """What ``patches`` can be told."""

    channels: Annotated[
        tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
    ] = Field(
        (),
        description="channels like relu3_1:17, several like relu3_1:17,40, or a layer as a whole; by default "
        "some of up to three layers whose units see a sixth, a third and two thirds of the input",
    )
    top: int = Field(9, ge=1, le=100, description="patches of each channel, as many as were recorded at most")
    rule: Literal["deconvnet", "guided", "plain", "none"] = Field(
        "deconvnet",
        description="how units are projected back to the input; none makes patches alone and is much faster",
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=100000,
        description=f"channels of a layer that is asked for as a whole; {_USUAL} by default, and all of them "
        "for photos where nothing is projected back",
    )
    order: Literal["selective", "strongest", "number"] = Field(
        "selective",
        description="which channels of a whole layer come first: those that stand out most from what they "
        "usually do, in standard deviations, those with the largest activation, or the first",
    )


@register
class Patches(Method[PatchesParameters]):
    """The strongest patches of channels over a whole data set, beside the projection of each to the input.
    Channels are named like ``relu3_1:17``, several like ``relu3_1:17,40``, or a layer as a whole; without
    any, some of up to three layers are taken whose units see a sixth, a third and two thirds of the input.

    For each channel the recorded places are read again from the data set, one an image, and what the unit
    there sees is cut out; the unit alone is projected back to the input, everything else in its layer set
    to zero, and cut to the same window. Windows are as large as what a unit of the layer sees, with the unit
    in the middle, also where they reach over the edge of the input: outside, photos are light grey (238), all
    else is 0. Channels of all layers stand one after another (C of them), places from the strongest on.

    ``activation`` (main): of each place as it was recorded, C x top, and ``again`` of the image that was read
    again; 0 where no further image excites the channel. ``image``: number of the image in the data set,
    C x top, -1 for none. ``position``: index along the layer's axes but batch and channels, C x top x axes.
    ``boxes``: the part of the input that the unit sees (top, left, bottom, right, in pixels; of a signal 0,
    first, 1, after; of a volume three starts, then three ends), and ``windows`` the same, not cut at the
    edge. ``layer`` and ``channel``: numbers, C; layers are counted as they were recorded. For each layer
    LAYER with c of the channels, ``patches_LAYER``: c x top x height x width x colours of 8 bits for
    photos, else as the model takes it, and ``reconstruction_LAYER``: c x top x the same window of what
    arrives at the input (of tokens at their embedding), unless the rule is ``none``.
    """

    name = "patches"
    summary = "what excites channels most in a whole data set, beside its reconstructions"
    paper = Paper("Zeiler & Fergus 2014", "figure 2", "https://arxiv.org/abs/1311.2901")
    kind = "patches"
    Parameters = PatchesParameters
    preview: ClassVar[Mapping[str, Any]] = {"top": 2, "limit": 2}
    images = False
    gradients = True
    recording = "must"
    asks = "channels"

    def run(self, job: Job[PatchesParameters]) -> Result:
        """One forward an image that is among the strongest, and one backward a place."""
        import numpy as np

        from convlens.attribution.layerwise.projected import switches
        from convlens.explained import explained_at
        from convlens.recording.strongest.patches import NONE, cut_out, places

        settings, model, recording = job.parameters, job.model, job.recorded
        chosen, counts = _chosen(job)
        rule = None if settings.rule == "none" else settings.rule
        top = min(settings.top, recording.manifest["plan"]["k"])
        found = [
            places(recording, number, model.layers.find(recording.layers[number].name), channels, top)
            for number, channels in chosen
        ]
        names = cut_out(model, recording, found, rule, job.batch_size, job.advance)
        parts, sheets, first = {}, [], 0
        for one, (number, channels), count in zip(found, chosen, counts, strict=True):
            sheet = {
                "layer": one.layer.alias,
                "patches": f"patches_{one.layer.alias}",
                "first": first,
                "after": first + len(channels),
                "of": recording.layers[number].channels,
                "whole": count,
                "switches": switches(model, one.layer) if rule else 0,
                **_words(job, one),
            }
            parts[sheet["patches"]] = one.patches
            if one.signals is not None:
                sheet["reconstruction"] = f"reconstruction_{one.layer.alias}"
                parts[sheet["reconstruction"]] = one.signals
            sheets.append(sheet)
            first += len(channels)
        seen = model.source.image
        units = {
            name: "signal at the input"
            if name.startswith("reconstruction_")
            else ("0 to 255" if seen else "as the model takes it")
            for name in parts
        }
        axes = max(one.position.shape[-1] for one in found)
        return Result(
            method=self.name,
            kind=self.kind,
            main="activation",
            arrays={
                "activation": np.concatenate([one.value for one in found]),
                "again": np.concatenate([one.again for one in found]),
                "image": np.concatenate([one.image for one in found]),
                "position": np.concatenate([_wide(one.position, axes) for one in found]),
                "boxes": np.concatenate([one.boxes for one in found]),
                "windows": np.concatenate([one.windows for one in found]),
                "layer": np.concatenate(
                    [np.full(len(channels), number, np.int64) for number, channels in chosen]
                ),
                "channel": np.concatenate([one.channel for one in found]),
                **parts,
            },
            units={
                "activation": "activation",
                "again": "activation",
                "image": "index in the data set",
                "position": "index along the layer's spatial axes",
                "boxes": UNITS.get(model.source.kind, "pixels"),
                "windows": UNITS.get(model.source.kind, "pixels"),
                "layer": "index in the recording",
                "channel": "index",
                **units,
            },
            rows=tuple(
                {
                    "layer": one.layer.alias,
                    "channel": int(one.channel[c]),
                    "rank": k + 1,
                    "image": names[int(one.image[c, k])],
                    "activation": float(one.value[c, k]),
                    "position": one.position[c, k].tolist(),
                }
                for one in found
                for c, k in zip(*(each.tolist() for each in np.nonzero(one.image != NONE)), strict=True)
            ),
            hints={
                "layout": model.source.layout,
                "channels": model.colours,
                "sheets": sheets,
                "order": settings.order,
                "images": int(recording.manifest["images"]),
                "rule": settings.rule,
                **shown(job),
            },
            how={
                "warnings": [text for one in found for text in _changes(one, names)],
                **({"explained_at": explained_at(model.graph, model.source).words()} if rule else {}),
            },
        )

    def look(self, model: Model, recording: Recording, close: Close) -> Sequence[Step]:
        """The strongest patches of all channels, reconstructions of those that some time may be spent on."""
        from convlens.attribution.layerwise.projected import switches

        del recording
        closer = [channel for channel in close.channels if channel in close.closer]
        rest = [channel for channel in close.channels if channel not in close.closer]
        steps = []
        if closer:
            named = f"{close.layer}:{','.join(map(str, closer))}"
            rule = "deconvnet" if switches(model, model.layers.find(close.layer)) else "guided"
            text = f"Reconstructions are what the unit of each patch sends back to the input ({rule})."
            settings = {"channels": (named,), "rule": rule}
            steps.append(Step("", 30, "strongest patches, reconstructed", settings, text))
        if rest:
            named = f"{close.layer}:{','.join(map(str, rest))}"
            steps.append(Step("", 30, "strongest patches", {"channels": (named,), "rule": "none"}))
        return steps

    def findings(self, result: Result) -> Sequence[Finding]:
        """What was left out, channels that nothing excites or that saturate, reconstructions of filters."""
        from convlens.attribution.layerwise.projected import without_switches

        found = []
        for sheet in result.hints["sheets"]:
            layer, own = sheet["layer"], slice(sheet["first"], sheet["after"])
            channel, image, value = (result.arrays[name][own] for name in ("channel", "image", "activation"))
            count = len(channel)
            if sheet["whole"] and count < sheet["of"]:
                first = _FIRST[result.hints["order"]]
                text = f"{count} of the {sheet['of']} channels of {layer} are shown, {first}."
                found.append(Finding("note", text, f"--limit {sheet['of']} shows all of them"))
            silent = channel[(image < 0).all(axis=1)].tolist()
            if silent:
                verb = "are" if len(silent) > 1 else "is"
                text = f"{_some(silent)} of {layer} {verb} above zero on no image."
                found.append(Finding("note", text, f"images: {result.hints['images']}"))
            full = (image >= 0).all(axis=1) & (value[:, :1] == value).all(axis=1)
            if image.shape[1] > 1 and full.any():
                alike = _some(channel[full].tolist()).lower()
                text = (
                    f"All places of {alike} of {layer} are equally strong, so these are the first images of "
                    "the data set that saturate the rectifier; a recording of the layer before it tells them "
                    "apart."
                )
                found.append(Finding("attention", text, f"activation {float(value[full][0, 0]):.4g}"))
            if result.hints["rule"] != "none" and not sheet["switches"] and (image >= 0).any():
                found.append(Finding("note", *without_switches(layer)))
        return found


_FIRST = {
    "selective": "those that stand out most from what they usually do",
    "strongest": "those with the largest activations",
    "number": "the first",
}


def _some(channels: Sequence[int]) -> str:
    """Channels in a sentence."""
    listed = ", ".join(map(str, channels[:8])) + (", ..." if len(channels) > 8 else "")
    return f"Channel{'s' if len(channels) > 1 else ''} {listed}"


def _chosen(job: Job[PatchesParameters]) -> tuple[list[tuple[int, NDArray[Any]]], list[bool]]:
    """Layers by number with their channels, and whether each was asked for as a whole."""
    import numpy as np

    from convlens.recording.strongest.asked import Asked, asked, ordered, small

    settings, recording = job.parameters, job.recorded
    wanted = asked(recording, settings.channels)
    limit = settings.limit
    if limit is None and (settings.rule != "none" or not wanted or not job.model.source.image):
        limit = _USUAL
    wanted = wanted or [Asked(number, None) for number in small(recording, job.model)]
    chosen = [
        (
            one.layer,
            np.asarray(one.channels, np.int64)
            if one.channels is not None
            else ordered(recording, one.layer, settings.order, settings.top)[:limit],
        )
        for one in wanted
    ]
    return chosen, [one.channels is None for one in wanted]


def _wide(position: NDArray[Any], axes: int) -> NDArray[Any]:
    """Positions of layers with fewer axes, filled up with zeros behind."""
    import numpy as np

    return np.pad(position, ((0, 0), (0, 0), (0, axes - position.shape[-1])))


def _words(job: Job[PatchesParameters], one: Places) -> dict[str, Any]:
    """The words of each patch of a text, C x top lists; nothing for other inputs."""
    if job.model.source.kind != "tokens":
        return {}
    known = job.model.card.input.vocabulary or ()

    def words(c: int, k: int) -> list[str]:
        (first, after), start = one.boxes[c, k, [1, 3]].tolist(), int(one.windows[c, k, 1])
        ids = one.patches[c, k].reshape(-1).astype(int).tolist()
        inside = [first <= start + place < after for place in range(len(ids))]
        told = [known[i] if 0 <= i < len(known) else str(i) for i in ids]
        return [word if there else "" for word, there in zip(told, inside, strict=True)]

    count, top = one.image.shape
    return {"words": [[words(c, k) for k in range(top)] for c in range(count)]}


def _changes(one: Places, names: dict[int, str]) -> list[str]:
    """What to say where images read again do not do what was recorded."""
    import numpy as np

    where, of = np.argwhere(one.changed), int((one.image >= 0).sum())
    if not len(where):
        return []
    c, k = where[0].tolist()
    return [
        f"{len(where)} of {of} places of {one.layer.alias} are not what was recorded, "
        f"so images have changed since: {names[int(one.image[c, k])]} gave channel {int(one.channel[c])} "
        f"{one.value[c, k]:.4g} and gives {one.again[c, k]:.4g} now; record again"
    ]
