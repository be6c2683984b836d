"""How a picture is sought: the pieces of a search, and how settings by name put them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from convlens.synthesis import parametrise
from convlens.synthesis.regularise import PENALTIES, Repairs
from convlens.synthesis.robust import Robustness

if TYPE_CHECKING:
    from torch import Tensor

    from convlens.synthesis.canvas import Canvas
    from convlens.synthesis.parametrise import Parametrisation
    from convlens.synthesis.tiles import Tiles

Form: TypeAlias = "Callable[[Canvas, Tensor], Parametrisation]"
"""What makes a parametrisation from the canvas and the pictures of the start."""


GROUNDS = {"black": 0.0, "grey": 0.5, "white": 1.0}
"""What can lie where nothing is, in photos."""


@dataclass(frozen=True)
class Recipe:
    """How a picture is sought; each part is a piece of its own.

    Attributes:
        parametrisation: a name of :data:`parametrise.KINDS`, or what makes one.
        optimiser: ``adam``, ``sgd`` (with momentum, the gradient brought to a mean square of 1) or
            ``lbfgs``.
        rate: step size of the optimiser.
        momentum: of ``sgd``.
        robustness: what is changed at every step.
        penalties: weight of each of :data:`regularise.PENALTIES`.
        repairs: what is done to the picture after a step.
        centre: how much the gradient is gathered in the middle at the start, 0 to 1 (Nguyen et al. 2016).
        tiles: how the picture is cut; None takes it as a whole.
        ground: what lies where nothing is, of photos from 0 for black to 1 for white: distances of penalties
            and repairs are from it, and it lies around moved pictures.
        faint: share of the places whose gradient is weakest that stay as they are at a step.
    """

    parametrisation: str | Form = "fourier"
    optimiser: str = "adam"
    rate: float = 0.05
    momentum: float = 0.9
    robustness: Robustness = field(default_factory=Robustness)
    penalties: Mapping[str, float] = field(default_factory=dict)
    repairs: Repairs = field(default_factory=Repairs)
    centre: float = 0.0
    tiles: Tiles | None = None
    faint: float = 0.0
    ground: float = 0.5

    @property
    def steady(self) -> bool:
        """Whether the objective is the same at each step, and nothing but the optimiser moves the picture."""
        moves = not self.robustness.idle or not self.repairs.none
        return not (moves or self.centre or self.faint or self.tiles is not None)

    def form(self, canvas: Canvas, start: Tensor) -> Parametrisation:
        """The leaves of a search that begins with ``start``."""
        kind = self.parametrisation
        return (parametrise.KINDS[kind] if isinstance(kind, str) else kind)(canvas, start)


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """How a picture is sought; a number that ``settings`` does not name is off."""
    number = {name: settings.get(name, 0) for name in (*PENALTIES, "decay", "blur", "small", "idle")}
    return Recipe(
        settings["parametrisation"],
        settings["optimiser"],
        settings["learning_rate"],
        momentum=settings.get("momentum", 0.9),
        robustness=Robustness(
            settings["jitter"], settings["scale"], settings["rotate"], settings.get("cut", 0.0)
        ),
        penalties={name: number[name] for name in PENALTIES},
        repairs=Repairs(
            number["decay"], number["blur"], settings.get("blur_every", 4), number["small"], number["idle"]
        ),
        centre=settings.get("centre", 0.0),
        faint=settings.get("faint", 0.0),
        ground=GROUNDS[settings.get("ground", "grey")],
    )
