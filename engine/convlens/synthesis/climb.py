"""One stage of a search: leaves, their optimiser, and a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.instrument.rules import redirected
from convlens.instrument.session import Session
from convlens.synthesis import regularise
from convlens.synthesis.canvas import Canvas
from convlens.synthesis.lbfgs import RowwiseLBFGS
from convlens.synthesis.objectives import Goal
from convlens.synthesis.parametrise import Pixels, Settling
from convlens.synthesis.recipes import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model


@dataclass(frozen=True)
class Ascent:
    """Where up is: the objective of pictures, and its slope.

    Attributes:
        model: the model.
        canvas: what a picture is.
        goal: what is driven up.
        recipe: how.
        seed: of what is random at each step.
    """

    model: Model
    canvas: Canvas
    goal: Goal
    recipe: Recipe
    seed: int

    @property
    def middle(self) -> float:
        """What lies where nothing is; zero where the input is no photo."""
        return self.recipe.ground if self.canvas.photo else 0.0

    def slope(self, pictures: Tensor, step: int, shut: Tensor | None) -> tuple[Tensor, Tensor]:
        """The goal of each picture as step number ``step`` shows it, N, and its gradient.

        The gradient has the pictures' shape and includes the penalties, the goal does not. Closed units are
        opened in the rows where ``shut`` is true.

        Raises:
            TargetError: the goal has no gradient, or does not depend on the input.
        """

        def look(part: Tensor) -> tuple[Tensor, Tensor]:
            given = part.detach().requires_grad_()
            opened = None if shut is None else shut.repeat(len(part) // len(pictures))
            with torch.enable_grad():
                found = self._seen(given, step, opened)
                total = found.sum() - self.penalty(given).sum()
                (gradient,) = torch.autograd.grad(total, given, allow_unused=True)
            if gradient is None:
                raise TargetError(f"{self.goal.text} does not depend on the input")
            return found.detach(), gradient

        tiles = self.recipe.tiles
        shift = () if tiles is None else tiles.shift(pictures.shape[2:], self.seed, step)
        found, gradient = look(pictures) if tiles is None else tiles.over(pictures, shift, look)
        assert gradient is not None
        return found, gradient

    def silent(self, pictures: Tensor) -> NDArray[np.bool_]:
        """For which pictures no signal at all arrives from the goal."""

        def look(part: Tensor) -> tuple[Tensor, Tensor]:
            given = part.detach().requires_grad_()
            with torch.enable_grad():
                found = self._seen(given, 0, None)
            (signal,) = torch.autograd.grad(found.sum(), given, allow_unused=True)
            if signal is None:
                raise TargetError(f"{self.goal.text} does not depend on the input")
            return found.detach(), signal

        tiles = self.recipe.tiles
        still = (0,) * len(pictures.shape[2:])
        _, signal = look(pictures) if tiles is None else tiles.over(pictures, still, look)
        assert signal is not None
        return np.asarray(signal.flatten(1).abs().amax(dim=1).cpu().numpy() == 0)

    def score(self, pictures: Tensor) -> NDArray[np.float64]:
        """The goal of pictures as they are, N."""

        def look(part: Tensor) -> tuple[Tensor, None]:
            name = self.model.source.name
            graph = self.model.instrument(self.canvas.dtype)
            feeds = {name: graph.working(self.canvas.feed(part), name)}
            return self.goal.objective(graph.values(feeds, self.goal.names)), None

        tiles = self.recipe.tiles
        still = (0,) * len(pictures.shape[2:])
        with torch.no_grad():
            found, _ = look(pictures) if tiles is None else tiles.over(pictures, still, look)
        return found.double().cpu().numpy()

    def _seen(self, pictures: Tensor, step: int, shut: Tensor | None) -> Tensor:
        moved = self.recipe.robustness.moved(pictures, self.seed, step, self.middle)
        fed = self.canvas.feed(moved)
        if fed.ndim == 4 and self.canvas.axes == (0, 1, 2, 3):
            fed = fed.contiguous(memory_format=torch.channels_last)
        name = self.model.source.name
        graph = self.model.instrument(self.canvas.dtype)
        with Session(graph, source=name) as session:
            if shut is not None:
                session.rule = redirected(shut)
            feeds = {name: graph.working(fed, name)}
            found = self.goal.objective(session.collect(feeds, self.goal.names))
        if not found.requires_grad:
            raise TargetError(
                f"{self.goal.text} has no gradient; choose a value before the step that cuts it"
            )
        return found

    def penalty(self, pictures: Tensor) -> Tensor:
        """What is subtracted from the goal of each picture, N."""
        offset = pictures - self.middle
        weighted = [
            weight * regularise.PENALTIES[name](offset)
            for name, weight in self.recipe.penalties.items()
            if weight
        ]
        return sum(weighted, pictures.new_zeros(len(pictures)))


class Climb:
    """The leaves of one stage and the optimiser that moves them."""

    def __init__(self, ascent: Ascent, start: Tensor) -> None:
        """Begin with ``start``, N pictures of the stage's size."""
        self.ascent = ascent
        self.form = ascent.recipe.form(ascent.canvas, start)
        self._optimiser = self._made()

    def step(self, number: int, last: int, shut: Tensor | None) -> tuple[NDArray[np.float64], Tensor]:
        """Step ``number`` of ``last``: the goal of each picture before it, N, and the pictures after it."""
        recipe = self.ascent.recipe
        scores, gradient = torch.zeros(0), torch.zeros(0)

        def closure() -> Tensor:
            nonlocal scores, gradient
            self._optimiser.zero_grad(set_to_none=True)
            with torch.enable_grad():
                pictures = self.form.pictures()
            scores, gradient = self.ascent.slope(pictures, number, shut)
            if recipe.faint:
                gradient = regularise.weakest_dropped(gradient, recipe.faint)
            pictures.backward(-gradient)  # type: ignore[no-untyped-call]  # optimisers go down
            self._shape(number, last)
            with torch.no_grad():
                return self.ascent.penalty(pictures) - scores

        if isinstance(self._optimiser, RowwiseLBFGS):
            self._optimiser.careful = recipe.steady and shut is None
        self._optimiser.step(closure)  # type: ignore[arg-type]
        if isinstance(self.form, Settling):
            self.form.settle(number)
        with torch.no_grad():
            pictures = self.form.pictures()
        if not recipe.repairs.none:
            pictures = recipe.repairs.mended(pictures, gradient, number, self.ascent.middle)
        if not recipe.repairs.none or isinstance(self.form, Pixels):
            self.form.put(pictures)
            with torch.no_grad():
                pictures = self.form.pictures()
        if isinstance(self._optimiser, RowwiseLBFGS) and self._optimiser.careful:
            with self._optimiser.at_best(), torch.no_grad():
                pictures = self.form.pictures().clone()
        return scores.double().cpu().numpy(), pictures.detach().clone()

    def kept(self) -> list[Tensor]:
        """The leaves where they are not pictures, so that more can be made of them than these pictures."""
        if not callable(self.ascent.recipe.parametrisation):
            return []
        return [leaf.detach().clone() for leaf in self.form.leaves]

    def state(self) -> dict[str, Any]:
        """Leaves and optimiser, to be stored."""
        return {
            "leaves": [leaf.detach().clone() for leaf in self.form.leaves],
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` told."""
        with torch.no_grad():
            for leaf, stored in zip(self.form.leaves, state["leaves"], strict=True):
                leaf.copy_(stored)
        self._optimiser.load_state_dict(state["optimiser"])

    def _made(self) -> torch.optim.Optimizer:
        recipe, leaves = self.ascent.recipe, self.form.leaves
        if recipe.optimiser == "sgd":
            return torch.optim.SGD(leaves, lr=recipe.rate, momentum=recipe.momentum)
        if recipe.optimiser == "lbfgs":
            return RowwiseLBFGS(leaves, recipe.rate)
        return torch.optim.Adam(leaves, lr=recipe.rate)

    def _shape(self, step: int, last: int) -> None:
        """What is done to the gradient of the leaves before the step."""
        recipe = self.ascent.recipe
        with torch.no_grad():
            for leaf in self.form.leaves:
                if leaf.grad is None:
                    continue
                if recipe.centre and leaf.ndim == 2 + len(self.ascent.canvas.size):
                    leaf.grad *= _gathered(leaf, recipe.centre * (1 - step / last))
                if recipe.optimiser == "sgd":
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
