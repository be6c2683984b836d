"""The smallest multiple of a change that still fools, in numbers that a file can hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convlens.fooling.norms import by_row
from convlens.fooling.task import Task

_FARTHER = 1.15  # from one try to the next, while the change as it is does not fool
_FARTHEST = 64.0
_HALVINGS = 12


def shortest(task: Task, delta: Tensor, won: Tensor) -> tuple[Tensor, Tensor]:
    """Along ``delta``, the first change that onnxruntime confirms.

    A change that is spread over many numbers, each of less than half a level, is gone when it is rounded;
    it is drawn out until what is left of it fools, and then drawn in as far as it goes.

    Args:
        task: whose inputs are changed.
        delta: a change of each row, in real numbers.
        won: the rows in which it fools before it is rounded; the others are left as they are.

    Returns:
        The changes, zero where there is none, and in which rows there is one.
    """
    sight, norm, count = task.sight, task.norm, len(delta)
    scale, held = torch.ones(count, dtype=torch.float64), np.zeros(count, bool)
    below = torch.zeros(count, dtype=torch.float64)

    def tried(at: np.ndarray[tuple[int], np.dtype[np.int64]], scales: Tensor) -> tuple[Tensor, Tensor]:
        drawn = delta[at] * by_row(scales[at], delta)
        landed = sight.ground.landed(task.clean[at], drawn, norm, None)
        return landed, torch.from_numpy(sight.holds(task.clean[at] + landed, task.rows[at]))

    out = torch.zeros_like(delta)
    left = np.flatnonzero(won.numpy())
    while len(left):
        landed, holds = tried(left, scale)
        yes = holds.numpy()
        out[left[yes]], held[left[yes]] = landed[holds], True
        left = left[~yes]
        below[left] = scale[left]
        scale[left] *= _FARTHER
        left = left[scale[left].numpy() <= _FARTHEST]
    at = np.flatnonzero(held)
    for _ in range(_HALVINGS if len(at) else 0):
        middle = (below + scale) / 2
        landed, holds = tried(at, middle)
        better = holds & (norm.length(landed) <= norm.length(out[at]))
        yes = better.numpy()
        out[at[yes]], scale[at[yes]] = landed[better], middle[at[yes]]
        below[at[~yes]] = middle[at[~yes]]
    return out, torch.from_numpy(held)
