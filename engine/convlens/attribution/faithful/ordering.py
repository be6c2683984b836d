"""Deletion, insertion and region perturbation of one image by a map's order, against baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.faithful.deletion import area, curves, cuts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.parts import Parts
    from convlens.model import Model
    from convlens.targets import Target

_DISCRETE = frozenset({"board", "tokens"})


@dataclass(frozen=True)
class Orders:
    """Curves of several orders on one image, the judged one first, then the centre's, then random ones.

    ``curves`` is orders x points, ``areas`` one number an order.
    """

    curves: NDArray[np.float64]
    areas: NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """How orders are compared: parts, steps of a curve, and how many random orders.

    Attributes:
        parts: the parts of the input.
        steps: steps of a curve.
        random: random orders.
        seed: that they are drawn from.
        batch_size: copies in one forward.
    """

    parts: Parts
    steps: int
    random: int
    seed: int
    batch_size: int

    @property
    def shares(self) -> NDArray[Any]:
        """The share of parts that is replaced at each point."""
        return np.asarray(cuts(self.parts, self.steps) / self.parts.count)

    def baselines(self) -> list[NDArray[Any]]:
        """The order from the centre outwards, then the random ones."""
        return [self.parts.centred(), *(self.parts.random(self.seed, i) for i in range(self.random))]

    def follow(
        self,
        model: Model,
        image: NDArray[Any],
        other: NDArray[Any],
        orders: Sequence[NDArray[Any]],
        target: Target,
        advance: Callable[[float], None] = lambda _share: None,
    ) -> Orders:
        """``image`` becomes ``other`` in each of ``orders``; arguments as for :func:`curves`."""
        found = curves(model, image, other, orders, self.parts, self.steps, target, self.batch_size, advance)
        return Orders(found, area(found, self.parts, self.steps))


def at_random(image: NDArray[Any], kind: str, axes: Sequence[int], seed: int) -> NDArray[Any]:
    """What regions are replaced by in region perturbation: random numbers in the image's own range.

    They are uniform between the smallest and the largest number of each channel (Samek et al. 2017); where
    an input is made of whole things, such as tokens, those at random places of it.

    Args:
        image: one input without the batch axis.
        kind: what it is.
        axes: its spatial axes, counted without the batch.
        seed: that the numbers are drawn from.
    """
    rng = np.random.default_rng([seed, 17])
    if kind in _DISCRETE:
        flat = np.moveaxis(image, axes, range(len(axes)))
        rows = flat.reshape(int(np.prod(flat.shape[: len(axes)])), -1)
        drawn = rows[rng.permutation(len(rows))].reshape(flat.shape)
        return np.moveaxis(drawn, range(len(axes)), axes)
    over = tuple(range(image.ndim)) if kind == "vector" else tuple(axes)
    low = image.min(axis=over, keepdims=True).astype(np.float64)
    high = image.max(axis=over, keepdims=True).astype(np.float64)
    drawn = low + (high - low) * rng.uniform(size=image.shape)
    return np.asarray(drawn if image.dtype.kind == "f" else np.rint(drawn), dtype=image.dtype)


def advantage(own: NDArray[Any], random: NDArray[Any]) -> float:
    """By how many standard deviations of random orders the mean of ``own`` lies below theirs.

    Args:
        own: area under the curve of each image.
        random: that of random orders, images x orders, 2 orders or more.

    Returns:
        NaN where something is not finite; 0 where nothing changes whatever is hidden.
    """
    if not (np.isfinite(own).all() and np.isfinite(random).all()):
        return float("nan")
    gap = float(random.mean() - own.mean())
    spread = float(np.sqrt(random.var(axis=1, ddof=1).sum()) / len(own))
    scale = max(float(np.abs(random).max(initial=0.0)), float(np.abs(own).max(initial=0.0)))
    floor = 1e-6 * scale  # what rounding makes of equal numbers
    return 0.0 if abs(gap) <= floor else gap / max(spread, floor)
