"""Steps along the gradient and back into the ball (Kurakin et al. 2017; Madry et al. 2018).

The gradient is taken at the picture as a file would hold it, so that what rounding undoes is made up for
by the steps that follow, and the class that is checked is that of the file.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from convlens.fooling.norms import by_row
from convlens.fooling.task import Best, Found, Task

_REACH = 2.5  # steps together reach so many times across the ball (Madry et al. 2018)


def find(task: Task) -> Found:
    """The change inside the ball of which the model is surest.

    Inputs that no signal reaches at the start are moved at random by one step.
    """
    best, space = Best(task), task.clean.new_ones(len(task.clean))
    radius = task.radius
    size = task.size if task.size is not None else _step(task)
    for start in range(task.restarts):
        delta = torch.zeros_like(task.clean)
        if task.random or start:
            delta = _noise(task, start) * by_row(space if radius is None else radius, delta)
        for step in range(task.steps + 1):
            at = best.open
            if not len(at) or task.stopped():
                break
            clean, limit = task.clean[at], None if radius is None else radius[at]
            landed = task.sight.ground.landed(clean, delta[at], task.norm, limit)
            seen = task.sight.look(clean + landed, task.rows[at], slope=step < task.steps)
            fine = best.broke(at, seen, step)
            at, seen = at[fine], seen.take(fine)
            best.offer(at, landed[fine], seen, step)
            done, total = start * (task.steps + 1) + step + 1, task.restarts * (task.steps + 1)
            task.show(done, total, float(seen.gain.mean()), partial(torch.add, task.clean, delta))
            task.advance(done / total)
            if seen.slope is None or not len(at):
                continue
            moved = delta[at] + by_row(size[at], delta) * task.norm.steepest(seen.slope)
            silent = ~seen.slope.flatten(1).any(dim=1)
            if step == 0 and bool(silent.any()):
                best.found.silent[at[silent.numpy()]] = True
                kick = _noise(task, start + 1)[at] * by_row(size[at], delta)
                moved[silent] = delta[at[silent.numpy()]] + kick[silent]
            moved = task.sight.ground.boxed(task.clean[at], moved)
            delta[at] = moved if radius is None else task.norm.projected(moved, radius[at])
        best.renewed()
    task.advance(1.0)
    return best.found


def _step(task: Task) -> Tensor:
    """A step's usual size; of whole levels at least one."""
    assert task.radius is not None
    usual = _REACH * task.radius / task.steps
    return usual.clamp(min=1.0) if task.sight.ground.whole else usual


def _noise(task: Task, start: int) -> Tensor:
    """The same for every row."""
    generator = torch.Generator().manual_seed(int(np.random.default_rng([task.seed, start]).integers(2**62)))
    return task.norm.drawn(task.clean.shape[1:], generator).to(task.clean).expand_as(task.clean)
