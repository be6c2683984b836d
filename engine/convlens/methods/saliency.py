"""``saliency``: which pixels would change the target most, under one of three rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, Step, register
from convlens.results import Result

if TYPE_CHECKING:
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
    lowers = True
    target = True
    attributes = True

    def run(self, job: Job[SaliencyParameters]) -> Result:
        """One forward and one backward an image."""
        from convlens.attribution.maps import Signal, input_map
        from convlens.instrument.gradients import input_gradient

        assert job.target is not None
        rule = job.parameters.rule
        gradient, scores = input_gradient(
            job.model, job.images.array, job.target, rule, job.batch_size, job.advance
        )
        signal = Signal(
            "gradient",
            gradient,
            scores,
            "signal at the input" if rule != "plain" else "score per input unit",
            _NAMES[rule],
            contribution=False,
            reduction=job.parameters.reduction,
            hints={"rule": rule},
        )
        return input_map(job, self.name, signal)

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
