"""The loop of optimisation, the same for every picture that a model makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convlens.synthesis.canvas import Canvas, resample
from convlens.synthesis.climb import Ascent, Climb
from convlens.synthesis.objectives import Goal
from convlens.synthesis.parametrise import smoothed
from convlens.synthesis.recipes import Recipe
from convlens.watch import Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

_RELAXED_STEPS = 16

Enlarge: TypeAlias = "Callable[[Tensor, Stage], Tensor]"
"""From the pictures that a stage left to those that the next one begins with."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the search at one size of the picture.

    Attributes:
        size: length of each spatial axis.
        steps: how many.
        blur: standard deviation, in pixels of the new size, of the Gaussian over what the last stage left.
        goal: what is driven up in this stage, where it depends on the size; the search's own without it.
    """

    size: tuple[int, ...]
    steps: int
    blur: float = 0.0
    goal: Goal | None = None


@dataclass
class Outcome:
    """What a search found.

    Attributes:
        pictures: N x channels x the last stage's size.
        scores: the objective after the last step, without robustness, N.
        history: the objective at each step, N x steps.
        dead: whether no signal reached the picture, N.
        relaxed: whether the signal had to be let through closed rectifiers at the start.
        stopped: the step at which a number was not finite any more, None where all were.
        interrupted: steps that were done when somebody asked for an end, None where nobody did.
        leaves: what the pictures follow from, where that is a network of the recipe's own making.
    """

    pictures: Tensor
    scores: NDArray[np.float64]
    history: NDArray[np.float64]
    dead: NDArray[np.bool_]
    relaxed: NDArray[np.bool_]
    stopped: int | None = None
    interrupted: int | None = None
    leaves: tuple[Tensor, ...] = ()


def enlarged(pictures: Tensor, stage: Stage) -> Tensor:
    """Pictures in the size of the next stage, smoothed as it says."""
    return smoothed(resample(pictures, stage.size), stage.blur)


def optimise(
    model: Model,
    canvas: Canvas,
    goal: Goal,
    start: Tensor,
    stages: Sequence[Stage],
    recipe: Recipe,
    *,
    seed: int = 0,
    watch: Watch | None = None,
    key: str = "0",
    enlarge: Enlarge = enlarged,
    advance: Callable[[float], None] = lambda _share: None,
) -> Outcome:
    """Drive ``goal`` up from ``start``, one picture a row, rows apart from each other.

    Args:
        model: the model; only the part below the goal is run.
        canvas: what a picture is.
        goal: what is driven up.
        start: N pictures of any size.
        stages: sizes and steps, in order.
        recipe: how.
        seed: of what is random at each step.
        watch: how it is followed; an unfinished search of the same ``key`` goes on where it stopped.
        key: of this search among those of a method, letters, digits and dashes.
        enlarge: what happens between two stages.
        advance: called with the share that is done.

    Raises:
        TargetError: the goal has no gradient, or does not depend on the input.
    """
    ascent = Ascent(model, canvas, goal, recipe, seed)
    run = _Run(ascent, list(stages), watch or Watch(), key, enlarge, advance)
    return run.outcome(start)


@dataclass
class _Progress:
    """How far a search is: all that a later run needs beside leaves and optimiser."""

    pictures: Tensor
    relaxed: list[bool]
    stage: int = 0
    step: int = 0
    done: int = 0
    history: Tensor | None = None
    stopped: int | None = None
    leaves: list[Tensor] = field(default_factory=list)


class _Run:
    """One search from the first stage to the last."""

    def __init__(
        self,
        ascent: Ascent,
        stages: list[Stage],
        watch: Watch,
        key: str,
        enlarge: Enlarge,
        advance: Callable[[float], None],
    ) -> None:
        self.ascent = ascent
        self.stages = stages
        self.watch = watch
        self.key = key
        self.enlarge = enlarge
        self.advance = advance
        self.total = sum(stage.steps for stage in stages)

    def outcome(self, start: Tensor) -> Outcome:
        """Search, or go on searching, and say what was found."""
        at, climb = self._taken_up(start)
        rows = len(start)
        told = np.full((rows, self.total), np.nan)
        if at.history is not None:
            told[:, : at.done] = at.history.numpy()
        interrupted = False
        good: Tensor | None = None
        while at.stage < len(self.stages) and at.stopped is None and not interrupted:
            stage = self.stages[at.stage]
            climb = climb or self._begun(at)
            while at.step < stage.steps:
                shut = torch.tensor(at.relaxed) if any(at.relaxed) and at.done < _RELAXED_STEPS else None
                scores, found = climb.step(at.done, at.done - at.step + stage.steps, shut)
                if not np.isfinite(scores).all() or not bool(torch.isfinite(found).all()):
                    at.stopped = at.done
                    if good is not None and not np.isfinite(scores).all():
                        at.pictures = good  # what the last step made has no score any more
                    break
                told[:, at.done] = scores
                good = at.pictures
                at.pictures, at.step, at.done = found, at.step + 1, at.done + 1
                self._say(at, scores)
                at.history = torch.from_numpy(told[:, : at.done])
                interrupted = self.watch.stopped and at.done < self.total
                self.watch.keep(self.key, partial(self._store, at, climb), now=interrupted)
                if interrupted:
                    break
            at.leaves = climb.kept() if at.stopped is None else []
            if at.step == stage.steps:
                at.stage, at.step, climb = at.stage + 1, 0, None
        if not interrupted:
            at.stage = len(self.stages)
            self.watch.keep(self.key, partial(self._store, at, None), now=True)
        if tuple(at.pictures.shape[2:]) != self.stages[-1].size:  # an early end
            at.pictures = self.enlarge(at.pictures, replace(self.stages[-1], blur=0.0))
        return Outcome(
            at.pictures,
            self._ascent(-1).score(at.pictures),
            told[:, : at.done],
            self._ascent(-1).silent(at.pictures),
            np.array(at.relaxed, bool),
            at.stopped,
            at.done if interrupted else None,
            tuple(at.leaves),
        )

    def _ascent(self, stage: int) -> Ascent:
        """Where up is in a stage."""
        goal = self.stages[stage].goal
        return self.ascent if goal is None else replace(self.ascent, goal=goal)

    def _begun(self, at: _Progress) -> Climb:
        if at.stage:
            at.pictures = self.enlarge(at.pictures, self.stages[at.stage])
        return Climb(self._ascent(at.stage), at.pictures)

    def _taken_up(self, start: Tensor) -> tuple[_Progress, Climb | None]:
        """Where the search stands: at its start, or where an earlier run left it."""
        stored = self.watch.state(self.key)
        if stored is None:
            size = self.stages[0].size
            first = start if tuple(start.shape[2:]) == size else resample(start, size)
            return _Progress(first, self._ascent(0).silent(first).tolist()), None
        read: dict[str, Any] = torch.load(BytesIO(stored), weights_only=True)
        at = _Progress(**read["at"])
        if read["climb"] is None:
            return at, None
        climb = Climb(self._ascent(at.stage), at.pictures)
        climb.restore(read["climb"])
        return at, climb

    def _store(self, at: _Progress, climb: Climb | None, file: Any) -> None:
        torch.save({"at": asdict(at), "climb": climb.state() if climb is not None else None}, file)

    def _say(self, at: _Progress, scores: NDArray[np.float64]) -> None:
        self.advance(at.done / self.total)
        size = self.stages[-1].size
        self.watch.see(
            self.key, at.done, self.total, float(scores.mean()), lambda: at.pictures.cpu().numpy(), size
        )
