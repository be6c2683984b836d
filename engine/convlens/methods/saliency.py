"""``saliency``: which pixels would change the target most, under one of three rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result
from convlens.shown import given_arrays, given_units, shown, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

_NAMES = {
    "plain": "gradient (plain)",
    "deconvnet": "deconvnet reconstruction",
    "guided": "guided backpropagation",
}
_TEXTS = {
    "plain": "How much the score would change if a pixel changed a little. Honest, but grainy: it is local.",
    "deconvnet": "Only positive signal is sent back. Shows the pattern that could excite the class.",
    "guided": "Only positive signal, through units that fired. Sharp, but edges show up for any class.",
}

_SAME = 0.7  # mean correlation between photos from which on a picture hardly depends on the photo


class SaliencyParameters(Parameters):
    """What ``saliency`` can be told."""

    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "plain", description="what rectifiers do to the signal on its way back"
    )
    reduction: Literal["max", "mean", "signed"] = Field(
        "max", description="colours to one number in the picture: largest or mean magnitude, or signed sum"
    )


@register
class Saliency(Method[SaliencyParameters]):
    """The signal that arrives at the input, signed, in the shape of the input: ``gradient`` (main).

    ``plain`` is the derivative of the target's score (for a class: the score before the softmax)
    with respect to each input number. ``deconvnet`` and ``guided`` change what rectifiers pass on.
    ``score`` is the target's score, one an image. Tokens have no derivative: they are explained at
    their embedding, N x T x D, with ``magnitude`` the length of each token's gradient and ``product``
    the sum of gradient times embedding, signed, both N x T.
    """

    name = "saliency"
    summary = "which pixels the target depends on: gradient, deconvnet or guided"
    paper = Paper(
        "Simonyan, Vedaldi & Zisserman 2014; Zeiler & Fergus 2014; Springenberg et al. 2015",
        "sections 3; 2.1; 3.4",
        "https://arxiv.org/abs/1312.6034",
    )
    kind = "map"
    Parameters = SaliencyParameters
    gradients = True
    target = True

    def run(self, job: Job[SaliencyParameters]) -> Result:
        """One forward and one backward an image."""
        from convlens.explained import explained_at
        from convlens.instrument.gradients import input_gradient

        assert job.target is not None
        rule, reduction = job.parameters.rule, job.parameters.reduction
        source = job.model.source
        place = explained_at(job.model.graph, source)
        signal, scores = input_gradient(
            job.model, job.images.array, job.target, rule, job.batch_size, job.advance
        )
        unit = "signal at the input" if rule != "plain" else "score per input unit"
        over = "colours" if source.image else "channels"
        what = {"max": f"largest magnitude over {over}", "mean": "mean magnitude", "signed": "signed sum"}
        if source.channels == 1 or (source.channels is None and not source.image):
            what = {"max": "magnitude", "mean": "magnitude", "signed": "signed"}
        draw = [
            {"array": "gradient", "style": "map", "reduction": reduction, "label": what[reduction]},
            {"array": "gradient", "style": "colour"},
        ]
        if source.channels not in (None, 1, 3) or not source.image:
            draw.pop()
        arrays = {"gradient": signal, "score": scores}
        units = {"gradient": unit, "score": "score of the target"}
        if place.how == "embedding":
            per_token, words = _per_token(job, signal, place.value), place.words()
            arrays, units = {**arrays, **per_token}, {**units, "magnitude": unit, "product": "score"}
            draw = [
                {"array": "product", "style": "map", "label": f"gradient x embedding, at {words}"},
                {
                    "array": "magnitude",
                    "style": "strength",
                    "reduction": "max",
                    "label": f"length of the gradient, at {words}",
                },
            ]
        return Result(
            method=self.name,
            kind=self.kind,
            main="gradient",
            arrays={**arrays, **given_arrays(job)},
            units={**units, **given_units(job)},
            images=job.images.names,
            views=job.images.views,
            rows=tuple(
                {
                    "image": name,
                    "target": job.target.words(i),
                    "score": float(scores[i]),
                    "largest": float(abs(signal[i]).max()),
                }
                for i, name in enumerate(job.images.names)
            ),
            hints={
                "draw": draw,
                "layout": source.layout,
                "channels": job.model.colours,
                **shown(job),
                "each": [
                    {
                        "title": f"{_NAMES[rule]} of {job.target.words(i)}",
                        "short": job.target.words(i),
                        **words_of(job, i),
                    }
                    for i in range(len(signal))
                ],
                "rule": rule,
            },
            how={"explained_at": place.words()},
        )

    def plan(self, model: Model) -> Sequence[Step]:
        """The three rules side by side, for the predicted class."""
        if model.classes is None:
            return ()
        photo = model.source.image
        section = "Which pixels it depends on" if photo else "Which parts it depends on"
        texts = _TEXTS if photo else {**_TEXTS, "plain": _TEXTS["plain"].replace("a pixel", "a number")}
        return tuple(Step(section, 30, _NAMES[rule], {"rule": rule}, texts[rule]) for rule in _NAMES)

    def findings(self, result: Result) -> Sequence[Finding]:
        """Pictures that are empty, and pictures that do not depend on the photo."""
        import numpy as np

        name = _NAMES[result.hints["rule"]]
        found = []
        for index, row in enumerate(result.rows):
            if row["largest"] == 0:
                text = f"{row['image']}: the {name} is empty; no signal reaches the input."
                found.append(Finding("attention", text, "every number is zero", index))
        flat = result.array.reshape(len(result.array), -1).astype(np.float64)
        spread = np.abs(flat).max(axis=1) > 0
        if spread.sum() >= 2:
            shared = np.corrcoef(np.abs(flat[spread]))
            mean = float(shared[np.triu_indices(len(shared), 1)].mean())
            if mean > _SAME:
                noun = "input" if "input" in result.hints else "photo"
                text = (
                    f"The {name} looks much the same for every {noun}, so it tells about the network and "
                    f"not about the {noun}. This happens where no max pooling remembers where things were."
                )
                evidence = f"mean correlation {mean:.2f} between the pictures of {len(shared)} {noun}s"
                found.append(Finding("attention", text, evidence))
        return found


def _per_token(
    job: Job[SaliencyParameters], gradient: NDArray[Any], embedding: str
) -> dict[str, NDArray[Any]]:
    """Two numbers a token, N x T, from the gradient at the embedding and the embedding itself."""
    import numpy as np

    given = {job.model.source.name: job.images.array}
    value = job.model.runner.run(given, [embedding], job.batch_size)[embedding]
    tokens = job.images.array.shape
    apart = (*tokens, -1)
    return {
        "magnitude": np.sqrt((gradient**2).reshape(apart).sum(axis=-1)),
        "product": (gradient * value).reshape(apart).sum(axis=-1),
    }
