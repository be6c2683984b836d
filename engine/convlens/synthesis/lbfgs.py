"""L-BFGS for several pictures at once, each by itself: its own memory, its own length of step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

_FIRST = 0.01
"""Root mean square of the first step along the gradient, whose own length says nothing."""

_MEMORY = 10
_DESCENT = 1e-4  # share of the promised descent that a step has to keep (Nocedal & Wright 2006, 3.4)
_CURVED = 1e-8  # cosine between a step and the change of gradient, from which the pair is remembered
_SHORTEST = 1e-3  # of a step; below it the memory misleads and is dropped


class RowwiseLBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS (Liu & Nocedal 1989) without coupling between the rows of its leaves.

    One look at the objective a step: what the last step proposed is seen, taken where it descends enough,
    and shortened where it does not. So what is held by :meth:`at_best` never gets worse. The scale of the
    objective does not matter.

    Args:
        leaves: tensors whose first axis counts rows; any tensors where there is one row.
        rate: length of a step in terms of the one that the memory suggests.

    Attributes:
        careful: whether steps are judged; every step is taken where the objective changes by itself.
    """

    def __init__(self, leaves: Sequence[Tensor], rate: float = 1.0) -> None:
        """Nothing is remembered yet."""
        super().__init__(leaves, {})
        self.careful = True
        self._leaves = list(leaves)
        self._rate = rate
        self._rows: list[_Row] = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]  # a loss a row
        """See where the leaves are, and put them where the next look should be.

        Args:
            closure: fills the gradients of the leaves and returns a loss a row, N.
        """
        losses = closure()
        points = _flat(self._leaves, len(losses))
        slopes = _flat([torch.zeros_like(x) if x.grad is None else x.grad for x in self._leaves], len(losses))
        self._rows = self._rows or [_Row(self._rate) for _ in range(len(points))]
        for row, point, slope, loss in zip(self._rows, points, slopes, losses.tolist(), strict=True):
            row.see(point.clone(), slope.clone(), loss, self.careful)
        self._put([row.proposed() for row in self._rows])
        return losses

    @contextmanager
    def at_best(self) -> Iterator[None]:
        """The leaves are for a while where the last step that was taken led."""
        ahead = [leaf.detach().clone() for leaf in self._leaves]
        with torch.no_grad():
            self._put([row.point for row in self._rows])
        yield
        with torch.no_grad():
            for leaf, kept in zip(self._leaves, ahead, strict=True):
                leaf.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, as tensors and numbers."""
        return {"rows": [asdict(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` told."""
        self._rows = [_Row(**row) for row in state_dict["rows"]]

    def _put(self, rows: Sequence[Tensor]) -> None:
        flat, at = torch.stack(list(rows)), 0
        for leaf in self._leaves:
            count = leaf.numel() // len(flat)
            leaf.copy_(flat[:, at : at + count].view_as(leaf))
            at += count


@dataclass
class _Row:
    """One row: where it stands, what it remembers, and where it looks next."""

    rate: float
    point: Tensor = field(default_factory=lambda: torch.zeros(0))
    slope: Tensor = field(default_factory=lambda: torch.zeros(0))
    way: Tensor = field(default_factory=lambda: torch.zeros(0))
    loss: float = float("inf")
    length: float = 1.0
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)

    def see(self, point: Tensor, slope: Tensor, loss: float, careful: bool) -> None:
        """Take the point or not, given its slope and loss, and find the way on."""
        if not len(self.point):
            self._take(point, slope, loss)
            return
        step = point - self.point
        promised = min(_dot(self.slope, step), 0.0)
        if careful and not loss <= self.loss + _DESCENT * promised:
            self._shorten(loss, promised)
            return
        change = slope - self.slope
        if _dot(step, change) > _CURVED * float(step.norm()) * float(change.norm()):
            self.steps = [*self.steps, step][-_MEMORY:]
            self.changes = [*self.changes, change][-_MEMORY:]
        self._take(point, slope, loss)

    def proposed(self) -> Tensor:
        """Where to look next."""
        return self.point + self.length * self.way

    def _take(self, point: Tensor, slope: Tensor, loss: float) -> None:
        self.point, self.slope, self.loss = point, slope, loss
        self.length = self.rate
        self.way = -self._newton(slope)
        if self.steps and not _dot(self.way, slope) < 0:
            self._forget()

    def _shorten(self, loss: float, promised: float) -> None:
        """To the lowest point of the parabola through what is known, within bounds."""
        excess = loss - self.loss - promised
        share = -promised / (2 * excess) if promised < 0 and excess > 0 else 0.0
        self.length *= min(max(share, 0.1), 0.5)
        if self.steps and self.length < _SHORTEST * self.rate:
            self._forget()

    def _forget(self) -> None:
        self.steps, self.changes = [], []
        self.length = self.rate
        self.way = -self._newton(self.slope)

    def _newton(self, slope: Tensor) -> Tensor:
        """The slope times the inverse of the second derivative, as the memory knows it."""
        if not self.steps:
            size = float(slope.pow(2).mean().sqrt())
            return slope * (_FIRST / size) if size > 0 else torch.zeros_like(slope)
        found, shares = slope.clone(), []
        pairs = list(zip(self.steps, self.changes, strict=True))
        for step, change in reversed(pairs):
            share = _dot(step, found) / _dot(step, change)
            found -= share * change
            shares.append(share)
        found *= _dot(*pairs[-1]) / _dot(pairs[-1][1], pairs[-1][1])
        for (step, change), share in zip(pairs, reversed(shares), strict=True):
            found += (share - _dot(change, found) / _dot(step, change)) * step
        return found


def _flat(tensors: Sequence[Tensor], rows: int) -> Tensor:
    return torch.cat([tensor.detach().reshape(rows, -1) for tensor in tensors], dim=1)


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one, other))
