"""Lengths of a change, the steepest way up in each, and the ball of a given radius. Rows come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_HALVINGS = 24


def by_row(numbers: Tensor, like: Tensor) -> Tensor:
    """One number a row, shaped so that it meets every number of that row."""
    return numbers.to(like).view(-1, *(1 for _ in like.shape[1:]))


@dataclass(frozen=True)
class Linf:
    """The largest change of a single number."""

    name = "linf"

    def length(self, delta: Tensor) -> Tensor:
        """Of each row."""
        return delta.flatten(1).abs().amax(dim=1)

    def dual(self, slope: Tensor) -> Tensor:
        """How much a change of length 1 along :meth:`steepest` gains, each row."""
        return slope.flatten(1).abs().sum(dim=1)

    def steepest(self, slope: Tensor) -> Tensor:
        """The change of length 1 that gains most."""
        return slope.sign()

    def projected(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The nearest change inside the ball."""
        limit = by_row(radius, delta)
        return torch.minimum(torch.maximum(delta, -limit), limit)

    def whole(self, delta: Tensor, radius: Tensor | None) -> Tensor:
        """A change by whole numbers near ``delta``, no longer than ``radius``."""
        rounded = delta.round()
        return rounded if radius is None else self.projected(rounded, radius.floor())

    def drawn(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """A random change inside the ball of radius 1, uniform."""
        drawn: Tensor = torch.rand(tuple(shape), generator=generator, dtype=torch.float64) * 2 - 1
        return drawn


@dataclass(frozen=True)
class L2:
    """The Euclidean length."""

    name = "l2"

    def length(self, delta: Tensor) -> Tensor:
        """Of each row."""
        length: Tensor = delta.flatten(1).double().norm(dim=1)
        return length.to(delta)

    def dual(self, slope: Tensor) -> Tensor:
        """How much a change of length 1 along :meth:`steepest` gains, each row."""
        return self.length(slope)

    def steepest(self, slope: Tensor) -> Tensor:
        """The change of length 1 that gains most; nothing where there is no slope."""
        peak = slope.flatten(1).abs().amax(dim=1)  # divided by first: squares of small slopes vanish
        scaled = slope / by_row(torch.where(peak > 0, peak, torch.ones_like(peak)), slope)
        length = self.length(scaled)
        return scaled / by_row(torch.where(length > 0, length, torch.ones_like(length)), slope)

    def projected(self, delta: Tensor, radius: Tensor) -> Tensor:
        """The nearest change inside the ball."""
        length = self.length(delta)
        share = torch.where(length > radius.to(delta), radius.to(delta) / length, torch.ones_like(length))
        return delta * by_row(share, delta)

    def whole(self, delta: Tensor, radius: Tensor | None) -> Tensor:
        """A change by whole numbers in the direction of ``delta``, no longer than it or than ``radius``.

        Rounding alone would leave nothing of a change that is spread over many numbers, each below a
        half. So it is drawn out before it is rounded, as far as the length allows, and the largest
        numbers get the whole steps that there are.
        """
        if radius is None:
            return delta.round()
        limit = torch.minimum(self.length(delta), radius.to(delta)) * (1 + 1e-6)
        peak = delta.flatten(1).abs().amax(dim=1).clamp(min=1e-30)
        low = torch.full_like(peak, 0.5)  # rounding makes no number more than twice as large
        low = torch.minimum(low, 0.5 * limit / self.length(delta).clamp(min=1e-30))
        high = torch.maximum((limit + 1) / peak, low)
        for _ in range(_HALVINGS):
            middle = (low * high).sqrt()
            fits = self.length((delta * by_row(middle, delta)).round()) <= limit
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return (delta * by_row(low, delta)).round()

    def drawn(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """A random change inside the ball of radius 1: a random direction, at a random distance."""
        direction: Tensor = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
        distance: Tensor = torch.rand((), generator=generator, dtype=torch.float64)
        length: Tensor = direction.norm()
        return direction / length.clamp(min=1e-30) * distance


NORMS: dict[str, Linf | L2] = {"linf": Linf(), "l2": L2()}
