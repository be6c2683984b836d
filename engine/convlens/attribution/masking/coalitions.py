"""Which parts are kept together: coalitions for Shapley values, in pairs of complements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from convlens.attribution.masking.regression import GROUPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 64
"""Coalitions in a block; those of a block are drawn from one seed, whatever goes into a forward."""


@dataclass(frozen=True)
class Block:
    """Coalitions, B x parts, their weights, and their groups where they are drawn."""

    keep: NDArray[np.bool_]
    weights: NDArray[np.float64]
    groups: NDArray[np.int64] | None


@dataclass(frozen=True)
class Coalitions:
    """How ``budget`` coalitions of ``parts`` parts are spent, the empty and the full one aside.

    Sizes are taken in whole from the outside in, as long as their share of the kernel's weight would draw
    as many; the rest is drawn by that weight, each coalition with its complement (Covert & Lee 2021).

    Attributes:
        parts: how many.
        budget: coalitions at the most.
        seed: of those that are drawn.
    """

    parts: int
    budget: int
    seed: int

    @property
    def fewest(self) -> int:
        """The smallest budget: all of one part and of all but one, and as many that are drawn.

        With fewer the drawn ones do not span the parts, and the error would be told too small.
        """
        return min((1 << self.parts) - 2, 4 * self.parts + 2 * GROUPS)

    @property
    def mass(self) -> NDArray[np.float64]:
        """The share of each size, 1 to parts - 1, in the weight of all (Lundberg & Lee, theorem 2)."""
        sizes = np.arange(1, self.parts)
        found = 1 / (sizes * (self.parts - sizes))
        return np.asarray(found / found.sum()) if len(found) else np.zeros(0)

    @property
    def whole(self) -> list[int]:
        """The sizes that are taken in whole, up to half of the parts; their complements come with them."""
        if self.budget >= (1 << self.parts) - 2:
            return list(range(1, self.parts // 2 + 1))
        left, mass, found = self.budget, self.mass, []
        for size in range(1, self.parts // 2 + 1):
            double = 1 if 2 * size == self.parts else 2
            count = double * comb(self.parts, size)
            rest = mass[size - 1 : self.parts - size].sum()
            share = double * mass[size - 1] / rest
            if left < count or (size > 1 and left * share < count):
                break
            found.append(size)
            left -= count
        return found

    @property
    def exact(self) -> bool:
        """Whether every coalition is taken."""
        return len(self.whole) == self.parts // 2

    @property
    def drawn_mass(self) -> float:
        """The share of the weight that drawn coalitions stand for."""
        inner = len(self.whole)
        return float(self.mass[inner : self.parts - 1 - inner].sum())

    def blocks(self) -> Iterator[Block]:
        """All coalitions of the whole sizes, then drawn ones until the budget is spent."""
        used = 0
        for size in self.whole:
            weight = self.mass[size - 1] / comb(self.parts, size)
            chosen = combinations(range(self.parts), size)
            while part := list(islice(chosen, BLOCK // 2)):
                keep = np.zeros((len(part), self.parts), bool)
                np.put_along_axis(keep, np.array(part), True, axis=1)
                keep = keep if 2 * size == self.parts else np.concatenate([keep, ~keep])
                used += len(keep)
                yield Block(keep, np.full(len(keep), weight), None)
        if self.exact:
            return
        inner = len(self.whole)
        sizes = np.arange(1 + inner, self.parts - inner)
        share = self.mass[sizes - 1] / self.mass[sizes - 1].sum()
        for number, start in enumerate(range(0, (self.budget - used) // 2, BLOCK // 2)):
            rng = np.random.default_rng([self.seed, number])
            drawn = rng.choice(sizes, BLOCK // 2, p=share)
            rank = rng.random((BLOCK // 2, self.parts)).argsort(axis=1).argsort(axis=1)
            count = min(BLOCK // 2, (self.budget - used) // 2 - start)
            keep = (rank < drawn[:, None])[:count]
            pairs = np.concatenate([keep, ~keep])
            groups = np.tile((start + np.arange(count)) % GROUPS, 2)
            yield Block(pairs, np.ones(len(pairs)), groups)


def shapley(matrix: NDArray[np.float64], right: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Least squares under the constraint that the coefficients add up to ``total``.

    Args:
        matrix: the weighted sum of the rows' products.
        right: the weighted sum of rows times what is fitted.
        total: the target of the whole input less that of the empty one.
    """
    from convlens.attribution.masking.regression import solved

    if len(right) == 1:
        return np.array([total])
    ones = np.ones(len(right))
    found = solved(matrix, np.stack([right, ones], axis=1))
    return np.asarray(found[:, 0] - found[:, 1] * (found[:, 0].sum() - total) / found[:, 1].sum())
