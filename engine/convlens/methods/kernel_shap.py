"""``kernel-shap``: the target shared out among the parts of the input by Shapley's rule."""

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

    from convlens.attribution.masking.coalitions import Block
    from convlens.attribution.masking.parts import Parts

_FEWEST = 128  # drawn coalitions before an estimate of the error is believed
_AGAIN = 1.15  # the error is estimated anew when there are so many times as many


class KernelShapParameters(Parameters):
    """What ``kernel-shap`` can be told."""

    parts: Cut = Field(None, description=CUT)
    samples: int | None = Field(
        None,
        ge=2,
        le=10**6,
        description="how many coalitions of parts, at the most where --until stops earlier; 2048 and two a "
        "part by default. Where all of them are fewer, all are taken, and the values are exact",
    )
    until: float | None = Field(None, gt=0, lt=1, description=UNTIL)
    fill: Fill = Field(
        None,
        description="what absent parts show: grey, a number (of a photo a pixel value, of tokens an id), "
        "mean (over space) or blur; by default as occlusion has it",
    )


@register
class KernelShap(Method[KernelShapParameters]):
    """The Shapley value of each part of the input, by weighted least squares over coalitions of parts.

    ``values`` (main) is each part's value at every position of the part, signed: for a class a
    probability, else a score; N x rows x columns (of other inputs their own axes). The values of all parts
    add up to ``score``, the target of the whole input (N), less ``empty``, that of the input with
    every part filled (N). ``part`` is the number of the part at each position, ``error`` the standard
    error of its value, by a jackknife over groups of drawn coalitions.

    Where all coalitions fit into the budget the values are exact. Else coalitions of few parts and of
    all but few are taken in whole, the others drawn with their complements. The same coalitions are
    shown of each input. Each row says how many forwards it took, the relative error, and how the
    values from two halves of what was drawn correlate.
    """

    name = "kernel-shap"
    summary = "the target shared out among the parts of the input, by Shapley's rule"
    paper = Paper("Lundberg & Lee 2017", "section 4.1, theorem 2", "https://arxiv.org/abs/1705.07874")
    kind = "map"
    Parameters = KernelShapParameters
    target = True
    attributes = True
    preview: ClassVar[Mapping[str, Any]] = {"parts": 3, "samples": 128}

    def run(self, job: Job[KernelShapParameters]) -> Result:
        """One forward a coalition, in batches; sums alone are kept."""
        from convlens.attribution.maps import spatial_map
        from convlens.attribution.masking.standin import fitted

        found = fitted(job, _one)
        what = found.unit
        exact = all(row["exact"] for row in found.rows)
        return spatial_map(
            job,
            self.name,
            "values",
            found.arrays,
            {
                "values": what,
                "error": f"{what}, standard error",
                "part": "index",
                **dict.fromkeys(("score", "empty"), what),
            },
            title="Kernel SHAP",
            label=f"{what} that the part adds (blue: takes away)",
            short="exact" if exact else "estimated",
            rows=found.rows,
            how={"fill": found.filler},
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Values that have not settled."""
        from convlens.attribution.convergence import unsettled

        return unsettled(result, "coalitions", "--samples")


def _one(job: Job[KernelShapParameters], index: int, parts: Parts, fill: NDArray[Any]) -> dict[str, Any]:
    """The arrays and the row of one image."""
    import numpy as np

    from convlens.attribution.masking.coalitions import Coalitions, shapley
    from convlens.attribution.masking.partition import answers
    from convlens.attribution.masking.regression import NormalSums, settled
    from convlens.attribution.reading import reading, whole

    assert job.target is not None
    count, until, total = parts.count, job.parameters.until, len(job.images)
    read = reading(job.model, job.target.of(index))
    score = float(read.read(whole(job.model, job.images.array[index : index + 1], read.names, read.alone))[0])
    (empty,) = (float(y[0]) for y in answers(job, index, read, parts, fill, [np.zeros((1, count), bool)]))
    budget = job.parameters.samples or 2048 + 2 * count
    plan = Coalitions(count, budget, job.seed)
    if budget < plan.fewest:
        raise ParameterError(
            f"samples is {budget} for {count} parts; expected at least {plan.fewest}, or fewer parts"
        )
    sums = NormalSums(count, lambda a, b: shapley(a, b, score - empty), plan.drawn_mass)
    done, drawn, again = 0, 0, float(max(_FEWEST, 2 * count))
    taken: deque[Block] = deque()  # blocks run ahead of their targets

    def kept() -> Iterator[NDArray[Any]]:
        for block in plan.blocks():
            taken.append(block)
            yield block.keep

    for y in answers(job, index, read, parts, fill, kept()):
        block = taken.popleft()
        sums.add(block.keep, y - empty, block.weights, block.groups)
        done += len(y)
        drawn += len(y) if block.groups is not None else 0
        job.advance(min(1.0, (index + done / budget) / total))
        if until is not None and drawn >= again:
            again = drawn * _AGAIN
            if settled(sums, count)[0] < until:
                break
    job.advance((index + 1) / total)
    values, error = sums.coefficients(), sums.error()
    relative, agree = settled(sums, count)
    return {
        "values": values[parts.index],
        "error": error[parts.index],
        "part": parts.index,
        "score": np.float64(score),
        "empty": np.float64(empty),
        "row": {
            "score": score,
            "empty": empty,
            "parts": count,
            "exact": plan.exact,
            "forwards": 2 + done,
            "error": relative,
            "agreement": agree,
        },
    }
