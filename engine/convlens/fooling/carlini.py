"""The smallest change in L2, by descent on its length and a hinge on the scores (Carlini & Wagner 2017).

Their section 6; the weight between the two is sought by bisection, and photos stay between black and white
by the hyperbolic tangent of their section 5.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from convlens.fooling.norms import by_row
from convlens.fooling.shortest import shortest
from convlens.fooling.sight import finite
from convlens.fooling.task import Found, Task

_SEARCHES = 5
_MORE = 4.0  # times as much while no change is found, as little while one is
_RATE = 0.01
_INSIDE = 1 - 1e-6  # black and white lie at infinity


def find(task: Task) -> Found:
    """The smallest change that any of the weights gave."""
    count = len(task.clean)
    found = Found.nothing(task.clean)
    low, high = torch.zeros(count, dtype=torch.float64), torch.full((count,), torch.inf, dtype=torch.float64)
    weight = _first(task, found)
    best, length = torch.zeros_like(task.clean), torch.full((count,), torch.inf, dtype=torch.float64)
    for search in range(_SEARCHES):
        if task.stopped():
            break
        reached = _descended(task, weight, best, length, found, search)
        high = torch.where(reached, weight, high)
        low = torch.where(reached, low, weight)
        between = (low * high).sqrt()
        weight = torch.where(low > 0, torch.where(high.isfinite(), between, low * _MORE), high / _MORE)
    found.delta, _ = shortest(task, best, length.isfinite())
    task.advance(1.0)
    return found


def _first(task: Task, found: Found) -> Tensor:
    """Twice the weight at which a linear model would be fooled; enters which inputs get no signal."""
    seen = task.sight.look(task.clean, task.rows)
    assert seen.slope is not None
    found.silent = ~seen.slope.flatten(1).any(dim=1).numpy()
    slope = seen.slope * by_row(task.sight.ground.span(task.clean), task.clean)
    steep = slope.flatten(1).double().pow(2).sum(dim=1)
    weight = 4 * (-seen.gain.double()).clamp(min=1e-3) / steep
    return torch.where(weight.isfinite() & (weight > 0), weight, torch.ones_like(weight))


def _descended(task: Task, weight: Tensor, best: Tensor, length: Tensor, found: Found, search: int) -> Tensor:
    """One search with a weight a row; enters better changes, and gives the rows in which it fooled."""
    sight, clean = task.sight, task.clean
    span = by_row(sight.ground.span(clean), clean)
    free = torch.atanh((clean / span * 2 - 1) * _INSIDE) if sight.ground.whole else torch.zeros_like(clean)
    free.requires_grad_()
    optimiser = torch.optim.Adam([free], lr=_RATE)
    reached = torch.zeros(len(clean), dtype=torch.bool)
    broken = torch.from_numpy(found.broken >= 0)
    for step in range(task.steps):
        if task.stopped():
            break
        with torch.enable_grad():
            x = (free.tanh() / _INSIDE + 1) / 2 * span if sight.ground.whole else clean + span * free
        here = x.detach()
        seen = sight.look(here, task.rows)
        assert seen.slope is not None
        fine = torch.from_numpy(finite(seen.gain, seen.sure, seen.slope))
        found.broken[(~fine & ~broken).numpy()] = search * task.steps + step
        broken |= ~fine
        away = (here - clean) / span
        far = away.flatten(1).double().pow(2).sum(dim=1)
        won = seen.won & fine
        reached |= won
        better = won & (far < length)
        best[better], length[better] = (here - clean)[better], far[better]
        found.steps[better.numpy()] = search * task.steps + step
        pull = torch.where(by_row(won | broken, here).bool(), torch.zeros_like(here), seen.slope * span)
        downhill = (2 * away - by_row(weight, here) * pull) / span
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / task.steps)  # so that it comes to rest
        optimiser.zero_grad(set_to_none=True)
        x.backward(  # type: ignore[no-untyped-call]
            torch.where(by_row(broken, here).bool(), torch.zeros_like(here), downhill)
        )
        optimiser.step()
        done, total = search * task.steps + step + 1, _SEARCHES * task.steps
        task.show(done, total, float(seen.gain.mean()), partial(torch.clone, here))
        task.advance(0.9 * done / total)
    return reached
