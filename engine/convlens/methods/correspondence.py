"""``correspondence``: whether covering the same part in several images changes features alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.errors import UsageError
from convlens.hiding import EXACT, Exact, PatchFill
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.sets.changed import Changed
    from convlens.attribution.sets.regions import Part, Window
    from convlens.graph.layers import Layer

_LITTLE = 0.01  # of the length of the features: a change that says nothing of the part


class CorrespondenceParameters(Parameters):
    """What ``correspondence`` can be told."""

    parts: str | dict[str, Any] | None = Field(
        None,
        description="where the parts lie: a .csv, .toml or .json file with image, part and box (left, top, "
        "right, bottom in pixels of the photo), or NAME=FROM:TO,FROM:TO;... for one box in every image; "
        "the middle of each by default",
    )
    layers: str | None = Field(
        None, description="layers whose features are compared, with commas between their names"
    )
    depths: int = Field(
        4, ge=1, le=64, description="without names: how many layers, evenly from the first to the top"
    )
    draws: int = Field(10, ge=2, le=1000, description="random places that each part is compared with")
    fill: PatchFill = Field(
        None,
        description="what parts are covered with: grey, a number, mean (over space), blur or inpaint (what "
        "is around a part, carried on smoothly); by default grey for photos, mean for other images and "
        "volumes, 0 for signals, boards and vectors",
    )
    exact: Exact = Field("auto", description=EXACT)


@register
class Correspondence(Method[CorrespondenceParameters]):
    """Cover the same part in several images: does the model's answer change in the same direction?

    For each part and layer the change ``e_i`` is what image i's features were, less what they are when
    the part is covered. ``distance`` (main, parts x layers) is the mean over all pairs of images of
    the share of features whose changes differ in sign, the Hamming distance of ``sign(e_i)`` and
    ``sign(e_j)`` over their number; ``pairs`` are those of the single pairs, parts x layers x pairs.
    ``random`` (parts x draws x layers) are the same for boxes of the same sizes at random places,
    another in each image, with ``random_mean`` and ``random_sd`` over parts and draws. A part that the
    model knows to be the same in all images lies below. ``change`` (images x parts x layers) is the
    length of ``e_i`` as a share of the length of the features, and ``random_change`` (parts x draws x
    layers) its mean over the images at random places: what changes nothing is alike, and tells nothing.

    Changes under 1e-5 of the layer's largest feature have the sign 0. In layers that keep places, boxes
    at the same place agree for that alone; the top layer, which keeps none, tells what a part means. The
    features of all images are held at once.
    """

    name = "correspondence"
    summary = "whether covering the same part in several images changes features alike"
    paper = Paper("Zeiler & Fergus 2014", "section 4.3, table 1", "https://arxiv.org/abs/1311.2901")
    kind = "curves"
    Parameters = CorrespondenceParameters
    preview: ClassVar[Mapping[str, Any]] = {"draws": 2, "depths": 2}
    together = True

    def run(self, job: Job[CorrespondenceParameters]) -> Result:
        """Each image as it is, then with each part covered, and with each random place."""
        import numpy as np

        from convlens.attribution.layerwise.depths import chosen_layers
        from convlens.attribution.masking.covering import cover_of
        from convlens.attribution.sets.changed import Changed
        from convlens.attribution.sets.regions import parts_of

        model, images, given = job.model, job.images, job.parameters
        if len(images) < 2:
            raise UsageError(
                "correspondence compares images with each other; expected two or more, found one"
            )
        parts = parts_of(given.parts, model, images)
        layers = chosen_layers(model, given.layers, given.depths)
        sides = [max(s.stop - s.start for s in part) for part in zip(*parts[0].windows, strict=True)]
        changed = Changed(job, cover_of(model, images, given.fill, sides), [layer.name for layer in layers])
        count = len(images)
        pairs = np.zeros((len(parts), len(layers), count * (count - 1) // 2))
        change = np.zeros((count, len(parts), len(layers)))
        random = np.zeros((len(parts), given.draws, len(layers)))
        random_change = np.zeros_like(random)
        order = [(number, draw) for number in range(len(parts)) for draw in range(-1, given.draws)]
        windows = [
            parts[number].windows if draw < 0 else _moved(job, parts[number], draw) for number, draw in order
        ]
        for (number, draw), (apart, lengths) in zip(order, changed.compared(windows), strict=True):
            if draw < 0:
                pairs[number], change[:, number] = apart, lengths
            else:
                random[number, draw] = apart.mean(axis=1)
                random_change[number, draw] = lengths.mean(axis=0)
        changes = {"change": change, "random_change": random_change}
        return self._result(job, parts, layers, changed, pairs, random, changes)

    def _result(
        self,
        job: Job[CorrespondenceParameters],
        parts: Sequence[Part],
        layers: Sequence[Layer],
        changed: Changed,
        pairs: NDArray[Any],
        random: NDArray[Any],
        changes: Mapping[str, NDArray[Any]],
    ) -> Result:
        distance = pairs.mean(axis=2)
        names = [part.name for part in parts]
        aliases = [layer.alias for layer in layers]
        rows = tuple(
            {
                "part": name,
                "layer": alias,
                "distance": float(distance[p, k]),
                "sd over pairs": float(pairs[p, k].std()),
                "random places": float(random[p, :, k].mean()),
                "sd over draws": float(random[p, :, k].std()),
                "draws below": int((random[p, :, k] <= distance[p, k]).sum()),
                "draws": random.shape[1],
                "change": float(changes["change"][:, p, k].mean()),
            }
            for p, name in enumerate(names)
            for k, alias in enumerate(aliases)
        )
        share = "share of features whose changes differ in sign"
        return Result(
            method=self.name,
            kind=self.kind,
            main="distance",
            arrays={
                "distance": distance,
                "pairs": pairs,
                "random": random,
                "random_mean": random.mean(axis=(0, 1)),
                "random_sd": random.std(axis=(0, 1)),
                **changes,
            },
            units={
                **dict.fromkeys(("distance", "pairs", "random", "random_mean", "random_sd"), share),
                **dict.fromkeys(changes, "share of the length of the features"),
            },
            images=job.images.names,
            views=job.images.views,
            rows=rows,
            shared=("distance", "pairs", "random", "random_mean", "random_sd", "random_change"),
            how={"layers": [layer.name for layer in layers], "fill": changed.cover.name},
            hints={
                "title": "correspondence of parts",
                "over": "images",
                "covered": names,
                "layers": aliases,
                "each": [{"computed": "; ".join(ways)} for ways in changed.ways],
                "boxes": [
                    [[[s.start, s.stop] for s in part.windows[i]] for part in parts]
                    for i in range(len(job.images))
                ],
                "curves": [
                    {
                        "kind": "bars",
                        "title": f"How differently {len(job.images)} images change when a part is covered",
                        "y_label": "sign changes that differ (share)",
                        "categories": aliases,
                        "lines": [
                            *({"array": "distance", "row": p, "label": name} for p, name in enumerate(names)),
                            {
                                "array": "random_mean",
                                "band": "random_sd",
                                "label": "random places",
                                "weight": "thin",
                            },
                        ],
                    }
                ],
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Which parts the top layer treats as the same thing in every image."""
        found = []
        top = result.hints["layers"][-1]
        for row in result.rows:
            if row["layer"] != top:
                continue
            evidence = (
                f"{row['distance']:.3f} against {row['random places']:.3f} ± {row['sd over draws']:.3f} "
                f"at random places, lower than {row['draws'] - row['draws below']} of {row['draws']}"
            )
            if row["change"] < _LITTLE:
                text = (
                    f"Covering {row['part']!r} changes {top} by {row['change']:.1%}, too little to compare."
                )
            elif row["draws below"] == 0:
                text = f"Covering {row['part']!r} changes {top} more alike than any random place does."
            else:
                text = f"Covering {row['part']!r} changes {top} no more alike than random places do."
            found.append(Finding("note", text, evidence))
        return found


def _moved(job: Job[CorrespondenceParameters], part: Part, draw: int) -> tuple[Window, ...]:
    """Windows of the part's sizes at random places, drawn from the seed and each image's own numbers."""
    from zlib import crc32

    import numpy as np

    images, axes = job.images, job.model.source.axes
    windows = []
    for index, window in enumerate(part.windows):
        own = crc32(np.ascontiguousarray(images.array[index], dtype=np.float32).tobytes())
        rng = np.random.default_rng([job.seed % 2**32, draw, own, crc32(part.name.encode())])
        spans = []
        for span, axis in zip(window, axes, strict=True):
            side = span.stop - span.start
            start = int(rng.integers(0, images.array.shape[axis] - side + 1))
            spans.append(slice(start, start + side))
        windows.append(tuple(spans))
    return tuple(windows)
