"""``fool``: pictures changed a little, so that the model sees something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convlens.errors import ParameterError, TargetError, UsageError
from convlens.fooling.table import ATTACKS, Name, NormName
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.fooling.settings import Settings

_LEVELS: dict[str, Any] = {"unit": "pixel levels, 0 to 255; of other inputs their own numbers"}


class FoolParameters(Parameters):
    """What ``fool`` can be told."""

    attack: Name = Field(
        "pgd",
        description="fgsm: one step; pgd: steps inside a ball; deepfool and carlini-wagner: the smallest "
        "change that does",
    )
    norm: NormName | None = Field(
        None,
        description="how a change is measured: its largest number (linf) or its Euclidean length (l2); linf "
        "by default, of deepfool and carlini-wagner l2",
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        description="the largest change; 8 levels in linf and a root mean square of 2 in l2 by default (of "
        "other inputs as great a share of each one's range)",
        json_schema_extra=_LEVELS,
    )
    epsilons: tuple[float, ...] = Field(
        (),
        description="how many of the images hold out against changes of this size, as a curve",
        json_schema_extra=_LEVELS,
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="steps at most: 40 of pgd, 50 of deepfool, 100 a search by default",
    )
    step_size: float | None = Field(
        None,
        gt=0,
        description="size of a step of pgd in the norm; 2.5 epsilon / steps by default",
        json_schema_extra=_LEVELS,
    )
    loss: Literal["cross-entropy", "margin"] = Field(
        "cross-entropy",
        description="what fgsm and pgd drive up: the loss of the training, or the difference of two scores",
    )
    until: float | None = Field(
        None,
        ge=0,
        le=1,
        description="pgd goes on until the class has this probability; 0 stops at the first change that "
        "fools; 0.9 by default",
    )
    restarts: int = Field(
        1, ge=1, le=1000, description="how often pgd begins anew, at random, where it failed"
    )
    random_start: bool = Field(False, description="pgd begins at a random place of the ball")
    also: tuple[str, ...] = Field(
        (), description="another model, by file or name: do the pictures fool it, too, through its own card"
    )


@register
class Fool(Method[FoolParameters]):
    """Pictures changed a little, so that the model sees another class: any other, or the target.

    Without a target the class that the model sees is left; a target that is a class is reached; the score
    of any other target is driven up, inside the ball. Photos change by whole levels, and what is found is
    a picture with 8 bits: ``fooled`` (main) and ``clean``, N x height x width x channels, levels, are
    what the model sees. They are saved as PNG files that the card brings back to exactly that; where it
    crops, ``fooled_file`` and ``clean_file`` have a mirrored border for it to cut off. Of other inputs
    they are numbers as the model takes them, N x channels x axes. ``difference`` is the change, magnified
    around grey by the factor ``magnified`` (N) (of other inputs the change itself). ``probability`` is N
    x 2, before and after, of the class seen (``seen``, N x 2); ``linf`` and ``l2`` (N) are the change's
    largest number and Euclidean length; ``told`` and ``gained`` (N) are what the change would gain if the
    model were linear, and what it gains, of the loss that is driven up. With ``epsilons``, ``survives``
    (N x those in ``epsilon``, from 0 on) is 1 where an image keeps its class. With ``also``, ``transfer``
    (N x models) is 1 where another model sees something else, too.
    """

    name = "fool"
    summary = "pictures changed a little, so that the model sees something else"
    paper = Paper(
        "Goodfellow et al. 2015; Madry et al. 2018; Moosavi-Dezfooli et al. 2016; Carlini & Wagner 2017",
        "section 4; section 2.1; algorithm 2; section 6",
        "https://arxiv.org/abs/1412.6572",
    )
    kind = "panels"
    Parameters = FoolParameters
    gradients = True
    target = True
    searches = True
    preview: ClassVar[Mapping[str, Any]] = {"steps": 3, "until": 0.0}

    def run(self, job: Job[FoolParameters]) -> Result:
        """Attack, look at what came of it through onnxruntime, and hold it against other models."""
        from convlens.fooling import transfer
        from convlens.fooling.aims import ClassAim
        from convlens.fooling.drawn import result_of
        from convlens.fooling.following import Follow
        from convlens.fooling.ground import ground_for
        from convlens.fooling.search import attacked, judged, shares_of, survived
        from convlens.fooling.settings import aim_for
        from convlens.fooling.sight import Sight

        assert job.target is not None
        own, settings = job.parameters, _settings(job)
        ground, clean, exact = ground_for(job.model, job.images)
        if own.also and not ground.whole:
            raise UsageError("--also reads the pictures through another card, and these inputs are no photos")
        others = transfer.opened(own.also, job.model.device, job.model.threads)
        shares = shares_of(job.model, ground, clean, job.batch_size)
        aim = aim_for(job.model, job.target, shares)
        if own.epsilons and not isinstance(aim, ClassAim):
            raise TargetError(f"epsilons count the images that keep their class, and {aim.text} is none")
        loss = "margin" if ATTACKS[own.attack].margin else own.loss
        sight = Sight(job.model, ground, aim, loss)
        said: list[str] = []
        share = 1 / (1 + len(own.epsilons))
        follow = Follow(job.watch, ground)
        found, left = attacked(
            sight,
            clean,
            settings,
            job.batch_size,
            follow,
            advance=lambda done: job.advance(share * min(done, 0.99)),
            said=said,
        )
        outcome = judged(sight, clean, found, job.batch_size)
        survives = None
        if own.epsilons and not job.watch.stopped:
            survives = survived(
                sight,
                clean,
                settings,
                sorted(set(own.epsilons)),
                outcome,
                job.batch_size,
                Follow(job.watch, ground, kept=False),
                advance=lambda done: job.advance(share + (1 - share) * done),
            )
        survives = None if job.watch.stopped else survives
        job.advance(1.0)
        said += _said(job, exact)
        if len(left):
            said.append(f"{len(left)} of {len(clean)} inputs were not come to and are as they were")
        return result_of(self, job, settings, sight, outcome, survives, others, left.tolist(), said)

    def findings(self, result: Result) -> Sequence[Finding]:
        """What held out, where no signal came through, and what was there from the start."""
        found = []
        for index, row in enumerate(result.rows):
            name = row["image"]
            if result.hints["broken"][index] >= 0:
                text = (
                    f"{name}: the search met a number that is not finite, and what was found before was kept."
                )
                found.append(Finding("attention", text, f"at step {result.hints['broken'][index]}", index))
            elif result.hints["silent"][index] and not row.get("fooled"):
                text = f"{name}: no signal reaches the input, so that it holds out says nothing of the model."
                found.append(Finding("attention", text, "the gradient is zero everywhere", index))
            elif row.get("fooled") is False and row.get("target") == row["before"]:
                text = f"{name}: the model sees the target in it as it is, and nothing was changed."
                found.append(Finding("note", text, f"{row['probability before']:.0%}", index))
        return found


def _settings(job: Job[FoolParameters]) -> Settings:
    """How the attack is led.

    Raises:
        ParameterError: something is said that the attack has no use for.
    """
    from convlens.fooling.settings import Settings

    own = job.parameters
    if any(not epsilon > 0 for epsilon in own.epsilons):
        raise ParameterError(f"epsilons are {', '.join(map(str, own.epsilons))}; expected numbers above 0")
    unused = {
        "epsilon": own.epsilon is not None and ATTACKS[own.attack].smallest,
        "steps": own.steps is not None and own.attack == "fgsm",
        "step_size": own.step_size is not None and own.attack != "pgd",
        "until": own.until is not None and own.attack != "pgd",
        "restarts": own.restarts > 1 and own.attack != "pgd",
        "random_start": own.random_start and own.attack != "pgd",
    }
    for name in (name for name, given in unused.items() if given):
        what = "seeks the smallest change" if name == "epsilon" else "does not use it"
        other = "epsilons draws how many hold out" if name == "epsilon" else "it is one of pgd's"
        raise ParameterError(f"{name} is given, and {own.attack} {what}; leave it out ({other})")
    return Settings(
        own.attack,
        own.norm,
        own.epsilon,
        own.steps,
        own.step_size,
        own.loss,
        own.until,
        own.restarts,
        own.random_start,
        job.seed,
    )


def _said(job: Job[FoolParameters], exact: bool) -> list[str]:
    """What a person should know of the inputs."""
    said = []
    if not exact:
        said.append(
            "the arrays given are no 8-bit pictures; the nearest ones were attacked, and what stands under "
            "before is theirs"
        )
    if job.model.source.kind == "board":
        said.append("planes of a board hold 0 and 1; the numbers found are none that a game can reach")
    return said
