"""What checkpoints gave, brought together in their order; of features only what is still needed is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.evolution.alike import debiased_cka, linear_cka, settled
from convlens.evolution.following import Strongest, moved
from convlens.evolution.scored import Score
from convlens.evolution.weights import compared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.evolution.alike import Gram


@dataclass(frozen=True)
class Look:
    """What one checkpoint gave.

    Attributes:
        grams: of the layers that are compared.
        filters: weights of every layer that has some, by alias.
        strongest: units of the layers whose channels are followed.
        made: reconstructions of the channels that are followed, layer by layer.
        boxes: what part of the input their units see, likewise.
        score: how well it tells classes.
        certificate: whether PyTorch and onnxruntime agree on it.
        sha256: of its file.
        unsound: what is wrong with its weights, None where nothing is.
    """

    grams: Sequence[Gram]
    filters: Mapping[str, NDArray[np.float32]]
    strongest: Sequence[Strongest]
    made: Sequence[NDArray[Any]]
    boxes: Sequence[NDArray[np.int64]]
    score: Score
    certificate: Mapping[str, Any]
    sha256: str
    unsound: str | None


@dataclass
class Course:
    """The checkpoints of one training: :meth:`begin` takes the last, :meth:`add` the others in their order.

    Attributes:
        count: how many checkpoints there are.
        cka_last: linear CKA with the last checkpoint, layers x checkpoints.
        cka_before: with the checkpoint before; NaN for the first.
        debiased_last: as ``cka_last``, with the unbiased estimator.
        change_last: length of the change of weights to the last checkpoint over the length of the last's
            weights, layers with weights x checkpoints.
        cosine_last: mean cosine between a filter and its own at the last checkpoint.
        change_first: as ``change_last``, but from the first checkpoint, over the length of the first's.
        cosine_first: likewise.
        filters: aliases of the layers with weights.
        looks: what else was seen at each checkpoint; without Gram matrices and filters.
    """

    count: int
    cka_last: NDArray[np.float64] = field(init=False)
    cka_before: NDArray[np.float64] = field(init=False)
    debiased_last: NDArray[np.float64] = field(init=False)
    change_last: NDArray[np.float64] = field(init=False)
    cosine_last: NDArray[np.float64] = field(init=False)
    change_first: NDArray[np.float64] = field(init=False)
    cosine_first: NDArray[np.float64] = field(init=False)
    filters: tuple[str, ...] = ()
    looks: dict[int, Look] = field(default_factory=dict)
    _last: Look = field(init=False, repr=False)
    _before: Look | None = field(default=None, repr=False)
    _first: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def begin(self, last: Look) -> None:
        """The last checkpoint, which the others are held against."""
        self._last = last
        self.filters = tuple(last.filters)
        for name in ("cka_last", "cka_before", "debiased_last"):
            setattr(self, name, np.full((len(last.grams), self.count), np.nan))
        for name in ("change_last", "cosine_last", "change_first", "cosine_first"):
            setattr(self, name, np.full((len(last.filters), self.count), np.nan))
        self._enter(self.count - 1, last)

    def add(self, number: int, look: Look) -> None:
        """A checkpoint, right after the one before it."""
        if number == 0:
            self._first = look.filters
        self._enter(number, look)
        if self._before is not None:
            self.cka_before[:, number] = _alike(look, self._before)
        self._before = look
        if number == self.count - 2:
            self.cka_before[:, -1] = _alike(self._last, look)
            self.change_first[:, -1], self.cosine_first[:, -1] = compared(self._last.filters, self._first)

    def _enter(self, number: int, look: Look) -> None:
        self.cka_last[:, number] = _alike(look, self._last)
        self.debiased_last[:, number] = [
            debiased_cka(one, other) for one, other in zip(look.grams, self._last.grams, strict=True)
        ]
        self.change_last[:, number], self.cosine_last[:, number] = compared(look.filters, self._last.filters)
        if self._first:
            self.change_first[:, number], self.cosine_first[:, number] = compared(look.filters, self._first)
        self.looks[number] = replace(look, grams=(), filters={})

    def settles(self, threshold: float, debiased: bool = False) -> list[int]:
        """The checkpoint from which on each layer stays as it is at the end; -1 where there is no CKA."""
        table = self.debiased_last if debiased else self.cka_last
        return [-1 if np.isnan(row[-1]) else settled(row, threshold) for row in table]

    def jumps(self) -> NDArray[np.float64]:
        """Share of channels whose strongest image is another than at the checkpoint before.

        Layers that are followed x checkpoints; NaN for the first checkpoint.
        """
        found = np.full((len(self.looks[0].strongest), self.count), np.nan)
        for number in range(1, self.count):
            pairs = zip(self.looks[number - 1].strongest, self.looks[number].strongest, strict=True)
            found[:, number] = [float(moved(before, now).mean()) for before, now in pairs]
        return found


def _alike(one: Look, other: Look) -> list[float]:
    return [linear_cka(own, theirs) for own, theirs in zip(one.grams, other.grams, strict=True)]
