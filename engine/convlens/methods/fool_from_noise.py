"""``fool-from-noise``: a picture of nothing in which the model is sure to see a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.targets import Spec


class FoolFromNoiseParameters(Parameters):
    """What ``fool-from-noise`` can be told."""

    start: Literal["noise", "grey"] = Field(
        "noise",
        description="noise: every number of the picture drawn anew from black to white (normal for what is "
        "no photo); grey: all the same (zeros)",
    )
    steps: int = Field(200, ge=1, le=100_000, description="steps at most")
    step_size: float | None = Field(
        None,
        gt=0,
        description="root of the mean square of a step; 1 level, or 0.01 of what is no photo, by default",
        json_schema_extra={"unit": "pixel levels, 0 to 255; of other inputs their own numbers"},
    )
    until: float = Field(0.99, ge=0, le=1, description="the search ends when the class has this probability")


@register
class FoolFromNoise(Method[FoolFromNoiseParameters]):
    """A picture of nothing, changed until the model is sure to see the target in it.

    The gradient is followed with no bound but black and white, and nothing makes the picture look like
    anything; ``visualise`` seeks pictures that people can read. ``picture`` (main) is 1 x height x width x
    colours, levels, exactly what the model sees; of other inputs numbers as the model takes them, 1 x
    channels x axes. Where the card crops, ``picture_file`` is the same with a border for it to cut off.
    ``score`` is 1 x 2: what is driven up, the logarithm of the class's probability or the target's score,
    at the start and at the end. Without a target, class 0 is sought, of a model without classes the deepest
    layer.
    """

    name = "fool-from-noise"
    summary = "a picture of nothing in which the model is sure to see a class"
    paper = Paper("Nguyen, Yosinski & Clune 2015", "section 2.4", "https://arxiv.org/abs/1412.1897")
    kind = "panels"
    Parameters = FoolFromNoiseParameters
    images = False
    gradients = True
    target = True
    preview: ClassVar[Mapping[str, Any]] = {"steps": 3}

    def default(self, model: Model) -> Spec:
        """The first class; the deepest layer whose units have a place where there are no classes."""
        if model.classes is not None:
            return 0
        return (model.layers.placed() or model.layers)[-1].alias

    def run(self, job: Job[FoolFromNoiseParameters]) -> Result:
        """One search."""
        from convlens.fooling.blank import alone
        from convlens.fooling.unbounded import made, reached

        own = job.parameters
        assert job.target is not None
        found = made(job, own.start, own.steps, own.step_size, own.until)
        return alone(self, job, found, reached(job.model, found, job.target, own.until))

    def findings(self, result: Result) -> Sequence[Finding]:
        """Searches that did not come to their end."""
        row = result.rows[0]
        if result.hints["broken"] >= 0:
            text = "The search met a number that is not finite, and what was found before was kept."
            return [Finding("attention", text, f"at step {result.hints['broken']}")]
        if row.get("reached") is False:
            text = f"The model is not as sure as asked that it sees {row['target']}."
            return [Finding("attention", text, f"{row['probability']:.1%} after {row['steps']} steps")]
        return []
