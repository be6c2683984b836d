"""How the features of several images change when a part of each is covered, and how alike they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.reading import whole
from convlens.runtime.incremental.hidden import Told, probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.covering import Cover
    from convlens.attribution.sets.regions import Window
    from convlens.registry import Job

_SAME = 1e-5  # of a layer's largest feature: smaller changes are rounding
_HELD = 1 << 28  # bytes of signs that are held at once
_WORD = 64  # signs in a number
_BLOCK = 1 << 15  # features that are compared at once


@dataclass
class Changed:
    """The images, and the features that are compared.

    Attributes:
        job: its images, model and the parameter ``exact``.
        cover: what parts are covered with.
        names: ONNX values, a layer each.
        ways: for each image how it was computed, in words, once it was.
    """

    job: Job[Any]
    cover: Cover
    names: Sequence[str]
    ways: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        """Read the features of the images as they are."""
        model, array = self.job.model, self.job.images.array
        self.ways = [[] for _ in array]
        self._before: list[list[NDArray[Any]]] = []
        for index in range(len(array)):
            values = whole(model, array[index : index + 1], self.names)
            self._before.append([values[name].reshape(-1) for name in self.names])

    def compared(
        self, sets: Sequence[Sequence[Window]]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For each set of windows, one an image, what covering them changes.

        Yields:
            The share of features whose changes differ in sign, layers x pairs of images, and the length of
            the change as a share of the length of the features, images x layers.
        """
        sizes = [each.size for each in self._before[0]]
        one = len(self._before) * sum(2 * 8 * -(-size // _WORD) for size in sizes)
        most = max(1, _HELD // max(1, one))
        done = 0
        for chunk in np.array_split(np.arange(len(sets)), -(-len(sets) // most)):
            signs = [
                np.zeros((len(chunk), len(self._before), 2, -(-size // _WORD)), np.uint64) for size in sizes
            ]
            lengths = np.zeros((len(chunk), len(self._before), len(sizes)))
            for index in range(len(self._before)):
                windows = [sets[number][index] for number in chunk]
                for rows in self._image(index, windows, signs, lengths[:, index]):
                    done += rows
                    self.job.advance(done / (len(sets) * len(self._before)))
            for number in range(len(chunk)):
                apart = [_apart(each[number], size) for each, size in zip(signs, sizes, strict=True)]
                yield np.stack(apart), lengths[number]

    def _image(
        self,
        index: int,
        windows: Sequence[Window],
        signs: Sequence[NDArray[np.uint64]],
        lengths: NDArray[np.float64],
    ) -> Iterator[int]:
        """Write signs and lengths of one image, window by window; gives how many were done."""
        job, source, told = self.job, self.job.model.source, Told()
        starts = [[span.start for span in window] for window in windows]
        sides = [[span.stop - span.start for span in window] for window in windows]
        changes = self.cover.changes(index, starts, sides)
        before = self._before[index]
        bounds = [_SAME * float(np.abs(each, dtype=np.float64).max(initial=0)) for each in before]
        whole_lengths = [float(np.linalg.norm(each.astype(np.float64))) for each in before]
        image, exact = job.images.array[index], job.parameters.exact
        for rows, values in probe(
            job.model.runner,
            source.name,
            source.axes,
            image,
            changes,
            self.names,
            job.batch_size,
            exact,
            told,
        ):
            for layer, name in enumerate(self.names):
                for row, value in zip(rows.tolist(), values[name], strict=True):
                    own = signs[layer][row, index]
                    gap = _compared(before[layer], value.reshape(-1), bounds[layer], own)
                    lengths[row, layer] = gap / whole_lengths[layer] if whole_lengths[layer] else 0.0
            yield len(rows)
        self.ways[index] += [words for words in [told.words()] if words not in self.ways[index]]


def _compared(before: NDArray[Any], after: NDArray[Any], bound: float, signs: NDArray[np.uint64]) -> float:
    """The length of the change, block by block in the cache; writes where it is positive, and negative.

    ``signs`` is 2 x words and zero, a bit a feature.
    """
    total, bits = 0.0, signs.view(np.uint8)
    for start in range(0, len(before), _BLOCK):
        one, other = before[start : start + _BLOCK], after[start : start + _BLOCK]
        if np.array_equal(one, other):
            continue
        gap = np.subtract(one, other, dtype=np.float64)
        total += float(gap @ gap)
        for row, mask in enumerate((gap > bound, gap < -bound)):
            packed = np.packbits(mask)
            bits[row, start // 8 : start // 8 + len(packed)] = packed
    return float(np.sqrt(total))


def _apart(signs: NDArray[np.uint64], size: int) -> NDArray[np.float64]:
    """The share of unequal signs of every pair of images: images x 2 x words."""
    pairs = [(i, j) for i in range(len(signs)) for j in range(i + 1, len(signs))]
    differ = [signs[i] ^ signs[j] for i, j in pairs]
    return np.array([np.bitwise_count(each[0] | each[1]).sum() / max(1, size) for each in differ])
