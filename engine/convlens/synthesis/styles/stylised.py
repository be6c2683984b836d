"""What ``texture`` and ``style`` have in common: how their pictures are sought and told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.pictures.picture import stems
from convlens.registry import Finding
from convlens.results import Result
from convlens.shown import shown
from convlens.synthesis.fitting import groups
from convlens.synthesis.loop import Enlarge, enlarged, optimise
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.styles.matching import seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.registry import Job, Method
    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.loop import Outcome, Stage
    from convlens.synthesis.styles.matching import Match

_RATES = {"lbfgs": 1.0, "adam": 0.02}
_MATCHED = 100.0
_HARDLY = 2.0


@dataclass(frozen=True)
class Made:
    """One picture that was made.

    Attributes:
        given: what it was made from, 1 x channels x spatial axes.
        picture: what came out.
        outcome: of the search.
        start: losses of the picture that the search began with, at full size.
        end: losses of what was found.
    """

    given: Tensor
    picture: Tensor
    outcome: Outcome
    start: Losses
    end: Losses


@dataclass(frozen=True)
class Losses:
    """How far a picture is from what it should match: samples x layers, and content layers."""

    style: NDArray[np.float64]
    content: NDArray[np.float64]


def losses_of(model: Model, canvas: Canvas, match: Match, picture: Tensor) -> Losses:
    """How far one picture is from what it should match, unweighted."""
    values = seen(model, canvas, picture, match.names)
    with torch.no_grad():
        style = match.style_losses(values)[0].double().cpu().numpy()
        content = match.content_losses(values)[0].double().cpu().numpy() if match.content else np.zeros(0)
    return Losses(style, content)


def noise_like(sample: Tensor, size: tuple[int, ...], seed: int, photo: bool) -> Tensor:
    """Normal noise with the mean and the spread of each of the sample's channels; photos stay in range."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(1, sample.shape[1], *size, generator=generator, dtype=torch.float64)
    flat = sample.flatten(2).double()
    shape = (1, -1, *(1 for _ in size))
    noise = flat.mean(dim=2).view(shape) + flat.std(dim=2, correction=0).view(shape) * draw
    return (noise.clamp(0, 1) if photo else noise).to(sample)


def searched(
    job: Job[Any],
    index: int,
    canvas: Canvas,
    stages: Sequence[Stage],
    start: Tensor,
    recipe: Recipe,
    enlarge: Enlarge = enlarged,
) -> Outcome:
    """The search of one image of the job; each stage has its goal."""
    goal = stages[-1].goal
    assert goal is not None
    return optimise(
        job.model,
        canvas,
        goal,
        start,
        stages,
        recipe,
        seed=job.seed,
        watch=job.watch,
        key=f"{index:04d}",
        enlarge=enlarge,
        advance=lambda share: job.advance((index + share) / len(job.images)),
    )


def rate(optimiser: str, given: float | None) -> float:
    """Length of a step, where none is given."""
    return _RATES[optimiser] if given is None else given


def one_by_one(count: int, run: Callable[[int], Made], said: list[str]) -> list[Made]:
    """What ``run`` makes of each image, up to one that was interrupted.

    Raises:
        ConvLensError: one does not fit in memory.
    """
    found = []
    for made in groups(count, 1, lambda first, _rows: run(first), said):
        found.append(made)
        if made.outcome.interrupted is not None:
            break
    return found


def result(
    method: Method[Any],
    job: Job[Any],
    canvas: Canvas,
    made: Sequence[Made],
    *,
    made_name: str,
    given_name: str,
    samples: Sequence[str],
    pictured: Mapping[str, Tensor],
    layers: Sequence[str],
    content: Sequence[str] = (),
    caption: Callable[[str], str],
    how: Mapping[str, Any],
    said: Sequence[str],
) -> Result:
    """The pictures, in one array where they have one size, and how close they came.

    Args:
        method: whose.
        job: its job.
        canvas: what a picture is.
        made: an entry an image.
        made_name: array of what was made.
        given_name: array of what it was made from.
        samples: names of the samples, for the rows.
        pictured: samples that are the same for all images, by array name, 1 x channels x spatial axes.
        layers: aliases of the layers whose Gram matrices count.
        content: aliases of those whose values count.
        caption: of an image by name.
        how: what else is recorded.
        said: what a person should know.
    """
    count, names = len(made), job.images.names
    alike = len({(*one.given.shape, *one.picture.shape) for one in made}) == 1
    arrays: dict[str, NDArray[Any]] = {}
    for name, kept in (
        (made_name, [one.picture[0].cpu().numpy() for one in made]),
        (given_name, [_whole(one.given, canvas) for one in made]),
    ):
        if alike:
            arrays[name] = np.stack(kept)
        else:
            arrays |= {f"{name} {number}": one for number, one in enumerate(kept, start=1)}
    shared = [] if alike else list(arrays)
    of_samples = {name: _whole(one, canvas) for name, one in pictured.items()}
    unit = "0 black to 1 white" if canvas.photo else "as the model takes it"
    as_was = "8-bit photo" if canvas.photo else "as the model takes it"
    units = {name: unit if name.startswith(made_name) else as_was for name in arrays}
    arrays |= of_samples
    units |= dict.fromkeys(of_samples, as_was)
    numbers = {
        "style_start": np.stack([one.start.style for one in made]),
        "style_loss": np.stack([one.end.style for one in made]),
    }
    if content:
        numbers["content_start"] = np.stack([one.start.content for one in made])
        numbers["content_loss"] = np.stack([one.end.content for one in made])
    relative = "squared difference, relative to the square of what is wanted"
    numbers["history"] = _beside([-one.outcome.history for one in made])
    units |= dict.fromkeys(numbers, relative)
    units["history"] = "weighted sum of relative squared differences"

    def tile(name: str, index: int) -> dict[str, Any]:
        return {"array": name, "index": index} if alike else {"array": f"{name} {index + 1}"}

    own = stems(names)
    return Result(
        method=method.name,
        kind=method.kind,
        main=next(iter(arrays)),
        arrays={**arrays, **numbers},
        units=units,
        images=names[:count],
        views=None if job.images.views is None else job.images.views[:count],
        rows=tuple(_rows(names, made, samples, layers, content)),
        hints={
            "photo": canvas.photo,
            "panels": [
                {
                    "name": own[i],
                    "index": i,
                    "caption": caption(names[i]),
                    "alt": f"{names[i]}, and what was made of it: {caption(names[i])}.",
                    "columns": 2 + len(of_samples),
                    "side": 224,
                    "tiles": [
                        {**tile(given_name, i), "label": given_name},
                        *({"array": name, "label": name} for name in of_samples),
                        {**tile(made_name, i), "label": made_name},
                    ],
                }
                for i in range(count)
            ],
            "photos": [{"name": f"{own[i]}-{method.name}", **tile(made_name, i)} for i in range(count)]
            if canvas.photo
            else [],
            **shown(job),
        },
        how={**how, "warnings": list(dict.fromkeys([*said, *_warned(names, made)]))},
        shared=(*shared, *of_samples),
    )


def matched(result: Result, what: str) -> list[Finding]:
    """By how much the pictures came nearer to what they should match."""
    found = []
    for index, name in enumerate(result.images):
        weights = np.asarray(result.how["weights"], np.float64)
        start, end = (
            float(np.average(result.arrays[key][index].mean(axis=1), weights=weights))
            for key in ("style_start", "style_loss")
        )
        fall = start / end if end > 0 else float("inf")
        level, text = "note", f"The Gram matrices of {name} came {fall:.3g} times nearer to {what}."
        if not np.isfinite([start, end]).all():
            level, text = "attention", f"How near {name} came is not known: numbers are not finite."
        elif start <= 0:
            text = f"{name} had the Gram matrices of {what} before anything was done."
        elif fall < _HARDLY:
            level, text = "attention", f"{name} hardly took on {what}; give more steps."
        elif fall >= _MATCHED:
            level = "good"
        over = "layers" if len(weights) == 1 else "layers and, by their weights, the styles"
        evidence = f"mean relative squared difference over the {over}: {start:.3g} before, {end:.3g} after"
        found.append(Finding(level, text, evidence, index))  # type: ignore[arg-type]  # one of three words
    return found


def _rows(
    names: Sequence[str],
    made: Sequence[Made],
    samples: Sequence[str],
    layers: Sequence[str],
    content: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """A row an image, sample and layer."""
    for name, one in zip(names, made, strict=False):
        for number, sample in enumerate(samples):
            for place, layer in enumerate(layers):
                start, end = one.start.style[number, place], one.end.style[number, place]
                yield _row(name, sample or name, layer, start, end)
        for place, layer in enumerate(content):
            yield _row(name, "content", layer, one.start.content[place], one.end.content[place])


def _row(image: str, like: str, layer: str, start: float, end: float) -> dict[str, Any]:
    return {"image": image, "like": like, "layer": layer, "start": float(start), "loss": float(end)}


def _whole(picture: Tensor, canvas: Canvas) -> NDArray[Any]:
    """A picture that something began with, of photos height x width x colours in 8 bits."""
    found: NDArray[Any] = canvas.views(picture)[0] if canvas.photo else picture[0].cpu().numpy()
    return found


def _beside(histories: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Losses by step of all searches; those that ended early are filled up with NaN."""
    longest = max(part.shape[1] for part in histories)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=np.nan) for part in histories]
    )


def _warned(names: Sequence[str], made: Sequence[Made]) -> list[str]:
    """What a person should know of the searches themselves."""
    said = []
    for name, one in zip(names, made, strict=False):
        if one.outcome.stopped is not None:
            said.append(
                f"{name}: step {one.outcome.stopped} gave a number that is not finite; the picture is that "
                "of the step before"
            )
    return said
