"""``integrated-gradients``: the score's rise from a baseline to the input, shared among its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.hiding import Fill
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.model import Model

_TOLD = 0.01  # completeness error above which the reader is told
_LARGE = 0.05  # and above which shares should not be read as such
_QUICK = 32  # gradients an input in an audit


class IntegratedGradientsParameters(Parameters):
    """What ``integrated-gradients`` can be told."""

    baseline: Fill = Field(
        None,
        description="where the way begins, the input that says nothing: grey, a number (of a photo a pixel "
        "value, 0 is black; of tokens an id), mean (over space) or blur; by default what occlusion hides by: "
        "grey for photos, mean for other images and volumes, 0 for signals, boards and vectors, the card's "
        "pad for tokens",
    )
    quadrature: Literal["adaptive", "gauss-legendre", "midpoint", "trapezoid"] = Field(
        "adaptive",
        description="where gradients are taken: adaptive takes more where the score moves most, until the "
        "completeness error is kept; the others take evenly many",
    )
    steps: int = Field(256, ge=2, le=100_000, description="how many gradients an input, of adaptive at most")
    until: float = Field(
        0.01, gt=0, le=1, description="the completeness error with which adaptive is content, a share"
    )
    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "plain",
        description="what rectifiers do to the signal on its way back; only of plain is the sum the rise",
    )
    reduction: Literal["max", "mean", "signed"] = Field(
        "signed", description="colours to one number in the picture: largest or mean magnitude, or signed sum"
    )


@register
class IntegratedGradients(Method[IntegratedGradientsParameters]):
    """Each number's share of what the score rises from a baseline to the input: ``shares`` (main).

    The gradient is averaged along the straight line from the baseline to the input, and multiplied by
    what the input has more than the baseline, in the input's shape. The shares add up to ``score`` (of
    the input) less ``start`` (of the baseline), as far as the average is exact: ``completeness`` is their
    sum as a share of it, 1 where nothing is missing, and the table's completeness error how far it is
    from 1. ``steps`` is how many gradients were taken. Each of these is one an image. Numbers that are
    the same in both have no share: what is grey has none under the baseline grey, black none under black.

    The score moves most close to the baseline, where little contrast is enough for a net, so even steps
    need many: ``adaptive`` starts from 9 places and halves the intervals where the trapezoid misses what
    the score is known to do, until their sum keeps ``until`` and the intervals' errors, added without
    their signs, ten times that. Of rules other than plain, 32 places are spread evenly. Tokens are
    explained at their embedding, N x T x D, with ``product`` the sum of each token's shares and
    ``magnitude`` the length of their vector, N x T.
    """

    name = "integrated-gradients"
    summary = "the score's rise from a baseline, shared among the input's numbers"
    paper = Paper("Sundararajan, Taly & Yan 2017", "section 3", "https://arxiv.org/abs/1703.01365")
    kind = "map"
    Parameters = IntegratedGradientsParameters
    gradients = True
    target = True
    attributes = True
    preview: ClassVar[Mapping[str, Any]] = {"steps": 14}

    def run(self, job: Job[IntegratedGradientsParameters]) -> Result:
        """One forward and one backward a place on the way."""
        import numpy as np

        from convlens.attribution.maps import Signal, input_map
        from convlens.attribution.slopes.path import integral
        from convlens.attribution.slopes.sampled import real_points
        from convlens.hiding import default_fill, filling, steps

        model, array, settings = job.model, job.images.array, job.parameters
        source = model.source
        extent = [array.shape[axis] for axis in source.axes]
        fill = settings.baseline if settings.baseline is not None else default_fill(model)
        points = real_points(job, array)
        hidden = filling(model, job.images, fill, steps(None, None, source, extent)[0])
        baseline = real_points(job, np.ascontiguousarray(hidden))
        quadrature, most = settings.quadrature, settings.steps
        if settings.rule != "plain" and quadrature == "adaptive":  # there is no error to go by
            quadrature, most = "midpoint", min(32, settings.steps)
        found = integral(job, settings.rule, baseline, points, quadrature, most, settings.until)
        shares = found.gradient * (points.astype(np.float64) - baseline)
        rise = found.end - found.start
        total = shares.reshape(len(shares), -1).sum(axis=1)
        part = np.divide(total, rise, out=np.where(total == 0, 1.0, np.inf), where=rise != 0)
        own = points.dtype if points.dtype == np.float64 else np.float32
        signal = Signal(
            "shares",
            shares.astype(own),
            found.end.astype(own),
            "score",
            f"integrated gradients{'' if settings.rule == 'plain' else f' ({settings.rule})'}",
            contribution=True,
            reduction=settings.reduction,
            arrays={"start": found.start.astype(own), "completeness": part, "steps": found.places},
            units={
                "start": "score of the target",
                "completeness": "share of the score's rise",
                "steps": "gradients",
            },
            rows=[
                {"from": float(start), "completeness error": abs(float(p) - 1), "steps": int(count)}
                for start, p, count in zip(found.start, part, found.places, strict=True)
            ],
            hints={"rule": settings.rule, "baseline": fill},
        )
        return input_map(job, self.name, signal)

    def plan(self, model: Model) -> Sequence[Step]:
        """A quick one, for the predicted class, beside the gradients."""
        if model.classes is None:
            return ()
        photo = model.source.image
        start = "a grey picture" if photo else "an input that says nothing"
        text = (
            f"What each number of the input adds to the score on the way from {start} to this one. Together "
            "that is what the score rises: red speaks for the class, blue against it."
        )
        section = "Which pixels it depends on" if photo else "Which parts it depends on"
        return (Step(section, 30, "integrated gradients", {"steps": _QUICK}, text),)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Shares that do not add up."""
        if result.hints["rule"] != "plain":
            return ()
        found = []
        for index, row in enumerate(result.rows):
            error = row["completeness error"]
            if None in (row["score"], row["from"]) or (error is not None and error <= _TOLD):
                continue  # scores that are no numbers are told by others
            rise = row["score"] - row["from"]
            part = "more than it is" if error is None else format(error, ".1%")
            text = f"{row['image']}: the shares of the integrated gradients miss the score's rise by {part}."
            evidence = f"the score rises by {rise:.3g} from the baseline, seen at {row['steps']} places"
            if "gradients" in result.how:
                evidence += f"; {result.how['gradients']}"
            level: Literal["attention", "note"] = "attention" if error is None or error > _LARGE else "note"
            found.append(Finding(level, text, evidence, index))
        return found
