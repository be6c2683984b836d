"""One dream: an image, a search over its octaves in tiles, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from convlens.errors import ConvLensError, ParameterError
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.climb import Ascent
from convlens.synthesis.dreams.goals import dream_goal, guided_goal, handed_on, octaves
from convlens.synthesis.fitting import full
from convlens.synthesis.loop import Outcome, optimise
from convlens.synthesis.photos import own
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.tiles import Tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from convlens.registry import Job
    from convlens.synthesis.canvas import Canvas
    from convlens.targets import Target

_TILE = 1 << 18
"""Places in a tile: 512 x 512 pixels."""

_SMALLEST = 64
"""Side under which tiles are not made smaller."""

_LEAST = 32
"""Shortest side of a smaller copy: one that is shorter is mostly edge, or nothing after some poolings."""


@dataclass(frozen=True)
class Dreamt:
    """One image and its dream.

    Attributes:
        photo: what it began with, of photos height x width x colours in 8 bits, else the numbers.
        start: what is driven up, in the photo.
        outcome: of the search.
        said: what a person should know of it.
    """

    photo: NDArray[Any]
    start: float
    outcome: Outcome
    said: tuple[str, ...]


def dreamt(job: Job[Any], index: int, guide: Tensor | None) -> Dreamt:
    """The dream of image ``index``, with fewer and then smaller tiles at once where the memory is full.

    Args:
        job: a job of ``dream``.
        index: of the image.
        guide: the second image as the model takes it.

    Raises:
        ConvLensError: the smallest tile does not fit in memory.
        ParameterError: tiles of another size are asked for than the model takes.
        TargetError: a guide is given, and the target is no layer.
    """
    assert job.target is not None
    photo = own(job.images, index, canvas_for(job.model), job.parameters.side)
    extent = tuple(photo.shape[2:])
    canvas = canvas_for(job.model, extent)
    target = job.target.of(index)
    goal = dream_goal(job.model, target) if guide is None else guided_goal(job.model, target, guide)
    spread = 1.0 if canvas.photo else float(photo.std(correction=0)) or 1.0
    rate = job.parameters.learning_rate * spread
    tiles, said = tiles_for(job, canvas), []
    while True:
        recipe = Recipe("pixels", "sgd", rate, momentum=0.0, tiles=tiles)
        try:
            start = float(Ascent(job.model, canvas, goal, recipe, job.seed).score(photo)[0])
            told = job.parameters
            found = optimise(
                job.model,
                canvas,
                goal,
                photo,
                octaves(extent, told.octaves, told.octave_factor, told.steps, _LEAST),
                recipe,
                seed=job.seed,
                watch=job.watch,
                key=f"{index:04d}",
                enlarge=handed_on(photo),
                advance=lambda share: job.advance((index + share) / len(job.images)),
            )
            break
        except (MemoryError, RuntimeError) as error:
            if not full(error):
                raise
            tiles = _less(tiles, error)
            said.append(
                "what went in at once did not fit in memory; went on with tiles of "
                f"{_by(tiles.size)}, {tiles.together} at once"
            )
    said += _said(job, index, tiles, found, extent)
    return Dreamt(canvas.views(photo)[0] if canvas.photo else photo[0].numpy(), start, found, tuple(said))


def guide_of(job: Job[Any], canvas: Canvas) -> Tensor | None:
    """The second image of a job as the model takes it, one row; None where there is none.

    Raises:
        ParameterError: the file holds several inputs.
        ImageError: it cannot be read.
        UsageError: there is no such file.
    """
    path = job.parameters.guide
    if path is None:
        return None
    given = job.model.images(path)
    if len(given) != 1:
        raise ParameterError(f"guide {path} holds {len(given)} images; expected one")
    return canvas.feed(canvas.picture(given.array))


def tiles_for(job: Job[Any], canvas: Canvas) -> Tiles:
    """How pictures are cut for a model; tiles at once hold no more than a batch of its own inputs.

    Raises:
        ParameterError: another size is asked for than the model takes.
    """
    wanted = job.parameters.tile
    if wanted is not None and any(length not in (None, wanted) for length in canvas.fixed):
        raise ParameterError(
            f"tile is {wanted}, and the model takes {_by(canvas.fixed)}; leave it out, and tiles have that "
            "size"
        )
    usual = wanted or round(_TILE ** (1 / len(canvas.size)))
    own_size = canvas_for(job.model).size
    size, exact = [], []
    for length, fixed, known in zip(canvas.size, canvas.fixed, own_size, strict=True):
        short = length < min(_LEAST, known)  # such a picture is continued by itself
        size.append(fixed or (min(_LEAST, known) if short else usual))
        exact.append(fixed is not None or short)
    room = job.model.runner.step(job.batch_size) * prod(own_size) // prod(size)
    return Tiles(tuple(size), tuple(exact), job.parameters.jitter, max(1, room))


def _less(tiles: Tiles, error: BaseException) -> Tiles:
    """Half of what goes in at once."""
    if tiles.together > 1:
        return replace(tiles, together=tiles.together // 2)
    smaller = tuple(n if same else n // 2 for n, same in zip(tiles.size, tiles.exact, strict=True))
    if smaller == tiles.size or min(smaller) < _SMALLEST:
        raise ConvLensError(
            f"one tile of {_by(tiles.size)} alone does not fit in memory; choose a layer nearer to the input"
        ) from error
    return replace(tiles, size=smaller)


def _said(job: Job[Any], index: int, tiles: Tiles, found: Outcome, extent: tuple[int, ...]) -> list[str]:
    """What a person should know of a search."""
    name, target = job.images.names[index], job.target
    assert target is not None
    said = []
    if found.stopped is not None:
        said.append(
            f"{name}: step {found.stopped} gave a number that is not finite; the dream is that of the step "
            "before"
        )
    if found.relaxed.any():
        said.append(
            f"{name}: no signal reached it, so closed rectifiers let positive signal through in the first "
            "steps"
        )
    if tiles.count(extent) > 1 and not all(_local(term) for term in target.parts):
        said.append(
            f"{target.text} is more than what places of a layer answer, so each tile of "
            f"{_by(tiles.lengths(extent))} is judged by itself"
        )
    return said


def _local(term: Target) -> bool:
    """Whether a target is a mean over places, each of which sees a part of the picture."""
    field = term.layer.field if term.layer is not None else None
    return term.kind in ("layer", "channel") and field is not None and None not in field.size


def _by(size: Sequence[int | None]) -> str:
    return " x ".join("any" if length is None else str(length) for length in size)
