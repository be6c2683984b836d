"""What an attack is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convlens.fooling.aims import ClassAim, Rows
from convlens.fooling.norms import L2, Linf
from convlens.fooling.sight import Seen, Sight, finite

Show: TypeAlias = Callable[[int, int, float, Callable[[], Tensor]], None]


@dataclass(frozen=True)
class Task:
    """One group of inputs to be attacked together; its rows do not influence each other.

    Attributes:
        sight: the model and the aim.
        clean: the inputs, rows x channels x spatial axes.
        rows: their numbers in the whole batch.
        norm: in which the change is measured.
        radius: of the ball that is not left, one number a row; None where there is none.
        steps: how many at most.
        size: of a step, one number a row, in units of the norm; chosen by the attack without it.
        until: how sure the model must be of the class that is aimed at before the search ends.
        restarts: how often it is begun anew, for the inputs that are not there yet.
        random: whether it begins at a random place.
        seed: of what is random; every row gets the same.
        advance: called with the share that is done.
        stopped: whether somebody asked for an end; what there is is then handed back.
        show: called after each step with its number from 1 on, their number, what is gained on the mean,
            and a function that gives the inputs as they are.
    """

    sight: Sight
    clean: Tensor
    rows: Rows
    norm: Linf | L2
    radius: Tensor | None
    steps: int
    size: Tensor | None = None
    until: float = 0.0
    restarts: int = 1
    random: bool = False
    seed: int = 0
    advance: Callable[[float], None] = field(default=lambda _share: None)
    stopped: Callable[[], bool] = field(default=lambda: False)
    show: Show = field(default=lambda _done, _total, _gain, _inputs: None)


@dataclass
class Found:
    """What came of it, a row a row.

    Attributes:
        delta: the change, such as a file can hold.
        steps: how many it took to get there.
        silent: whether no signal reached the input.
        broken: the step at which a number was not finite, -1 where all were.
    """

    delta: Tensor
    steps: NDArray[np.int64]
    silent: NDArray[np.bool_]
    broken: NDArray[np.int64]

    @classmethod
    def nothing(cls, clean: Tensor) -> Found:
        """No change yet."""
        count = len(clean)
        return cls(
            torch.zeros_like(clean), np.zeros(count, np.int64), np.zeros(count, bool), np.full(count, -1)
        )


class Best:
    """The best change of each row so far, and which rows are done.

    A change that reaches the aim is better than one that does not; of two that do, the one of which the
    model is surer; of two that do not, the one that gains more.
    """

    def __init__(self, task: Task) -> None:
        """Nothing is found yet; all rows are open."""
        self._task = task
        self.found = Found.nothing(task.clean)
        self._won = torch.zeros(len(task.clean), dtype=torch.bool)
        self._merit = torch.full((len(task.clean),), -torch.inf, dtype=torch.float64)
        self._done = np.zeros(len(task.clean), bool)

    @property
    def open(self) -> Rows:
        """Places in the group of the rows that are still sought."""
        return np.flatnonzero(~self._done)

    def renewed(self) -> None:
        """Begin anew with the rows that are not where they should be."""
        self._done |= self._won.numpy() | (self.found.broken >= 0)

    def broke(self, at: Rows, seen: Seen, step: int) -> Rows:
        """Close the rows in which a number is not finite; gives the places in ``at`` that are left."""
        parts = (seen.gain, seen.sure) if seen.slope is None else (seen.gain, seen.sure, seen.slope)
        fine = finite(*parts)
        self.found.broken[at[~fine]] = step
        self._done[at[~fine]] = True
        return np.flatnonzero(fine)

    def offer(self, at: Rows, delta: Tensor, seen: Seen, step: int) -> None:
        """Hand in a change of the rows at places ``at``, after that many steps."""
        task = self._task
        won, sure = seen.won.clone(), seen.sure.double()
        enough = won & (sure >= task.until)
        if bool(enough.any()) and isinstance(task.sight.aim, ClassAim):
            own = enough.numpy()
            held = task.sight.holds((task.clean[at] + delta)[enough], task.rows[at[own]])
            won[enough] = torch.from_numpy(held)
            enough[enough.clone()] = torch.from_numpy(held)
        merit = torch.where(won, sure, seen.gain.double())
        before = self._won[at]
        better = (won & ~before) | ((won == before) & (merit > self._merit[at]))
        places = at[better.numpy()]
        self._won[places], self._merit[places] = won[better], merit[better]
        self.found.delta[places] = delta[better]
        self.found.steps[places] = step
        self._done[at[enough.numpy()]] = True
