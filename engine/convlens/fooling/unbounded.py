"""Pictures from nothing: steps along the gradient with no ball to stay in (Nguyen, Yosinski & Clune 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from convlens.fooling import pgd
from convlens.fooling.aims import ClassAim
from convlens.fooling.ground import LEVELS, Ground
from convlens.fooling.norms import NORMS
from convlens.fooling.settings import aim_for
from convlens.fooling.sight import Sight, answers
from convlens.fooling.task import Found, Task
from convlens.synthesis.canvas import canvas_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.registry import Job
    from convlens.targets import Target

_STEP = 1.0  # root mean square: levels of photos, a hundredth of anything else
_GREY = 128.0


@dataclass(frozen=True)
class Made:
    """One picture from nothing.

    Attributes:
        ground: how its numbers are counted.
        start: the picture that it began with, 1 x channels x axes.
        found: what came of it.
        before: class probabilities at the start, None where there are no classes; ``after`` at the end.
        gain: what was driven up, at the start and at the end.
    """

    ground: Ground
    start: Tensor
    found: Found
    before: NDArray[np.float64] | None
    after: NDArray[np.float64] | None
    gain: tuple[float, float]


def made(
    job: Job[Any],
    start: Literal["noise", "grey"],
    steps: int,
    step_size: float | None,
    until: float,
) -> Made:
    """Seek a picture of which the model is as sure as ``until`` that it shows the target.

    Args:
        job: model, target and seed.
        start: ``noise``: every number drawn anew, evenly from black to white; ``grey``: none differs.
        steps: at most.
        step_size: root mean square of a step, in levels or the input's own numbers.
        until: the probability at which the search ends.
    """
    model, target = job.model, job.target
    assert target is not None
    canvas = canvas_for(model)
    ground = Ground(canvas, model.preprocess if canvas.photo else None)
    clean = _start(ground, start, job.seed)
    before = None if model.classes is None else answers(model, ground, clean)
    sight = Sight(model, ground, aim_for(model, _single(target), before))
    usual = _STEP if ground.whole else _STEP / 100
    size = (usual if step_size is None else step_size) * math.sqrt(clean.numel())
    rows = np.zeros(1, np.int64)
    found = pgd.find(
        Task(
            sight,
            clean,
            rows,
            NORMS["l2"],
            None,
            steps,
            clean.new_full((1,), size),
            until,
            seed=job.seed,
            advance=job.advance,
        )
    )
    _, first, last = sight.linear(clean, found.delta, rows)
    after = None if model.classes is None else answers(model, ground, clean + found.delta)
    return Made(ground, clean, found, before, after, (float(first[0]), float(last[0])))


def reached(model: Model, made: Made, target: Target, until: float) -> bool | None:
    """Whether the model sees the class and is sure enough of it; None for what is no class."""
    aim = aim_for(model, _single(target), made.before)
    if not isinstance(aim, ClassAim) or made.after is None:
        return None
    assert aim.toward is not None
    share = made.after[0]
    return bool(share.argmax() == aim.toward and share[aim.toward] >= until)


def _single(target: Target) -> Target:
    """A class as one number, where it is written as one a row."""
    return replace(target, index=target.index[0]) if isinstance(target.index, tuple) else target


def _start(ground: Ground, which: str, seed: int) -> Tensor:
    canvas = ground.canvas
    shape = (1, canvas.channels, *canvas.size)
    generator = torch.Generator().manual_seed(seed)
    if not ground.whole:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (drawn if which == "noise" else torch.zeros_like(drawn)).to(getattr(torch, canvas.dtype))
    drawn = (torch.rand(shape, generator=generator, dtype=torch.float64) * (LEVELS + 1)).floor()
    return (drawn if which == "noise" else torch.full_like(drawn, _GREY)).to(getattr(torch, canvas.dtype))
