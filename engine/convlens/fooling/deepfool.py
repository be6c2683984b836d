"""The nearest border between classes, found by taking the model for linear again and again.

Moosavi-Dezfooli, Fawzi & Frossard 2016, algorithm 2; in L-inf with the dual norm (their section 3.3 for
any p). Towards a chosen class the border with that class is sought.
"""

from __future__ import annotations

import numpy as np
import torch

from convlens.fooling.norms import by_row
from convlens.fooling.shortest import shortest
from convlens.fooling.sight import finite
from convlens.fooling.task import Found, Task

_RIVALS = 10  # classes whose borders are looked at, as in the authors' own experiments
_BEYOND = 1.02  # the border is overstepped by so much
_LEAST = 0.01  # of the first gap: steps do not shrink to nothing at a border, or on a quantised model


def find(task: Task) -> Found:
    """The smallest change in the direction that was found."""
    found, total = Found.nothing(task.clean), torch.zeros_like(task.clean)
    won = torch.zeros(len(task.clean), dtype=torch.bool)
    done = np.zeros(len(task.clean), bool)
    least = torch.full((len(task.clean),), 1e-4, dtype=torch.float64)
    for step in range(task.steps + 1):
        at = np.flatnonzero(~done)
        if not len(at) or task.stopped():
            break
        x = task.clean[at] + task.sight.ground.boxed(task.clean[at], _BEYOND * total[at])
        seen = task.sight.look(x, task.rows[at], slope=False)
        won[at] = seen.won
        found.steps[at] = step
        fine = finite(seen.gain, seen.sure)
        found.broken[at[~fine]] = step
        going = ~seen.won.numpy() & fine
        done[at[~going]] = True
        at, x = at[going], x[torch.from_numpy(going)]
        if step == task.steps or not len(at):
            break
        behind, slopes = task.sight.rivals(x, task.rows[at], _RIVALS)
        flat = -slopes.flatten(0, 1)  # the way on which the rival catches up
        dual = task.norm.dual(flat).view(behind.shape)
        silent = ~(dual > 0).any(dim=1).numpy()
        broken = ~finite(behind, slopes)
        found.silent[at[silent]] = True
        found.broken[at[broken]] = step
        done[at[silent | broken]] = True
        if step == 0:
            least[at] = torch.maximum(least[at], _LEAST * behind.abs().amin(dim=1).double())
        away = (behind.abs() + by_row(least[at], behind)) / dual
        away = torch.where(dual > 0, away, torch.full_like(away, torch.inf))
        nearest = away.argmin(dim=1)
        each = torch.arange(len(at))
        length = away[each, nearest]
        way = task.norm.steepest(flat.view(slopes.shape)[each, nearest]) * by_row(length, x)
        good = ~(silent | broken)
        total[at[good]] += way[torch.from_numpy(good)]
        task.show(step + 1, task.steps, float(-behind.amin(dim=1).mean()), lambda: task.clean + total)
        task.advance(0.9 * (step + 1) / task.steps)
    changed = task.sight.ground.boxed(task.clean, _BEYOND * total)
    found.delta, _ = shortest(task, changed, won & torch.from_numpy(found.broken < 0))
    task.advance(1.0)
    return found
