"""``visualise``: the picture that a class, channel or neuron answers to most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convlens.registry import Close, Finding, Job, Method, Paper, Step, Told, register
from convlens.results import Result
from convlens.shown import shown
from convlens.synthesis.presets import PRESETS, settings_of
from convlens.synthesis.visual.options import APART, VisualiseParameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.loop import Outcome
    from convlens.targets import Spec

_QUICK = 256
"""Steps for pictures that are only one of many things shown of a channel."""


@register
class Visualise(Method[VisualiseParameters]):
    """The picture that drives the target up, found by gradient ascent from next to nothing.

    ``picture`` (main) is N x channels x the picture's spatial axes: of photos red, green, blue from 0 to 1,
    else the numbers that the model takes; one a channel where ``channel`` asks for several, one a variant,
    else one. ``score`` is the target's score of each, ``history`` the score at every step, N x steps, while
    the picture was shifted, scaled and turned. Of a class there is also ``probability``, that of the picture
    as it is, N, by onnxruntime, and of photos ``robust``, N x 16, that of copies which were scaled by 0.85 to
    1.15 and shifted by up to a fourteenth of the side in ways that the search did not see. ``begun`` is the
    photo that the search started from, where it did, and ``enlarged`` a second drawing of a CPPN.
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

        from convlens.synthesis.canvas import canvas_for
        from convlens.synthesis.visual.searching import Search
        from convlens.synthesis.visual.wanted import wanted

        assert job.target is not None
        told = job.parameters
        model = job.model
        settings = settings_of(told.preset, told.model_dump(exclude=set(APART)))
        space = len(model.source.axes)
        canvas = canvas_for(model, (told.side,) * space if told.side else None)
        aim = wanted(job, job.target)
        search = Search(job, canvas, settings, aim)
        parts = search.parts()
        made = sum(len(part.scores) for part in parts)
        scores = np.concatenate([part.scores for part in parts])
        history = _beside([part.history for part in parts])
        dead = np.concatenate([part.dead for part in parts])
        arrays = {
            "picture": np.concatenate([part.pictures.cpu().numpy() for part in parts]),
            "score": scores,
            "history": history,
            **search.beside(parts),
        }
        labels = list(aim.labels[:made])
        return Result(
            method=self.name,
            kind=self.kind,
            main="picture",
            arrays=arrays,
            units={name: _unit(name, canvas) for name in arrays},
            rows=tuple(
                {
                    "target": labels[row],
                    "from": search.start_text,
                    "start": _finite(history[row, 0]) if history.shape[1] else None,
                    "score": _finite(scores[row]),
                    **{
                        name: float(arrays[name][row].mean())
                        for name in ("probability", "robust")
                        if name in arrays
                    },
                    "silent": bool(dead[row]),
                }
                for row in range(made)
            ),
            hints={
                "photo": canvas.photo,
                "panels": [_sheet(aim.text, labels, scores.tolist(), "begun" in arrays, told.channel)],
                "photos": _files(labels, "enlarged" in arrays) if canvas.photo else [],
                **shown(job),
            },
            how={
                "settings": settings,
                "source": PRESETS[told.preset].source,
                "warnings": search.said + _warned(parts),
            },
        )

    def look(self, model: Model, recording: Recording, close: Close) -> Sequence[Step]:
        """A picture of each channel that more may be spent on, after a few steps."""
        del model, recording
        if not close.drawn:
            return ()
        settings = {"channel": ",".join(map(str, close.drawn)), "steps": _QUICK}
        text = f"Pictures that were made for a channel were sought in {_QUICK} steps; more show more."
        return (Step("", 40, "made for it", settings, text, close.layer),)

    def tell(self, result: Result) -> Mapping[int, Told]:
        """How far the score of each channel rose."""
        (sheet,) = result.hints["panels"]
        found = {}
        for tile, row in zip(sheet["tiles"], result.rows, strict=False):
            start, score = row["start"], row["score"]
            if "channel" in tile and start is not None and score is not None:
                text = f"drives it from {start:.3g} to {score:.3g}"
                found[tile["channel"]] = Told({"the picture made for it": text})
        return found

    def findings(self, result: Result) -> Sequence[Finding]:
        """Pictures in which nothing came about, and classes that hold at one place only."""
        found = []
        for row in result.rows:
            start, score = row["start"], row["score"]
            if start is not None and score is not None and score <= start:
                text = "no signal reaches the picture" if row["silent"] else "the score did not rise"
                evidence = (
                    "its gradient is zero everywhere" if row["silent"] else f"{start:.3g}, then {score:.3g}"
                )
                found.append(Finding("attention", f"{row['target']}: {text}.", evidence))
            if row.get("probability", 0.0) >= 0.5 > row.get("robust", 1.0):
                found.append(
                    Finding(
                        "attention",
                        f"{row['target']}: the picture is taken for it, and not when it is moved a little.",
                        f"probability {row['probability']:.2f}, moved {row['robust']:.2f} on average",
                    )
                )
        return found


def _unit(name: str, canvas: Canvas) -> str:
    if name in ("picture", "begun", "enlarged"):
        return "0 black to 1 white" if canvas.photo else "as the model takes it"
    return "probability" if name in ("probability", "robust") else "score of the target"


def _finite(number: Any) -> float | None:
    """A number as plain data, None where it is not finite."""
    return float(number) if math.isfinite(number) else None


def _beside(histories: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Scores by step of all searches; those that ended early are filled up with NaN."""
    import numpy as np

    longest = max(part.shape[1] for part in histories)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=np.nan) for part in histories]
    )


def _sheet(
    title: str, labels: list[str], scores: list[float], begun: bool, channels: str | None
) -> dict[str, Any]:
    """All pictures on one sheet, behind the photo that they started from."""
    names = [label.removesuffix(f" of {title.removeprefix('layer ')}") for label in labels]
    one = len(labels) == 1
    answers = f"what {labels[0]} answers to most"
    tiles: list[dict[str, Any]] = [
        {"array": "picture", "index": row, "label": name} for row, name in enumerate(names)
    ]
    if channels is not None:
        numbers = range(len(tiles)) if channels == "all" else map(int, channels.split(","))
        tiles = [{**tile, "channel": channel} for tile, channel in zip(tiles, numbers, strict=False)]
    return {
        "name": labels[0] if one else title,
        "caption": answers if one else f"what the pictures of {title} answer to",
        "alt": f"{answers[0].upper()}{answers[1:]}, with a score of {scores[0]:.3g}."
        if one
        else f"{len(labels)} pictures, one for each of {labels[0]} to {labels[-1]}.",
        "tiles": [{"array": "begun", "index": 0, "label": "start"}, *tiles] if begun else tiles,
    }


def _files(labels: list[str], enlarged: bool) -> list[dict[str, Any]]:
    """Each picture as a file of its own."""
    from convlens.pictures.picture import slug

    names = [slug(label) for label in labels]
    files = [{"name": name, "array": "picture", "index": row} for row, name in enumerate(names)]
    if enlarged:
        files += [{"name": f"{n}-enlarged", "array": "enlarged", "index": row} for row, n in enumerate(names)]
    return files


def _warned(parts: Sequence[Outcome]) -> list[str]:
    """What a person should know of the search itself."""
    said = []
    stopped = [part.stopped for part in parts if part.stopped is not None]
    if stopped:
        kept = "the last one whose score is finite" if min(stopped) else "that of the start"
        said.append(f"step {min(stopped) + 1} gave a number that is not finite; the picture is {kept}")
    if any(part.relaxed.any() for part in parts):
        said.append(
            "no signal reached the first picture, so closed rectifiers let positive signal through in the "
            "first steps"
        )
    return said
