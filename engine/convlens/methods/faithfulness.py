"""``faithfulness``: whether another method's map is true, by hiding, by noise and by random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.attribution.faithful.settings import Boxes, Settings
from convlens.hiding import Fill, Lengths
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.faithful.judged import Judged
    from convlens.attribution.faithful.sanity import Sanity

_CURVES = ("deletion", "insertion", "flipping")


class FaithfulnessParameters(Parameters):
    """What ``faithfulness`` can be told."""

    of: str = Field("saliency", description="the method that is judged, any that says where")
    settings: Settings = Field(
        None, description="its own settings, like 'rule=guided', several with spaces between"
    )
    quick: bool = Field(False, description="judge it at its quick, coarse settings")
    steps: int = Field(14, ge=2, le=1000, description="steps of a curve, in each of which parts are hidden")
    part: Lengths = Field(
        None,
        description="side of the parts that are ranked, or one an axis like 4,8; a fourteenth of the shorter "
        "side by default, one token, point or feature at a time",
        json_schema_extra={"unit": "pixels (samples, tokens, ...)"},
    )
    fill: Fill = Field(
        None,
        description="what parts are hidden by: blur (the default for images), grey, mean or a number; by "
        "default 0 for signals, boards and vectors, the card's pad for tokens",
    )
    random: int = Field(5, ge=2, le=100, description="random orders that the map's order is held against")
    stages: int = Field(
        5, ge=0, le=50, description="stages at which weights become random; 0 leaves those checks out"
    )
    noise: float = Field(
        0.1, gt=0, le=10, description="largest noise, as a share of the input's standard deviation"
    )
    samples: int = Field(2, ge=0, le=100, description="noisy copies; 0 leaves that check out")
    box: Boxes = Field(
        None,
        description="where the object is, for the pointing game: FROM:TO for each axis, like 40:120,60:200 "
        "(rows, columns of what the model sees); one an image with ; between them",
    )


@register
class Faithfulness(Method[FaithfulnessParameters]):
    """Whether the map of another method is true, by four tests that need no second opinion.

    Hiding the parts of the input in the order of the map: ``deletion`` (main, N x points) is the target
    while parts are hidden, the strongest first, ``insertion`` while they are shown on a hidden input
    (Petsiuk et al. 2018), ``flipping`` while they are replaced by random numbers (Samek et al. 2017), over
    the ``share`` of parts that are. Each has ``..._centre``, the order from the centre outwards, and
    ``..._random``, the mean of random orders; ``..._area`` (N x orders: the map, the centre, random ones)
    is the area under each curve, low for a true map at deletion and flipping, high at insertion.

    Random weights (Adebayo et al. 2018): ``cascade`` (N x stages) is the rank correlation of the map's
    magnitudes with those of a network that is random from the last layer down to the one counted by
    ``depth``, ``apart`` with that layer alone random; ``..._ssim`` is their structural similarity and
    ``..._usable`` says where there was a map. ``heat`` and ``cascade_heat`` are the maps themselves. Near 1,
    a map does not tell what those weights learnt.

    ``sensitivity`` is the largest relative change of the map under noise (max-sensitivity, Yeh et al.
    2019), where real numbers go in. With a box, ``pointing`` says whether the strongest place lies in it
    (Zhang et al. 2018) and ``pointing_share`` how much of the positive map does.
    """

    name = "faithfulness"
    summary = "is a map true? deletion, insertion, random weights, noise, for any method"
    paper = Paper(
        "Petsiuk et al. 2018; Samek et al. 2017; Adebayo et al. 2018; Yeh et al. 2019; Zhang et al. 2018",
        "sections 3; III; 2; 2.2; 4",
        "https://arxiv.org/abs/1810.03292",
    )
    kind = "judged"
    Parameters = FaithfulnessParameters
    target = True
    preview: ClassVar[Mapping[str, Any]] = {
        "of": "occlusion",
        "settings": {"stride": 4},
        "steps": 3,
        "random": 2,
        "stages": 1,
        "samples": 1,
    }

    def run(self, job: Job[FaithfulnessParameters]) -> Result:
        """The map once, then copies of the images and of the network."""
        import numpy as np

        from convlens.attribution.faithful.judged import judged
        from convlens.ops.quantcodes import straight_through

        given = job.parameters
        method = judged(job, given.of, given.settings)
        if given.quick:
            method = judged(job, given.of, {**method.method.preview, **(given.settings or {})})
        real = job.images.array.dtype.kind == "f"
        samples = given.samples if real else 0
        shares = _Shares(job.advance, 1 + 2 + samples + 2 * given.stages)
        maps = method.heat(advance=shares.next(1))
        arrays: dict[str, NDArray[Any]] = {"heat": maps.astype(np.float32)}
        arrays |= _ordered(job, maps, shares.next(2))
        if samples:
            from convlens.attribution.faithful.sensitivity import sensitivity

            arrays["sensitivity"] = sensitivity(method, maps, given.noise, samples, shares.next(samples))
        boxes = _pointed(job, maps)
        arrays |= boxes
        sanity = _checked(method, maps, given.stages, shares) if given.stages else {}
        for name, found in sanity.items():
            arrays |= {name: found.rank, f"{name}_ssim": found.structure}
            arrays[f"{name}_usable"] = found.usable.astype(np.uint8)
        if sanity:
            arrays["cascade_heat"] = sanity["cascade"].maps
            arrays["depth"] = np.array(sanity["cascade"].depths)
        rows = tuple(_row(job, arrays, sanity, index) for index in range(len(job.images)))
        estimated = straight_through(job.model.graph) if method.method.gradients else ""
        return _result(job, method, arrays, rows, sanity, {"gradients": estimated} if estimated else {})

    def findings(self, result: Result) -> Sequence[Finding]:
        """The verdict on the map, over all images."""
        from convlens.attribution.faithful.report import verdict_of
        from convlens.attribution.faithful.verdict import order_words, random_words

        told = verdict_of(result)
        levels = {"better": "good", "same": "attention", "worse": "attention", "unknown": "note"}
        words = order_words(told["deletion"], told["area"], told["area_random"])
        found = [Finding(levels[told["deletion"]], words, told["rests_on"])]  # type: ignore[arg-type]
        if "randomised" in told:
            level = {"stays": "attention", "partly": "note", "changes": "good", "broken": "note"}
            random = (told["alike"], told["depth"], told["layers"], result.hints["noun"])
            words = random_words(told["randomised"], *random)
            found.append(Finding(level[told["randomised"]], words, told["rests_on"]))  # type: ignore[arg-type]
        return found


class _Shares:
    """Progress of parts of different weight, one after the other."""

    def __init__(self, advance: Callable[[float], None], total: float) -> None:
        self._advance, self._total, self._done = advance, total, 0.0

    def next(self, weight: float) -> Callable[[float], None]:
        start = self._done
        self._done += weight
        return lambda share: self._advance((start + weight * min(1.0, share)) / self._total)


def _ordered(
    job: Job[FaithfulnessParameters], maps: NDArray[Any], advance: Callable[[float], None]
) -> dict[str, NDArray[Any]]:
    """The three curves of each image, and what is under them."""
    import numpy as np

    from convlens.attribution.faithful.judged import extent_of, hidden
    from convlens.attribution.faithful.ordering import Scheme, at_random
    from convlens.attribution.masking.parts import parts_of

    assert job.target is not None
    given, model = job.parameters, job.model
    parts = parts_of(model.source, extent_of(job.images, model.source), given.part)
    scheme = Scheme(parts, given.steps, given.random, job.seed, job.batch_size)
    fill, _ = hidden(model, job.images, given.fill)
    axes = [axis - 1 for axis in model.source.axes]
    found: dict[str, list[Any]] = {}
    for index, image in enumerate(job.images.array):
        orders = [parts.ranked(maps[index], job.seed), *scheme.baselines()]
        ends = {
            "deletion": (image, fill[index]),
            "insertion": (fill[index], image),
            "flipping": (image, at_random(image, model.source.kind, axes, job.seed)),
        }
        for place, (name, (start, end)) in enumerate(ends.items()):

            def step(share: float, place: int = place, index: int = index) -> None:
                advance((index + (place + share) / 3) / len(job.images))

            done = scheme.follow(model, start, end, orders, job.target.of(index), step)
            own = {
                name: done.curves[0],
                f"{name}_centre": done.curves[1],
                f"{name}_random": done.curves[2:].mean(axis=0),
                f"{name}_area": done.areas,
            }
            for key, value in own.items():
                found.setdefault(key, []).append(value)
    return {key: np.stack(values) for key, values in found.items()} | {"share": scheme.shares}


def _pointed(job: Job[FaithfulnessParameters], maps: NDArray[Any]) -> dict[str, NDArray[Any]]:
    from convlens.attribution.faithful.judged import extent_of
    from convlens.attribution.faithful.pointing import hits, windows

    if job.parameters.box is None:
        return {}
    source = job.model.source
    boxes = windows(job.parameters.box, len(maps), extent_of(job.images, source), source.axis_names)
    inside, share = hits(maps, boxes)
    return {"pointing": inside.astype("uint8"), "pointing_share": share}


def _checked(judged: Judged, maps: NDArray[Any], stages: int, shares: _Shares) -> dict[str, Sanity]:
    from convlens.attribution.faithful.sanity import cascading, independent

    return {
        "cascade": cascading(judged, maps, stages, shares.next(stages)),
        "apart": independent(judged, maps, stages, shares.next(stages)),
    }


def _row(
    job: Job[FaithfulnessParameters],
    arrays: Mapping[str, NDArray[Any]],
    sanity: Mapping[str, Sanity],
    index: int,
) -> dict[str, Any]:
    """What the table says of one image."""
    from convlens.attribution.faithful.verdict import order_outcome, random_outcome

    assert job.target is not None
    row: dict[str, Any] = {"image": job.images.names[index], "target": job.target.words(index)}
    for name in _CURVES:
        areas = arrays[f"{name}_area"][index]
        row |= {name: float(areas[0]), f"{name}_centre": float(areas[1])}
        row[f"{name}_random"] = float(areas[2:].mean())
    row["against_random"] = order_outcome(*_areas(arrays, index))
    if "cascade" in sanity:
        found, middle = sanity["cascade"], sanity["cascade"].middle
        row["alike_randomised"] = float(found.rank[index, middle])
        row["randomised"] = random_outcome(found.rank[index, middle], found.usable[index, middle])
    for name in ("sensitivity", "pointing", "pointing_share"):
        if name in arrays:
            row[name] = arrays[name][index].item()
    return row


def _areas(arrays: Mapping[str, NDArray[Any]], index: int | None = None) -> tuple[Any, Any]:
    areas = arrays["deletion_area"] if index is None else arrays["deletion_area"][index : index + 1]
    return areas[:, 0], areas[:, 2:]


def _result(
    job: Job[FaithfulnessParameters],
    judged: Judged,
    arrays: Mapping[str, NDArray[Any]],
    rows: tuple[dict[str, Any], ...],
    sanity: Mapping[str, Sanity],
    further: Mapping[str, Any],
) -> Result:
    from convlens.attribution.faithful.judged import hidden
    from convlens.attribution.faithful.report import hints_of, how_of, units_of
    from convlens.shown import given_arrays, given_units

    assert job.target is not None
    fill = hidden(job.model, replace(job.images, array=job.images.array[:1]), job.parameters.fill)[1]
    return Result(
        method=Faithfulness.name,
        kind=Faithfulness.kind,
        main="deletion",
        arrays={**arrays, **given_arrays(job)},
        units={**units_of(job, arrays), **given_units(job)},
        images=job.images.names,
        views=job.images.views,
        rows=rows,
        how={**how_of(judged, arrays, sanity, fill), **further},
        hints=hints_of(job, judged, sanity),
        shared=tuple(name for name in ("share", "depth") if name in arrays),
    )
