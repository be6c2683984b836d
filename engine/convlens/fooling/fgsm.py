"""One step along the gradient, as far as the ball reaches (Goodfellow et al. 2015, section 4).

If the model were linear, the gain would be the gradient times the change. How far that holds is said with
every change that is found (see :mod:`convlens.fooling.search`).
"""

from __future__ import annotations

import torch

from convlens.fooling.norms import by_row
from convlens.fooling.sight import finite
from convlens.fooling.task import Found, Task


def find(task: Task) -> Found:
    """The change itself, whether it fools or not."""
    assert task.radius is not None
    found = Found.nothing(task.clean)
    slope = task.sight.look(task.clean, task.rows).slope
    assert slope is not None
    fine = torch.from_numpy(finite(slope))
    found.broken[~fine.numpy()] = 0
    found.silent = ~slope.flatten(1).any(dim=1).numpy()
    slope = torch.where(by_row(fine, slope).bool(), slope, torch.zeros_like(slope))
    step = by_row(task.radius, slope) * task.norm.steepest(slope)
    found.delta = task.sight.ground.landed(task.clean, step, task.norm, task.radius)
    found.steps[:] = 1
    task.show(1, 1, 0.0, lambda: task.clean + found.delta)
    task.advance(1.0)
    return found
