"""``smoothgrad``: the gradient at many noisy copies of the input: its mean, variance or mean square."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.registry import Field, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TITLES = {"mean": "SmoothGrad", "variance": "VarGrad", "square": "SmoothGrad squared"}
_UNITS = {
    "mean": "score per input unit",
    "variance": "squared score per input unit",
    "square": "squared score per input unit",
}
_AS_IT_IS = -1  # the number of the copy without noise


class SmoothGradParameters(Parameters):
    """What ``smoothgrad`` can be told."""

    statistic: Literal["mean", "variance", "square"] = Field(
        "mean",
        description="what is taken over the copies: mean (SmoothGrad), variance (VarGrad) or mean square",
    )
    samples: int = Field(50, ge=1, le=100_000, description="how many noisy copies of each input")
    noise: float = Field(
        0.15,
        ge=0,
        le=10,
        description="standard deviation of the noise, as a share of the input's range (largest - smallest)",
    )
    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "plain", description="what rectifiers do to the signal on its way back"
    )
    reduction: Literal["max", "mean", "signed"] = Field(
        "max", description="colours to one number in the picture: largest or mean magnitude, or signed sum"
    )


@register
class SmoothGrad(Method[SmoothGradParameters]):
    """A statistic of the gradient over noisy copies, in the shape of the input: ``gradient`` (main).

    Gaussian noise is added to the input, and the target's gradient is taken at each copy. ``mean`` is
    SmoothGrad (signed), ``variance`` VarGrad (over the copies, divided by their number) and ``square``
    the mean of the squares. The same noise, drawn from the seed, is added to every input, scaled by its
    range. ``score`` is the target's score of the input as it is, ``noisy_score`` the mean over the copies,
    each one an image. Tokens are explained at their embedding, N x T x D, to which the noise is added,
    with ``magnitude`` the length of each token's vector and ``product`` its sum with the embedding, N x T.
    """

    name = "smoothgrad"
    summary = "the gradient over many noisy copies: mean, variance or mean square"
    paper = Paper(
        "Smilkov et al. 2017; Adebayo et al. 2018; Hooker et al. 2019",
        "section 3; section 2; section 3",
        "https://arxiv.org/abs/1706.03825",
    )
    kind = "map"
    Parameters = SmoothGradParameters
    gradients = True
    lowers = True
    target = True
    attributes = True
    preview: ClassVar[Mapping[str, Any]] = {"samples": 4}

    def run(self, job: Job[SmoothGradParameters]) -> Result:
        """One forward and one backward a copy; sums are kept, copies are not."""
        import numpy as np

        from convlens.attribution.maps import Signal, input_map
        from convlens.attribution.slopes.sampled import gradients_at, real_points

        settings = job.parameters
        x = real_points(job, job.images.array)
        count = len(x)
        flat = x.reshape(count, -1).astype(np.float64)
        spread = settings.noise * (flat.max(axis=1) - flat.min(axis=1))

        @lru_cache(maxsize=1)  # the inputs follow each other inside one copy
        def noise(number: int) -> NDArray[Any]:
            return np.random.default_rng([job.seed, number]).standard_normal(x.shape[1:])

        def noisy(image: int, number: int) -> NDArray[Any]:
            if number == _AS_IT_IS:
                return np.asarray(x[image])
            return np.asarray(x[image] + spread[image] * noise(number)).astype(x.dtype)

        mean, squares = np.zeros(x.shape), np.zeros(x.shape)  # of distances from the mean, after Welford
        scores, noisy_scores = np.zeros(count), np.zeros(count)
        numbers = (_AS_IT_IS, *range(settings.samples))
        rows = [(image, number) for number in numbers for image in range(count)]
        for one in gradients_at(job, settings.rule, rows, noisy, job.advance):
            if one.number == _AS_IT_IS:
                scores[one.image] = one.score
                continue
            apart = one.gradient - mean[one.image]
            mean[one.image] += apart / (one.number + 1)
            squares[one.image] += apart * (one.gradient - mean[one.image])
            noisy_scores[one.image] += one.score / settings.samples
        variance = squares / settings.samples
        found = {"mean": mean, "variance": variance, "square": variance + mean**2}[settings.statistic]
        own = x.dtype if x.dtype == np.float64 else np.float32
        signal = Signal(
            "gradient",
            found.astype(own),
            scores.astype(own),
            _UNITS[settings.statistic],
            f"{_TITLES[settings.statistic]}{'' if settings.rule == 'plain' else f' ({settings.rule})'}",
            contribution=False,
            reduction=settings.reduction,
            colour=settings.statistic == "mean",
            arrays={"noisy_score": noisy_scores.astype(own)},
            units={"noisy_score": "score of the target"},
            rows=[{"noisy score": float(score)} for score in noisy_scores],
            hints={"rule": settings.rule},
        )
        return input_map(job, self.name, signal)
