"""``occlusion``: how target, feature map and label change when a patch is hidden, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convlens.hiding import EXACT, Exact, Lengths, PatchFill, plain_sizes, sizes_text, steps
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import UNITS, given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.feature_maps import FeatureMaps
    from convlens.model import Model

_COMMON = 0.1  # share of the positions from which on another label is worth a line


class OcclusionParameters(Parameters):
    """What ``occlusion`` can be told."""

    patch: Lengths = Field(
        None,
        description="side of the hidden patch, or one an axis like 4,8; a seventh of the shorter side by "
        "default, one token, point or feature at a time",
        json_schema_extra={"unit": "pixels (samples, tokens, ...)"},
    )
    stride: Lengths = Field(
        None,
        description="step from one position to the next, or one an axis; half the patch by default",
        json_schema_extra={"unit": "pixels (samples, tokens, ...)"},
    )
    fill: PatchFill = Field(
        None,
        description="what the patch is filled with: grey, a number (of a photo a pixel value, of tokens an "
        "id), mean (over space), blur or inpaint (what is around it, carried on smoothly); by default grey "
        "for photos, mean for other images and volumes, 0 for signals, boards and vectors, the card's pad "
        "for tokens",
    )
    layer: str | None = Field(
        None,
        description="the layer whose strongest feature map is followed, by name or alias; by default the "
        "deepest whose units have a place",
    )
    exact: Exact = Field("auto", description=EXACT)


@register
class Occlusion(Method[OcclusionParameters]):
    """Hide each patch in turn and read three maps in the same forwards, on onnxruntime.

    ``map`` (main) is the target with the patch at each position: for a class its probability, else
    its score; N x rows x columns. ``drop`` is what the target lost, averaged over the patches that
    cover a pixel: positive where hiding lowers the target, negative where hiding raises it.
    ``baseline`` is the target of the whole image. ``activity`` is the total activation of one feature
    map of ``layer`` with the patch at each position, summed over its places; ``channel`` (N) is which:
    the one of the largest total on the whole image, ``activity_baseline`` (N). ``activity_drop`` is to
    it what ``drop`` is to ``map``. ``label`` is the most probable class at each position, ``label_baseline``
    (N) that of the whole image. Without layers whose units have a place the activity is left out, without
    class scores the labels; ``left_out`` says so in how the Result was made. ``rows_at`` and
    ``columns_at`` are the first pixels of the positions. The last position of each axis is moved in so
    that the border is covered too. Inputs that are no photos have the axes that they have: samples,
    frames, tokens, features.
    """

    name = "occlusion"
    summary = "how target, strongest feature map and label change when a patch is hidden"
    paper = Paper("Zeiler & Fergus 2014", "section 4.2, figure 7", "https://arxiv.org/abs/1311.2901")
    kind = "map"
    Parameters = OcclusionParameters
    target = True
    attributes = True

    def run(self, job: Job[OcclusionParameters]) -> Result:
        """Every position of every image, in batches of masked copies made while the model runs."""
        import numpy as np

        from convlens.attribution.layerwise.feature_maps import feature_maps
        from convlens.attribution.masking.covering import cover_of
        from convlens.attribution.masking.places import extremes
        from convlens.attribution.masking.sliding import maps
        from convlens.attribution.reading import reading
        from convlens.runtime.patches import positions

        assert job.target is not None
        model, images, source = job.model, job.images, job.model.source
        extent = [images.array.shape[axis] for axis in source.axes]
        patch, stride = steps(job.parameters.patch, job.parameters.stride, source, extent)
        starts = positions(extent, patch, stride)
        cover = cover_of(model, images, job.parameters.fill, patch)
        features = feature_maps(model, job.parameters.layer)
        arrays, ways = maps(job, features, cover, starts, patch)
        at = {f"{name}_at": np.array(s) for name, s in zip(source.axis_names, starts, strict=True)}
        unit, what = UNITS.get(source.kind, "pixels"), reading(model, job.target).unit
        units = {
            "map": what,
            "drop": f"{what} lost",
            "baseline": what,
            **dict.fromkeys(("activity", "activity_baseline"), "activation, summed over space"),
            "activity_drop": "activation lost, summed over space",
            "channel": "index",
            **dict.fromkeys(("label", "label_baseline"), "class"),
        }
        rows: list[dict[str, Any]] = []
        for i, name in enumerate(images.names):
            for row in extremes(name, float(arrays["baseline"][i]), arrays["map"][i], starts, patch):
                place = row.pop("at")
                if model.classes is not None:
                    row["label"] = model.classes.label(int(arrays["label"][i][place]))
                rows.append(row)
        left_out = _left_out(features, model.classes is None)
        count = arrays["map"][0].size
        return Result(
            method=self.name,
            kind=self.kind,
            main="map",
            arrays={**arrays, **at, **given_arrays(job)},
            units={**{key: units[key] for key in arrays}, **dict.fromkeys(at, unit), **given_units(job)},
            images=images.names,
            views=images.views,
            rows=tuple(rows),
            shared=tuple(at),
            how={
                "patch": plain_sizes(patch),
                "stride": plain_sizes(stride),
                "positions": count,
                "forwards_an_image": 1 + count,
                "fill": cover.name,
                "layer": features.layer.alias if features is not None else None,
                **({"left_out": left_out} if left_out else {}),
            },
            hints={
                "draw": _drawn(job, what, features, list(at), patch),
                "heat": {"array": "drop", "reduction": None},
                "layout": "NCHW",
                **shown(job),
                "each": [
                    {**own, "computed": way}
                    for own, way in zip(
                        _each(job, features, arrays, rows, f"patch {sizes_text(patch)}", sizes_text(stride)),
                        ways,
                        strict=True,
                    )
                ],
            },
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """Once, for the predicted class."""
        if model.classes is None:
            return ()
        moved = {
            "photo": "A grey square is moved over the photo.",
            "signal": "A stretch of silence is moved along the signal.",
            "tokens": "One token after the other is replaced by the one that stands for nothing.",
            "board": "One point after the other is made empty.",
            "vector": "One feature after the other is set to zero.",
        }.get(model.source.kind, "A patch of the mean is moved over the input.")
        text = (
            f"{moved} Red: hiding this costs the class probability, so the "
            "model uses it. Blue: hiding this raises the probability, so the model is distracted by it. "
            "The boxes mark the largest fall and the largest rise. "
        )
        if model.layers.placed():
            text += "The feature map that the whole input excites most is followed in the same way: where it "
            text += "falls together with the class, it stands for what the class is recognised by. "
        text += "In the map of labels the colour says what the model would answer with the patch there."
        return (Step("What happens when a part is hidden", 40, "occlusion", {}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Where the target hangs on, where it is disturbed, and what else the answer would be."""
        from convlens.attribution.masking.places import place_text

        found = []
        extent = result.arrays["drop"].shape[1:]
        axes = [key.removesuffix("_at") for key in result.shared]
        for index, name in enumerate(result.images):
            base = float(result.arrays["baseline"][index])
            rows = [row for row in result.rows if row["image"] == name]
            falls = [row for row in rows if row["effect"] == "falls"]
            rises = [row for row in rows if row["effect"] == "rises"]
            if falls and base > 0 and -falls[0]["change"] > 0.2 * base:
                text = f"{name}: the decision hangs most on {place_text(falls[0], extent, axes)}."
                evidence = f"hiding it takes the target from {base:.2f} to {falls[0]['value']:.2f}"
                found.append(Finding("note", text, evidence, index))
            elif base > 0:
                text = f"{name}: no single patch matters much; the evidence is spread or redundant."
                largest = -falls[0]["change"] if falls else 0.0
                found.append(Finding("note", text, f"largest fall {largest:.2f} of {base:.2f}", index))
            if rises and rises[0]["change"] > 0.1:
                text = f"{name}: something at {place_text(rises[0], extent, axes)} speaks against the target."
                evidence = f"hiding it raises the target from {base:.2f} to {rises[0]['value']:.2f}"
                found.append(Finding("attention", text, evidence, index))
            areas = result.hints["each"][index].get("areas", [])
            others = [area for area in areas[1:] if area["share"] >= _COMMON]
            if others:
                text = f"{name}: with one patch hidden the answer becomes {others[0]['name']}."
                evidence = (
                    f"at {others[0]['share']:.0%} of the positions; {areas[0]['share']:.0%} keep the answer"
                )
                found.append(Finding("note", text, evidence, index))
        if "left_out" in result.how:
            text = result.how["left_out"]
            found.append(Finding("note", f"{text[0].upper()}{text[1:]}.", "left out when parts are hidden"))
        return found


def _left_out(features: FeatureMaps | None, no_classes: bool) -> str:
    """What is missing and why, in words."""
    parts = ["no feature map is followed, as no layer's units have a place"] if features is None else []
    parts += ["no labels are shown, as the model has no class scores"] if no_classes else []
    return "; ".join(parts)


def _drawn(
    job: Job[OcclusionParameters],
    what: str,
    features: FeatureMaps | None,
    at: Sequence[str],
    patch: Sequence[int],
) -> list[dict[str, Any]]:
    """The three pictures of each image."""
    style = "overlay" if job.images.views is not None else "map"
    label = "lost when hidden (blue: gained)"
    drawn: list[dict[str, Any]] = [{"array": "drop", "style": style, "label": f"{what} {label}"}]
    if features is not None:
        drawn.append({"array": "activity_drop", "style": style, "label": f"activation {label}"})
        drawn[-1] |= {"name": "activity", "marks": False}
    if job.model.classes is not None:
        drawn.append({"array": "label", "style": "labels", "at": list(at), "patch": list(patch)})
    return drawn


def _each(
    job: Job[OcclusionParameters],
    features: FeatureMaps | None,
    arrays: Mapping[str, NDArray[Any]],
    rows: Sequence[Mapping[str, Any]],
    patch: str,
    stride: str,
) -> list[dict[str, Any]]:
    """Captions, boxes and legends of each image's pictures."""
    from convlens.attribution.masking.labels import label_areas
    from convlens.attribution.masking.places import marks

    assert job.target is not None
    unit, classes = UNITS.get(job.model.source.kind, "pixels"), job.model.classes
    found = []
    for i, name in enumerate(job.images.names):
        own: dict[str, Any] = {
            "title": f"occlusion of {job.target.words(i)} ({patch}, stride {stride})",
            "short": f"{job.target.words(i)}; {patch}, stride {stride} {unit}",
            "titles": {"label": "most probable class with the patch there"},
            "marks": marks(rows, name),
            **words_of(job, i),
        }
        if features is not None:
            channel, total = int(arrays["channel"][i]), float(arrays["activity_baseline"][i])
            text = f"strongest feature map, channel {channel} of {features.layer.alias}"
            own["titles"]["activity_drop"] = f"{text}: total activity {total:.3g}"
        if classes is not None:
            own["areas"] = label_areas(arrays["label"][i], int(arrays["label_baseline"][i]), classes)
        found.append(own)
    return found
