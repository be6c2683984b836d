"""How an attack is led, what it is after, and how far it may go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from convlens.errors import ParameterError, TargetError
from convlens.fooling.aims import Aim, ClassAim, Loss, ScoreAim
from convlens.fooling.ground import LEVELS, Ground
from convlens.fooling.table import ATTACKS, Name, NormName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.targets import Target

_USUAL = {"linf": 8.0, "l2": 2.0}
"""Levels: of the largest change, of the root of the mean square."""

_SURE = 0.9


@dataclass(frozen=True)
class Settings:
    """How an attack is led; what is None is the attack's own.

    Attributes:
        attack: its name.
        norm: in which the change is measured.
        epsilon: radius of the ball, in levels of photos, in the input's own numbers of anything else.
        steps: how many at most.
        step_size: in the same unit as ``epsilon``.
        loss: what is driven up.
        until: how sure the model must be of the class that is aimed at before the search ends.
        restarts: how often it is begun anew.
        random: whether it begins at a random place.
        seed: of what is random.
    """

    attack: Name = "pgd"
    norm: NormName | None = None
    epsilon: float | None = None
    steps: int | None = None
    step_size: float | None = None
    loss: Loss = "cross-entropy"
    until: float | None = None
    restarts: int = 1
    random: bool = False
    seed: int = 0

    @property
    def measure(self) -> NormName:
        """The norm that is used.

        Raises:
            ParameterError: the attack has no such norm.
        """
        known = ATTACKS[self.attack].norms
        chosen = self.norm or known[0]
        if chosen not in known:
            raise ParameterError(f"{self.attack} measures in {known[0]} alone; leave norm = {chosen!r} out")
        return chosen

    @property
    def sure(self) -> float:
        """How sure the model must be before the search ends."""
        return _SURE if self.until is None else self.until


def aim_for(model: Model, target: Target, shares: NDArray[np.float64] | None) -> Aim:
    """What an attack with this target is after.

    A class is reached, the predicted class is left, and the score of anything else is driven up.

    Args:
        model: the model.
        target: what was asked for.
        shares: the model's class probabilities of the inputs, None where it has no classes.

    Raises:
        TargetError: the model has a single class score, beside which there is nothing to be seen.
    """
    classes = model.classes
    if classes is None or shares is None or not _of_classes(model, target):
        return ScoreAim(target, target.needs(model.graph.outputs))
    if classes.count < 2:
        raise TargetError(
            "the model has a single class, so there is no other one to be taken for; to drive a score up or "
            "down name its value, e.g. --target OUTPUT[0,0]"
        )
    toward = target.index if isinstance(target.index, int) else None
    if target.kind == "predicted":
        toward = None
    text = "the class scores" if toward is None else f"class {classes.label(toward)}"
    return ClassAim(classes, shares.argmax(axis=1), toward, text)


def _of_classes(model: Model, target: Target) -> bool:
    classes = model.classes
    return (
        classes is not None
        and target.kind in ("predicted", "class")
        and target.value in (classes.logits, classes.name)
    )


def radius_of(ground: Ground, clean: Tensor, settings: Settings, epsilon: float | None) -> Tensor:
    """The radius of the ball around each row, in the unit in which :class:`Ground` counts.

    Raises:
        ParameterError: nothing but the picture itself lies in it.
    """
    norm = settings.measure
    if epsilon is not None:
        if ground.whole and epsilon < 1:
            raise ParameterError(
                f"epsilon is {epsilon:g} levels; 8-bit pictures change by whole levels, so expected 1 or more"
            )
        return clean.new_full((len(clean),), epsilon)
    share = _USUAL[norm] / LEVELS * (math.sqrt(clean[0].numel()) if norm == "l2" else 1.0)
    return ground.span(clean) * share
