"""The loop of optimisation, the same for every picture that a model makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.instrument.rules import redirected
from convlens.instrument.session import Session
from convlens.synthesis import parametrise, regularise
from convlens.synthesis.canvas import Canvas, resample
from convlens.synthesis.parametrise import Parametrisation, smoothed
from convlens.synthesis.regularise import Repairs
from convlens.synthesis.robust import Robustness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

Objective: TypeAlias = "Callable[[Mapping[str, Tensor]], Tensor]"
"""From values by ONNX name to one number a picture, which is driven up."""

_RELAXED_STEPS = 16


@dataclass(frozen=True)
class Stage:
    """A stretch of the search at one size of the picture.

    Attributes:
        size: length of each spatial axis.
        steps: how many.
        blur: standard deviation, in pixels of the new size, of the Gaussian over what the last stage left.
    """

    size: tuple[int, ...]
    steps: int
    blur: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a picture is sought; each part is a piece of its own.

    Attributes:
        parametrisation: a name of :data:`parametrise.KINDS`.
        optimiser: ``adam``, ``sgd`` (with momentum, the gradient brought to a mean square of 1) or
            ``lbfgs``.
        rate: step size of the optimiser.
        momentum: of ``sgd``.
        robustness: what is changed at every step.
        penalties: weight of each of :data:`regularise.PENALTIES`.
        repairs: what is done to the picture after a step.
        centre: how much the gradient is gathered in the middle at the start, 0 to 1 (Nguyen et al. 2016).
    """

    parametrisation: str = "fourier"
    optimiser: str = "adam"
    rate: float = 0.05
    momentum: float = 0.9
    robustness: Robustness = field(default_factory=Robustness)
    penalties: Mapping[str, float] = field(default_factory=dict)
    repairs: Repairs = field(default_factory=Repairs)
    centre: float = 0.0


@dataclass(frozen=True)
class Goal:
    """What is driven up.

    Attributes:
        names: ONNX values that are read.
        objective: from those to one number a picture.
        text: what it is, for people.
    """

    names: Sequence[str]
    objective: Objective
    text: str


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
        frames: pictures on the way, frames x N x channels x size, for those who asked.
    """

    pictures: Tensor
    scores: NDArray[np.float64]
    history: NDArray[np.float64]
    dead: NDArray[np.bool_]
    relaxed: NDArray[np.bool_]
    stopped: int | None = None
    frames: Sequence[Tensor] = ()


def optimise(
    model: Model,
    canvas: Canvas,
    goal: Goal,
    start: Tensor,
    stages: Sequence[Stage],
    recipe: Recipe,
    *,
    seed: int = 0,
    frames: int = 0,
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
        frames: how many pictures on the way to keep.
        advance: called with the share that is done.

    Raises:
        TargetError: the goal has no gradient, or does not depend on the input.
    """
    search = _Search(model, canvas, goal, recipe, seed)
    total = sum(stage.steps for stage in stages)
    kept = set(np.linspace(0, total - 1, frames).round().astype(int).tolist()) if frames else set()
    pictures, history, taken = start, [], []
    relaxed = np.zeros(len(start), bool)
    done, stopped = 0, None
    for number, stage in enumerate(stages):
        if tuple(pictures.shape[2:]) != stage.size:
            pictures = resample(pictures, stage.size)
        if number:
            pictures = smoothed(pictures, stage.blur)
        if number == 0:
            relaxed = search.silent(pictures)
        steps = search.run(pictures, stage.steps, done, relaxed)
        for scores, found in steps:
            if not np.isfinite(scores).all() or not bool(torch.isfinite(found).all()):
                stopped = done
                break
            history.append(scores)
            pictures = found
            if done in kept:
                taken.append(found.clone())
            done += 1
            advance(done / total)
        if stopped is not None:
            break
    scores, dead = search.score(pictures)
    told = np.stack(history, axis=1) if history else np.zeros((len(start), 0))
    return Outcome(pictures, scores, told, dead, relaxed, stopped, taken)


@dataclass
class _Search:
    """One search: the model, what is sought and how."""

    model: Model
    canvas: Canvas
    goal: Goal
    recipe: Recipe
    seed: int

    def run(
        self, start: Tensor, steps: int, first: int, relaxed: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.float64], Tensor]]:
        """Each step's objective, before the step, and pictures, after it."""
        recipe = self.recipe
        form = parametrise.KINDS[recipe.parametrisation](self.canvas, start)
        optimiser = self._optimiser(form)
        scores = torch.zeros(len(start))
        gradient: Tensor | None = None
        for step in range(first, first + steps):
            shut = torch.from_numpy(relaxed) if relaxed.any() and step < _RELAXED_STEPS else None

            def closure(step: int = step, shut: Tensor | None = shut) -> Tensor:
                nonlocal scores, gradient
                optimiser.zero_grad(set_to_none=True)
                pictures = form.pictures()
                if not recipe.repairs.none:
                    pictures.retain_grad()
                found = self._objective(pictures, step, shut)
                total = found.sum() - self._penalty(pictures)
                total.backward()  # type: ignore[no-untyped-call]
                scores = found.detach()
                gradient = None if recipe.repairs.none else pictures.grad
                self._shape(form, step, first + steps)
                return -total.detach()

            optimiser.step(closure)  # type: ignore[arg-type]
            with torch.no_grad():
                pictures = form.pictures()
            if not recipe.repairs.none:
                pictures = recipe.repairs.mended(pictures, gradient, step, self._middle)
            if not recipe.repairs.none or recipe.parametrisation == "pixels":
                form.put(pictures)
                with torch.no_grad():
                    pictures = form.pictures()
            yield scores.double().cpu().numpy(), pictures.detach().clone()

    def silent(self, pictures: Tensor) -> NDArray[np.bool_]:
        """For which pictures no signal at all arrives from the goal."""
        given = pictures.clone().requires_grad_()
        found = self._objective(given, 0, None)
        (signal,) = torch.autograd.grad(found.sum(), given, allow_unused=True)
        if signal is None:
            raise TargetError(f"{self.goal.text} does not depend on the input")
        return np.asarray(signal.flatten(1).abs().amax(dim=1).cpu().numpy() == 0)

    def score(self, pictures: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The objective of pictures as they are, and which of them get no signal."""
        with torch.no_grad():
            feeds = {self.model.source.name: self.canvas.feed(pictures)}
            found = self.goal.objective(self._graph.values(feeds, self.goal.names))
        return found.double().cpu().numpy(), self.silent(pictures)

    @property
    def _graph(self) -> Any:
        return self.model.instrument(self.canvas.dtype)

    @property
    def _middle(self) -> float:
        return 0.5 if self.canvas.photo else 0.0

    def _objective(self, pictures: Tensor, step: int, shut: Tensor | None) -> Tensor:
        """The goal of each picture as this step shows it; closed units are opened where ``shut`` is true."""
        moved = self.recipe.robustness.moved(pictures, self.seed, step, self._middle)
        fed = self.canvas.feed(moved)
        if fed.ndim == 4 and self.canvas.axes == (0, 1, 2, 3):
            fed = fed.contiguous(memory_format=torch.channels_last)
        with Session(self._graph, source=self.model.source.name) as session, torch.enable_grad():
            if shut is not None:
                session.rule = redirected(shut)
            values = session.collect({self.model.source.name: fed}, self.goal.names)
            found = self.goal.objective(values)
        if not found.requires_grad:
            raise TargetError(
                f"{self.goal.text} has no gradient; choose a value before the step that cuts it"
            )
        return found

    def _penalty(self, pictures: Tensor) -> Tensor:
        offset = pictures - self._middle
        weighted = [
            weight * regularise.PENALTIES[name](offset).sum()
            for name, weight in self.recipe.penalties.items()
            if weight
        ]
        return sum(weighted, pictures.new_zeros(()))

    def _optimiser(self, form: Parametrisation) -> torch.optim.Optimizer:
        rate = self.recipe.rate
        if self.recipe.optimiser == "sgd":
            return torch.optim.SGD(form.leaves, lr=rate, momentum=self.recipe.momentum)
        if self.recipe.optimiser == "lbfgs":
            return torch.optim.LBFGS(form.leaves, lr=rate, max_iter=1, history_size=20)
        return torch.optim.Adam(form.leaves, lr=rate)

    def _shape(self, form: Parametrisation, step: int, last: int) -> None:
        """What is done to the gradient of the leaves before the step."""
        with torch.no_grad():
            for leaf in form.leaves:
                if leaf.grad is None:
                    continue
                leaf.grad.neg_()  # optimisers go down
                if self.recipe.centre and leaf.ndim == 2 + len(self.canvas.size):
                    leaf.grad *= _gathered(leaf, self.recipe.centre * (1 - step / last))
                if self.recipe.optimiser == "sgd":
                    size = leaf.grad.flatten(1).pow(2).mean(dim=1).sqrt().clamp(min=1e-30)
                    leaf.grad /= size.view(-1, *(1 for _ in leaf.shape[1:]))


def _gathered(like: Tensor, strength: float) -> Tensor:
    """A Gaussian over the middle of the picture, flat where ``strength`` is 0."""
    total = torch.ones(like.shape[2:], dtype=like.dtype, device=like.device)
    for axis, length in enumerate(like.shape[2:]):
        at = torch.linspace(-1, 1, length, dtype=like.dtype, device=like.device)
        bell = torch.exp(-(at**2) / (2 * 0.3**2))
        total = total * bell.view([-1 if a == axis else 1 for a in range(like.ndim - 2)])
    return (1 - strength) + strength * total
