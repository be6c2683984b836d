"""``neighbours``: the images of a data set that are nearest to an image, to the model and to the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.nearness.lookup import Near, Shown

_BY_ITSELF = 10_000  # images that are read again for their pixels where nobody says so


class NeighboursParameters(Parameters):
    """What ``neighbours`` can be told."""

    count: int = Field(8, ge=1, le=100, description="how many neighbours of each image")
    metric: Literal["cosine", "l2"] = Field(
        "cosine", description="distance of features: by their angle, or Euclidean"
    )
    pixels: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="look for the nearest by plain pixels too, for which the whole data set is read again; "
        "by itself up to 10,000 images",
    )
    search: Literal["auto", "exact", "faiss"] = Field(
        "auto",
        description="who searches: scikit-learn (exact) or faiss, as exactly; by itself faiss from 100,000 "
        "images on where it is installed",
    )


@register
class Neighbours(Method[NeighboursParameters]):
    """For each image those of the data set with the most similar features, and pixels.

    ``number`` (N x k) says which images of the data set are nearest by the feature vector that the
    recording holds, ``distance`` (main, N x k) how far away they are, ``same`` (N x k) which of them are
    the image itself. ``pixel_number``, ``pixel_distance`` and ``pixel_same`` (N x k) are those by plain
    pixels: Euclidean distance of all that the model sees of a photo, or of what goes in, and for texts the
    share of tokens that differ. ``query`` (N x height x width x 3, 8 bits), ``pictures`` and
    ``pixel_pictures`` (N x k x height x width x 3) are photos as the model sees them; ``input``, ``inputs``
    and ``pixel_inputs`` stand for them where no photos go in.

    ``share`` (N x 1, or 2 with the pixels) says how many of the neighbours, the image itself left out, are
    of its class: its label where it is found in the data set, else the class that the model predicts.
    ``overlap`` (N) is the share of neighbours that are in both lists.
    """

    name = "neighbours"
    summary = "the images of a data set nearest to an image by features and by pixels"
    paper = Paper(
        "Krizhevsky, Sutskever & Hinton 2012",
        "section 6.1, figure 4",
        "https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
    )
    kind = "neighbours"
    Parameters = NeighboursParameters
    recording = "must"
    preview: ClassVar[Mapping[str, Any]] = {"count": 3}

    def run(self, job: Job[NeighboursParameters]) -> Result:
        """One forward for the features; the data set is read once for its pixels."""
        from convlens.recording.nearness.lookup import by_features, by_pixels, shown
        from convlens.recording.nearness.nearest import chosen

        told, model, recording, images = job.parameters, job.model, job.recorded, job.images
        total = int(recording.manifest["images"])
        k = min(told.count, total)
        search = chosen(told.search, total)
        warnings = []
        near = [by_features(recording, model, images, k, told.metric, search, job.batch_size)]
        job.advance(0.1)
        if told.pixels == "yes" or (told.pixels == "auto" and total <= _BY_ITSELF):
            found, others = by_pixels(
                recording, model, images, k, search, lambda share: job.advance(0.1 + 0.7 * share)
            )
            if (found.number >= 0).all():
                near.append(found)
            else:
                warnings.append("no neighbours by pixels: too few inputs of the data set have this size")
            if others:
                warnings.append(f"{others} inputs of the data set are of another size and were left out")
        elif told.pixels == "auto":
            warnings.append(f"pixels were left out: {total:,} images had to be read for them; --pixels yes")
        numbers = sorted({int(one) for each in near for one in each.number.reshape(-1) if one >= 0})
        read = shown(recording, model, images, numbers)
        job.advance(1.0)
        return self._result(job, near, read, warnings, search)

    def _result(
        self,
        job: Job[NeighboursParameters],
        near: Sequence[Near],
        read: Shown,
        warnings: Sequence[str],
        search: str,
    ) -> Result:
        import numpy as np

        from convlens.shown import given_arrays, given_units, shown

        feature = job.recorded.feature
        assert feature is not None
        each = _known(job, near, read)
        same = [np.array([own["spaces"][s]["same"] for own in each], bool) for s in range(len(near))]
        share = np.array([[own["spaces"][s]["share"] for s in range(len(near))] for own in each], np.float64)
        overlap = np.array([_overlap(near, read, i) for i in range(len(each))], np.float64)
        arrays: dict[str, NDArray[Any]] = {
            "distance": near[0].distance,
            "number": near[0].number,
            "same": same[0],
            **_drawn(job, near, read),
            **given_arrays(job),
        }
        units = {
            "distance": near[0].unit,
            "number": "number of the image in the data set",
            "same": "whether it is the image itself",
            **dict.fromkeys(("query", "pictures", "pixel_pictures"), "pixel values from 0 to 255"),
            **dict.fromkeys(("inputs", "pixel_inputs"), "as the model takes it"),
            "share": "share of the neighbours that are of the image's class",
            "overlap": "share of the neighbours that are in both lists",
            **given_units(job),
        }
        if len(near) > 1:
            arrays |= {"pixel_distance": near[1].distance, "pixel_number": near[1].number}
            arrays |= {"pixel_same": same[1], "overlap": overlap}
            units |= {"pixel_distance": near[1].unit, "pixel_number": units["number"]}
            units["pixel_same"] = units["same"]
        if np.isfinite(share).all():
            arrays["share"] = share
        return Result(
            method=self.name,
            kind=self.kind,
            main="distance",
            arrays=arrays,
            units={name: units[name] for name in arrays},
            images=job.images.names,
            views=job.images.views,
            rows=tuple(
                _row(name, own, space, one.distance[i], overlap[i] if len(near) > 1 else None)
                for i, (name, own) in enumerate(zip(job.images.names, each, strict=True))
                for space, one in zip(own["spaces"], near, strict=True)
            ),
            how={"layer": feature.alias, "search": search, "warnings": list(warnings)},
            hints={
                "layer": feature.alias,
                "units": [one.unit for one in near],
                "each": each,
                **shown(job),
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Whether the nearest by features are of the image's class, and whether pixels say the same."""
        found = []
        for index, (name, own) in enumerate(zip(result.images, result.hints["each"], strict=True)):
            if "share" not in result.arrays:
                continue
            first, *rest = result.arrays["share"][index].tolist()
            text = f"{name}: {first:.0%} of the nearest by features have its {own['by']}, {own['class']}"
            evidence = f"{result.array.shape[1]} neighbours by the features of {result.hints['layer']}"
            if rest:
                text += f"; of the nearest by pixels {rest[0]:.0%}"
                evidence += f", {result.arrays['overlap'][index]:.0%} of them near by pixels too"
            level: Literal["good", "attention"] = "good" if first >= 0.5 else "attention"
            found.append(Finding(level, f"{text}.", evidence, index))
        return found


def _known(job: Job[Any], near: Sequence[Near], read: Shown) -> list[dict[str, Any]]:
    """For each query what it is, and what is known of its neighbours in each space, as plain data."""
    import numpy as np

    from convlens.recording.maps.mapped import Known, prediction
    from convlens.shown import words_of

    model = job.model
    likely = model.probabilities(job.images, job.batch_size) if model.classes is not None else None
    found = []
    for i in range(len(job.images)):
        own: dict[str, Any] = {"label": None, "prediction": None, "probability": None, "spaces": []}
        if likely is not None and np.isfinite(likely[i]).all():
            best = int(likely[i].argmax())
            own |= {"prediction": prediction(model, best), "probability": float(likely[i, best])}
        own["found"] = sorted(read.same[i])
        if read.same[i]:
            own["label"] = Known.of(job.recorded, model, own["found"][:1]).labels[0]
        own["by"] = "label" if own["label"] is not None else "prediction"
        own["class"] = own[own["by"]]
        for one in near:
            numbers = [n for n in one.number[i].tolist() if n >= 0]
            known = Known.of(job.recorded, model, numbers)
            classes = known.labels if own["by"] == "label" else known.predictions
            others = [c for c, n in zip(classes, numbers, strict=True) if n not in read.same[i]]
            alike = [c == own["class"] for c in others]
            share = float(np.mean(alike)) if alike and own["class"] is not None else None
            own["spaces"].append(
                {
                    "space": one.space,
                    "names": known.names,
                    "labels": known.labels,
                    "predictions": known.predictions,
                    "same": [n in read.same[i] for n in numbers],
                    "alike": [None if own["class"] is None else c == own["class"] for c in classes],
                    "share": share,
                    "words": [_words(model, read.arrays.get(n)) for n in numbers],
                }
            )
        found.append({**own, **words_of(job, i)})
    return found


def _words(model: Any, array: Any) -> list[str]:
    """The words of a token sequence, nothing of what is none."""
    if array is None or model.source.kind != "tokens":
        return []
    known = model.card.input.vocabulary or ()
    return [known[i] if 0 <= i < len(known) else str(i) for i in array.reshape(-1).tolist()]


def _overlap(near: Sequence[Near], read: Shown, query: int) -> float:
    """The share of neighbours by features, the query itself left out, that are neighbours by pixels."""
    if len(near) < 2:
        return float("nan")
    first, second = ({n for n in one.number[query].tolist() if n >= 0} - read.same[query] for one in near)
    return len(first & second) / len(first) if first else 0.0


def _drawn(job: Job[Any], near: Sequence[Near], read: Shown) -> dict[str, NDArray[Any]]:
    """The pictures of queries and neighbours, or what goes in where it is no photo."""
    from convlens.recording.again import thumbnails
    from convlens.recording.nearness.lookup import SIDE, gathered

    found: dict[str, NDArray[Any]] = {}
    photo = job.model.source.image
    if photo:
        query = thumbnails(job.model, job.images, SIDE)
        assert query is not None
        found["query"] = query
    for one, lead in zip(near, ("", "pixel_"), strict=False):
        held = gathered(one.number, read.pictures if photo else read.arrays)
        if held is not None:
            found[f"{lead}{'pictures' if photo else 'inputs'}"] = held
    return found


def _row(
    name: str, own: Mapping[str, Any], space: Mapping[str, Any], distance: NDArray[Any], overlap: float | None
) -> dict[str, Any]:
    others = [at for at, same in enumerate(space["same"]) if not same]
    return {
        "image": name,
        "space": space["space"],
        "nearest": space["names"][others[0]] if others else None,
        "distance": float(distance[others[0]]) if others else None,
        own["by"]: own["class"],
        "share of its class": space["share"],
        "in both": None if overlap is None else float(overlap),
        "is in the data set": bool(own["found"]),
    }
