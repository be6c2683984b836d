"""``input-x-gradient``: each input number times the gradient of the target with respect to it."""

from __future__ import annotations

from typing import Literal

from convlens.registry import Field, Job, Method, Paper, Parameters, register
from convlens.results import Result


class InputXGradientParameters(Parameters):
    """What ``input-x-gradient`` can be told."""

    rule: Literal["plain", "deconvnet", "guided"] = Field(
        "plain", description="what rectifiers do to the signal on its way back"
    )
    reduction: Literal["max", "mean", "signed"] = Field(
        "signed", description="colours to one number in the picture: largest or mean magnitude, or signed sum"
    )


@register
class InputXGradient(Method[InputXGradientParameters]):
    """Input times gradient, signed, in the shape of the input: ``products`` (main).

    What each input number would contribute to the score if the model were linear. The input is what
    the model takes, after normalisation: a number counts from zero there, which for most photos is the
    mean colour of the training set, and where it is zero the product is zero too, whatever the gradient.
    ``score`` is the target's score, one an image. Tokens are explained at their embedding, N x T x D, with
    ``magnitude`` the length of each token's products and ``product`` their sum, both N x T.
    """

    name = "input-x-gradient"
    summary = "each input number times its gradient: its share if the model were linear"
    paper = Paper("Shrikumar et al. 2016", "section 3.2", "https://arxiv.org/abs/1605.01713")
    kind = "map"
    Parameters = InputXGradientParameters
    gradients = True
    lowers = True
    target = True
    attributes = True

    def run(self, job: Job[InputXGradientParameters]) -> Result:
        """One forward and one backward an image."""
        from convlens.attribution.maps import Signal, input_map
        from convlens.instrument.gradients import input_gradient, start_points

        assert job.target is not None
        model, array, rule = job.model, job.images.array, job.parameters.rule
        gradient, scores = input_gradient(model, array, job.target, rule, job.batch_size, job.advance)
        points = start_points(model, array, job.batch_size)
        signal = Signal(
            "products",
            points * gradient,
            scores,
            "score",
            f"input x gradient{'' if rule == 'plain' else f' ({rule})'}",
            contribution=True,
            reduction=job.parameters.reduction,
            hints={"rule": rule},
        )
        return input_map(job, self.name, signal)
