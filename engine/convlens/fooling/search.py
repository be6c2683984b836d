"""An attack on a set of inputs, group by group, and what each change does, as onnxruntime sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.fooling.aims import ClassAim, Rows
from convlens.fooling.following import Follow
from convlens.fooling.norms import NORMS
from convlens.fooling.settings import Settings, radius_of
from convlens.fooling.sight import Sight, answers
from convlens.fooling.table import ATTACKS
from convlens.fooling.task import Found, Task
from convlens.synthesis.fitting import groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.fooling.ground import Ground
    from convlens.model import Model


@dataclass(frozen=True)
class Outcome:
    """What came of an attack, a row a row.

    Attributes:
        clean: the inputs as :class:`Ground` counts them.
        delta: how they were changed.
        before: class probabilities before it, N x classes, None where there are no classes; ``after`` it.
        fooled: whether the aim is reached; None where it has no end.
        linf: the largest change of a number; ``l2``: the Euclidean length of the change.
        steps: how many it took.
        told: what a linear model would have gained.
        gain: what is driven up, before and after, N x 2.
        silent: whether no signal reached the input.
        broken: the step at which a number was not finite, -1 where all were.
    """

    clean: Tensor
    delta: Tensor
    before: NDArray[np.float64] | None
    after: NDArray[np.float64] | None
    fooled: NDArray[np.bool_] | None
    linf: NDArray[np.float64]
    l2: NDArray[np.float64]
    steps: NDArray[np.int64]
    told: NDArray[np.float64]
    gain: NDArray[np.float64]
    silent: NDArray[np.bool_]
    broken: NDArray[np.int64]


def shares_of(model: Model, ground: Ground, clean: Tensor, batch_size: int) -> NDArray[np.float64] | None:
    """Class probabilities of all inputs, N x classes; None where the model has no classes."""
    if model.classes is None:
        return None
    return np.concatenate(
        [answers(model, ground, clean[i : i + batch_size]) for i in range(0, len(clean), batch_size)]
    )


def attacked(
    sight: Sight,
    clean: Tensor,
    settings: Settings,
    batch_size: int,
    follow: Follow,
    rows: Rows | None = None,
    advance: Callable[[float], None] = lambda _share: None,
    said: list[str] | None = None,
) -> tuple[Found, Rows]:
    """The changes that an attack finds, as many inputs at once as a batch holds.

    Args:
        sight: the model and the aim.
        clean: all inputs of the batch.
        settings: how.
        batch_size: inputs at once.
        follow: who watches.
        rows: which of them are attacked; without it all that are not where they should be already.
        advance: called with the share that is done.
        said: gets what a person should know.

    Returns:
        The changes of all rows, and the rows that were not come to because somebody asked for an end.

    Raises:
        ParameterError: the settings do not fit each other or the inputs.
        TargetError: the attack needs classes, or what is aimed at has no gradient.
    """
    entry = ATTACKS[settings.attack]
    if entry.smallest and not isinstance(sight.aim, ClassAim):
        raise TargetError(
            f"{settings.attack} seeks the border between two classes, and {sight.aim.text} is none; give a "
            "class, or take --attack pgd"
        )
    if rows is None:
        rows = np.arange(len(clean))
        if isinstance(sight.aim, ClassAim):
            rows = rows[~sight.aim.right(sight.aim.before, rows)]
    if not len(rows):
        return Found.nothing(clean), rows
    norm, steps = NORMS[settings.measure], settings.steps or entry.steps
    radius = radius_of(sight.ground, clean, settings, settings.epsilon)

    def run(first: int, count: int) -> Found:
        own = rows[first : first + count]
        size = None
        if settings.step_size is not None:
            size = clean.new_full((count,), settings.step_size)
        task = Task(
            sight,
            clean[own],
            own,
            norm,
            None if entry.smallest else radius[own],
            steps,
            size,
            settings.sure,
            settings.restarts,
            settings.random,
            settings.seed,
            lambda share: advance(min(1.0, (first + share * count) / len(rows))),
            follow.stopped,
        )
        return follow.found(first, count, lambda show: entry.find(replace(task, show=show)))

    step, whole, first = sight.model.runner.step(min(batch_size, len(rows))), Found.nothing(clean), 0
    for part in groups(len(rows), step, run, [] if said is None else said):
        own = rows[first : first + len(part.steps)]
        whole.delta[own], whole.steps[own] = part.delta, part.steps
        whole.silent[own], whole.broken[own] = part.silent, part.broken
        first += len(own)
        if follow.stopped():
            break
    return whole, rows[first:]


def judged(sight: Sight, clean: Tensor, found: Found, batch_size: int) -> Outcome:
    """What the changes do: classes by onnxruntime, lengths, and how far the model is linear along them."""
    aim, parts = sight.aim, []
    step = sight.model.runner.step(min(batch_size, len(clean)))
    for first in range(0, len(clean), step):
        own = np.arange(first, min(first + step, len(clean)))
        x, delta = clean[own], found.delta[own]
        told, before, after = sight.linear(x, delta, own)
        part = {
            "linf": NORMS["linf"].length(delta).double().numpy(),
            "l2": NORMS["l2"].length(delta).double().numpy(),
            "told": told.numpy(),
            "gain": torch.stack([before, after], dim=1).numpy(),
        }
        if sight.model.classes is not None:
            part |= {"before": sight.answers(x), "after": sight.answers(x + delta)}
        if isinstance(aim, ClassAim):
            same = aim.right(aim.before[own], own)  # those were there before anything was changed
            part["fooled"] = sight.holds(x + delta, own) & ~same
        parts.append(part)
    every: dict[str, Any] = dict.fromkeys(("before", "after", "fooled"))
    every |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Outcome(
        clean=clean,
        delta=found.delta,
        steps=found.steps,
        silent=found.silent,
        broken=found.broken,
        **every,
    )


def survived(
    sight: Sight,
    clean: Tensor,
    settings: Settings,
    epsilons: Sequence[float],
    smallest: Outcome,
    batch_size: int,
    follow: Follow,
    advance: Callable[[float], None] = lambda _share: None,
) -> NDArray[np.bool_]:
    """Which inputs hold out against which epsilon, N x epsilons.

    What is fooled inside a ball is fooled inside every larger one, so that only the others go on.

    Args:
        sight: the model and the aim, which must be one of classes.
        clean: all inputs.
        settings: the attack; it ends at the first change that fools.
        epsilons: in rising order.
        smallest: what the attack found, where it is one that seeks the smallest change.
        batch_size: inputs at once.
        follow: who watches; what is found here is not kept.
        advance: called with the share that is done.
    """
    if ATTACKS[settings.attack].smallest:
        assert smallest.fooled is not None
        length = smallest.linf if settings.measure == "linf" else smallest.l2
        return ~smallest.fooled[:, None] | (length[:, None] > np.asarray(epsilons)[None])
    held = np.ones((len(clean), len(epsilons)), bool)
    left = np.arange(len(clean))
    assert isinstance(sight.aim, ClassAim)
    left = left[~sight.aim.right(sight.aim.before, left)]
    for number, epsilon in enumerate(epsilons):

        def told(share: float, number: int = number) -> None:
            advance((number + share) / len(epsilons))

        if len(left):
            own = replace(settings, epsilon=epsilon, until=0.0)
            found, _ = attacked(sight, clean, own, batch_size, follow, left, told)
            step = sight.model.runner.step(min(batch_size, len(left)))
            parts = [left[i : i + step] for i in range(0, len(left), step)]
            gone = np.concatenate([sight.holds(clean[at] + found.delta[at], at) for at in parts])
            held[left[gone], number:] = False
            left = left[~gone]
        advance((number + 1) / len(epsilons))
    return held
