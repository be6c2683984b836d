"""``visualise``: the picture that a class, channel or neuron answers to most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from convlens.errors import ParameterError
from convlens.registry import Field, Finding, Job, Method, Paper, Parameters, register
from convlens.results import Result
from convlens.shown import shown
from convlens.synthesis.presets import PRESETS, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.loop import Outcome, Stage
    from convlens.targets import Spec, Target


def _channels(value: Any) -> Any:
    """``all``, or numbers and ranges like ``0,4,8-11``, checked."""
    if value is None or value == "all":
        return value
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    text = str(text) if isinstance(text, int) and not isinstance(text, bool) else text
    if not isinstance(text, str):
        raise ValueError("expected all, or numbers and ranges like 0,4,8-11")
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last.isdigit() or not last) or (last and int(last) < int(first)):
            raise ValueError("expected all, or numbers and ranges like 0,4,8-11")
        found += range(int(first), int(last or first) + 1)
    return ",".join(map(str, dict.fromkeys(found)))


Channels = Annotated[str | None, BeforeValidator(_channels)]


class VisualiseParameters(Parameters):
    """What ``visualise`` can be told; what is left out is the preset's."""

    preset: Literal[
        "lucid2017", "simonyan2014", "yosinski2015", "graetz2019", "nguyen2016", "lee2020-digits"
    ] = Field("lucid2017", description="the paper whose way is gone")
    channel: Channels = Field(
        None,
        description="of a target that is a layer: these channels, a picture each (0,4,8-11 or all)",
    )
    side: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side of the picture; the model's own by default",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    steps: int | None = Field(None, ge=1, le=100000, description="steps of the optimiser, over all octaves")
    learning_rate: float | None = Field(None, gt=0, description="step size of the optimiser")
    start: Literal["noise", "grey", "mean"] | None = Field(None, description="the picture to start from")
    parametrisation: Literal["fourier", "laplacian", "pixels"] | None = Field(
        None, description="what is optimised in the picture's place"
    )
    optimiser: Literal["adam", "sgd", "lbfgs"] | None = Field(None, description="how steps are taken")
    jitter: int | None = Field(
        None,
        ge=0,
        description="largest shift at each step",
        json_schema_extra={"unit": "pixels (samples, ...)"},
    )
    scale: float | None = Field(None, ge=0, lt=1, description="largest change of size at each step, a share")
    rotate: float | None = Field(
        None, ge=0, le=180, description="largest turn at each step", json_schema_extra={"unit": "degrees"}
    )
    l2: float | None = Field(None, ge=0, description="weight of the mean square")
    l1: float | None = Field(None, ge=0, description="weight of the mean magnitude")
    tv: float | None = Field(None, ge=0, description="weight of the total variation")
    p6: float | None = Field(None, ge=0, description="weight of the mean sixth power")
    decay: float | None = Field(None, ge=0, lt=1, description="share of the contrast lost at each step")
    blur: float | None = Field(
        None, ge=0, description="standard deviation of a blur", json_schema_extra={"unit": "pixels"}
    )
    blur_every: int | None = Field(None, ge=1, description="steps between two blurs")
    small: float | None = Field(
        None, ge=0, lt=1, description="share of the weakest pixels emptied at each step"
    )
    idle: float | None = Field(
        None, ge=0, lt=1, description="share of the pixels that contribute least emptied at each step"
    )
    centre: float | None = Field(
        None, ge=0, le=1, description="how much the search begins in the middle of the picture"
    )
    octaves: int | None = Field(None, ge=1, le=30, description="sizes of the picture, from small to full")
    octave_factor: float | None = Field(None, gt=1, le=4, description="from one size to the next")
    octave_blur: float | None = Field(
        None, ge=0, description="blur between two sizes", json_schema_extra={"unit": "pixels"}
    )


@register
class Visualise(Method[VisualiseParameters]):
    """The picture that drives the target up, found by gradient ascent from next to nothing.

    ``picture`` (main) is N x channels x the picture's spatial axes: of photos red, green, blue from 0 to 1,
    else the numbers that the model takes; one a channel where ``channel`` asks for several, else one.
    ``score`` is the target's score of each, ``start`` that of the picture that the search began with, and
    ``history`` the score at every step, N x steps, while the picture was shifted, scaled and turned.
    """

    name = "visualise"
    summary = "the picture that a class, channel or neuron answers to most"
    paper = Paper(
        "Erhan et al. 2009; Simonyan et al. 2014; Olah et al. 2017",
        "section 3; section 2; all of it",
        "https://distill.pub/2017/feature-visualization/",
    )
    kind = "panels"
    Parameters = VisualiseParameters
    images = False
    gradients = True
    target = True
    searches = True
    preview: ClassVar[dict[str, Any]] = {"steps": 4, "jitter": 1}

    def default(self, model: Model) -> Spec:
        """The deepest layer whose units have a place; the last where there is none."""
        placed = model.layers.placed()
        return (placed or model.layers)[-1].alias

    def run(self, job: Job[VisualiseParameters]) -> Result:
        """One search a group of pictures, as many at once as the batch holds."""
        import numpy as np

        from convlens.synthesis import starts
        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.fitting import groups
        from convlens.synthesis.loop import optimise
        from convlens.synthesis.objectives import goal_of
        from convlens.synthesis.recipes import recipe_of

        assert job.target is not None
        given = job.parameters.model_dump(exclude={"preset", "channel", "side"})
        model, settings = job.model, settings_of(job.parameters.preset, given)
        space = len(model.source.axes)
        canvas = canvas_for(model, (job.parameters.side,) * space if job.parameters.side else None)
        target, count = _pictures(job, job.target)
        stages, recipe = _stages(canvas, settings), recipe_of(settings)
        step = 1 if settings["optimiser"] == "lbfgs" else model.runner.step(min(job.batch_size, count))
        halved: list[str] = []

        def search(first: int, rows: int) -> Outcome:
            return optimise(
                model,
                canvas,
                goal_of(model, target.rows(first, first + rows)),
                starts.KINDS[settings["start"]](canvas, rows, job.seed),
                stages,
                recipe,
                seed=job.seed,
                watch=job.watch,
                key=f"{first:04d}-{rows}",
                advance=lambda share: job.advance((first + share * rows) / count),
            )

        parts = []
        for part in groups(count, step, search, halved):
            parts.append(part)
            if part.interrupted is not None:
                break
        made = sum(len(part.scores) for part in parts)
        scores = np.concatenate([part.scores for part in parts])
        pictures = np.concatenate([part.pictures.cpu().numpy() for part in parts])
        history = _beside([part.history for part in parts])
        dead = np.concatenate([part.dead for part in parts])
        labels = [target.words(row) for row in range(made)]
        return Result(
            method=self.name,
            kind=self.kind,
            main="picture",
            arrays={"picture": pictures, "score": scores, "history": history},
            units={
                "picture": "0 black to 1 white" if canvas.photo else "as the model takes it",
                "score": "score of the target",
                "history": "score of the target",
            },
            rows=tuple(
                {
                    "target": labels[row],
                    "start": float(history[row, 0]),
                    "score": float(scores[row]),
                    "silent": bool(dead[row]),
                }
                for row in range(made)
            ),
            hints={
                "photo": canvas.photo,
                "panels": [_sheet(job.target.text, labels, scores.tolist())],
                "photos": _files(labels) if canvas.photo else [],
                **shown(job),
            },
            how={
                "settings": settings,
                "source": PRESETS[job.parameters.preset].source,
                "warnings": halved + _warned(parts),
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """Pictures in which nothing came about."""
        silent = [row["target"] for row in result.rows if row["silent"] and row["score"] <= row["start"]]
        return [
            Finding("attention", f"{name}: no signal reaches the picture.", "its gradient is zero everywhere")
            for name in silent
        ]


def _beside(histories: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Scores by step of all searches; those that ended early are filled up with NaN."""
    import numpy as np

    longest = max(part.shape[1] for part in histories)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=np.nan) for part in histories]
    )


def _sheet(title: str, labels: list[str], scores: list[float]) -> dict[str, Any]:
    """All pictures on one sheet."""
    names = [label.removesuffix(f" of {title.removeprefix('layer ')}") for label in labels]
    one = len(labels) == 1
    answers = f"what {labels[0]} answers to most"
    return {
        "name": labels[0] if one else title,
        "caption": answers if one else f"what the channels of {title} answer to",
        "alt": f"{answers[0].upper()}{answers[1:]}, with a score of {scores[0]:.3g}."
        if one
        else f"{len(labels)} pictures, one for each of {labels[0]} to {labels[-1]}.",
        "tiles": [{"array": "picture", "index": row, "label": name} for row, name in enumerate(names)],
    }


def _files(labels: list[str]) -> list[dict[str, Any]]:
    """Each picture as a file of its own."""
    from convlens.pictures.picture import slug

    return [{"name": slug(label), "array": "picture", "index": row} for row, label in enumerate(labels)]


def _warned(parts: Sequence[Outcome]) -> list[str]:
    """What a person should know of the search itself."""
    said = []
    stopped = [part.stopped for part in parts if part.stopped is not None]
    if stopped:
        said.append(
            f"step {min(stopped)} gave a number that is not finite; the picture is that of the step before"
        )
    if any(part.relaxed.any() for part in parts):
        said.append(
            "no signal reached the first picture, so closed rectifiers let positive signal through in the "
            "first steps"
        )
    return said


def _pictures(job: Job[VisualiseParameters], target: Target) -> tuple[Target, int]:
    """The target with a row a picture, and how many pictures there are."""
    from convlens.synthesis.objectives import channels_of, repeated

    wanted = job.parameters.channel
    if wanted is None:
        return repeated(target, 1), 1
    if target.kind != "layer" or target.layer is None:
        raise ParameterError(
            f"channels are of a layer, and the target is {target.text}; give a layer as target"
        )
    if wanted == "all":
        if target.layer.channels is None:
            raise ParameterError(
                f"how many channels layer {target.layer.alias!r} has is not known; list them"
            )
        numbers = list(range(target.layer.channels))
    else:
        numbers = [int(part) for part in wanted.split(",")]
    return channels_of(target.layer, numbers), len(numbers)


def _stages(canvas: Canvas, settings: dict[str, Any]) -> list[Stage]:
    """Sizes from small to full, the steps shared out evenly, the remainder to the last."""
    from convlens.synthesis.loop import Stage

    octaves = min(settings["octaves"], settings["steps"])
    each = settings["steps"] // octaves
    stages = []
    for number in range(octaves):
        shrink = settings["octave_factor"] ** (octaves - 1 - number)
        size = tuple(max(min(8, length), round(length / shrink)) for length in canvas.size)
        steps = each if number < octaves - 1 else settings["steps"] - each * (octaves - 1)
        stages.append(Stage(size, steps, settings["octave_blur"]))
    return stages
