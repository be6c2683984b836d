"""``lime``: a linear stand-in for the model, fitted around one input over its parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.attribution.convergence import UNTIL
from convlens.attribution.masking.partition import CUT, Cut
from convlens.errors import ParameterError
from convlens.hiding import Fill
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.parts import Parts

_FEWEST = 128  # samples before an estimate of the error is believed
_AGAIN = 1.15  # the error is estimated anew when there are so many times as many
_POOR = 0.5  # share of the target's variance below which the stand-in is no explanation


class LimeParameters(Parameters):
    """What ``lime`` can be told."""

    parts: Cut = Field(None, description=CUT)
    samples: int = Field(
        1000, ge=4, le=10**6, description="how many inputs with parts left out; the most, with --until"
    )
    until: float | None = Field(None, gt=0, lt=1, description=UNTIL)
    width: float = Field(
        0.25,
        gt=0,
        description="width of the kernel: an input at cosine distance d from the whole one weighs "
        "exp(-d^2 / width^2)",
        json_schema_extra={"unit": "cosine distance"},
    )
    ridge: float = Field(1.0, ge=0, description="weight of the penalty on the squared coefficients")
    fill: Fill = Field(
        None,
        description="what parts that are left out show: grey, a number (of a photo a pixel value, of tokens "
        "an id), mean (over space) or blur; by default as occlusion has it",
    )


@register
class Lime(Method[LimeParameters]):
    """The coefficients of a linear model fitted to the target of inputs with some of their parts left out.

    ``values`` (main) is each part's coefficient at every position of the part, signed: for a class a
    probability, else a score; N x rows x columns (of other inputs their own axes). ``part`` is the number
    of the part at each position, ``error`` the standard error of its coefficient, by a jackknife over
    groups of samples, ``score`` (N) the target of the whole input, ``intercept`` (N) what the stand-in
    gives for nothing, and ``fit`` (N) the share of the target's weighted variance that it explains.

    Each part is kept with probability a half; samples are weighed by an exponential kernel of their cosine
    distance from the whole input, and the fit is a ridge regression whose intercept is not penalised.
    The same samples are taken of each input. Each row says how many forwards it took, the relative error,
    and how the coefficients from two halves of the samples correlate.
    """

    name = "lime"
    summary = "a linear stand-in for the model around the input: the weight of each part"
    paper = Paper("Ribeiro, Singh & Guestrin 2016", "section 3.4", "https://arxiv.org/abs/1602.04938")
    kind = "map"
    Parameters = LimeParameters
    target = True
    attributes = True
    preview: ClassVar[Mapping[str, Any]] = {"parts": 3, "samples": 96}

    def run(self, job: Job[LimeParameters]) -> Result:
        """One forward a sample, in batches; sums alone are kept."""
        from convlens.attribution.maps import spatial_map
        from convlens.attribution.masking.standin import fitted

        found = fitted(job, _one)
        what = found.unit
        limit = job.parameters.samples
        return spatial_map(
            job,
            self.name,
            "values",
            found.arrays,
            {
                "values": what,
                "error": f"{what}, standard error",
                "part": "index",
                **dict.fromkeys(("score", "intercept"), what),
                "fit": "share of the weighted variance",
            },
            title="LIME",
            label=f"{what} that the part adds in the linear stand-in (blue: takes away)",
            short=f"{limit} samples{' at most' if job.parameters.until is not None else ''}",
            rows=found.rows,
            how={"fill": found.filler},
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Stand-ins that have not settled, or stand for little."""
        from convlens.attribution.convergence import unsettled

        found = [*unsettled(result, "samples", "--samples")]
        for index, row in enumerate(result.rows):
            if row["fit"] < _POOR:
                text = f"{row['image']}: no linear model stands for the network here; its weights say little."
                evidence = f"it explains {row['fit']:.0%} of the target's variance around the input"
                found.append(Finding("attention", text, evidence, index))
        return found


def _draws(count: int, samples: int, seed: int) -> Iterator[NDArray[Any]]:
    """Which parts are kept, in blocks; the first sample keeps all of them."""
    import numpy as np

    from convlens.attribution.masking.coalitions import BLOCK

    for start in range(0, samples, BLOCK):
        keep = np.random.default_rng([seed, start // BLOCK]).random((BLOCK, count)) < 0.5
        if start == 0:
            keep[0] = True
        yield keep[: samples - start]


def _one(job: Job[LimeParameters], index: int, parts: Parts, fill: NDArray[Any]) -> dict[str, Any]:
    """The arrays and the row of one image."""
    import numpy as np

    from convlens.attribution.masking.partition import answers
    from convlens.attribution.masking.regression import GROUPS, NormalSums, settled, solved
    from convlens.attribution.reading import reading, whole

    assert job.target is not None
    own, count, total = job.parameters, parts.count, len(job.images)
    read = reading(job.model, job.target.of(index))
    score = float(read.read(whole(job.model, job.images.array[index : index + 1], read.names, read.alone))[0])
    if not own.ridge and own.samples < 4 * (count + 1):
        raise ParameterError(
            f"samples is {own.samples} for {count} parts without a penalty; expected at least "
            f"{4 * (count + 1)}, fewer parts, or a ridge above 0"
        )
    penalty = own.ridge * np.diag([*[1.0] * count, 0.0])
    sums = NormalSums(count + 1, lambda a, b: solved(a + penalty, b))
    done, again, squares = 0, float(max(_FEWEST, 2 * count)), np.zeros(3)
    taken: deque[NDArray[Any]] = deque()  # draws run ahead of their targets

    def drawn() -> Iterator[NDArray[Any]]:
        for keep in _draws(count, own.samples, job.seed):
            taken.append(keep)
            yield keep

    for y in answers(job, index, read, parts, fill, drawn()):
        keep = taken.popleft()
        away = 1 - np.sqrt(keep.mean(axis=1))
        weights = np.exp(-((away / own.width) ** 2))
        rows = np.concatenate([keep, np.ones((len(keep), 1))], axis=1)
        sums.add(rows, y - score, weights, (done + np.arange(len(y))) % GROUPS)
        squares += (weights.sum(), weights @ (y - score), weights @ (y - score) ** 2)
        done += len(y)
        job.advance(min(1.0, (index + done / own.samples) / total))
        if own.until is not None and done >= again:
            again = done * _AGAIN
            if settled(sums, count)[0] < own.until:
                break
    job.advance((index + 1) / total)
    found, error = sums.coefficients(), sums.error()
    relative, agree = settled(sums, count)
    fit = _fit(found, sums.drawn.sum(axis=0), squares)
    return {
        "values": found[:-1][parts.index],
        "error": error[:-1][parts.index],
        "part": parts.index,
        "score": np.float64(score),
        "intercept": np.float64(found[-1] + score),
        "fit": np.float64(fit),
        "row": {
            "score": score,
            "parts": count,
            "fit": fit,
            "forwards": 1 + done,
            "error": relative,
            "agreement": agree,
        },
    }


def _fit(found: NDArray[Any], sums: NDArray[Any], squares: NDArray[Any]) -> float:
    """The share of the weighted variance that the stand-in explains; 1 where there is none to explain."""
    weight, once, twice = squares
    around = twice - once**2 / weight
    left = twice - 2 * found @ sums[:, -1] + found @ sums[:, :-1] @ found
    return float(1 - left / around) if around > 1e-18 * max(weight, 1.0) else 1.0
