"""Shard by shard through the model: decoding runs ahead, onnxruntime runs, tallies are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlens.errors import ImageError
from convlens.recording.part import Part
from convlens.recording.seen import seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.plan import Plan
    from convlens.recording.source import Item, Source

_AHEAD = 3  # batches that are decoded before the model wants them


@dataclass(frozen=True)
class _Decoded:
    """An item as the model takes it, or why it cannot be."""

    number: int
    item: Item
    array: NDArray[Any] | None
    reason: str = ""


@dataclass(frozen=True)
class _Told:
    """What the model says of one image: predicted class and its probability, and the feature vector."""

    label: int | None
    probability: float | None
    feature: NDArray[np.float32] | None


class Recorder:
    """One model that follows a plan; the same for every runner.

    What a shard gives depends on the model, the plan and the shard's items alone, so it does not matter who
    does it, when, and how often.
    """

    def __init__(self, model: Model, plan: Plan, workers: int = 1) -> None:
        """``workers`` threads decode ahead of the model."""
        self.model = model
        self.plan = plan
        self.workers = max(1, workers)

    def parts(self, source: Source, shards: Sequence[tuple[int, int]]) -> Iterator[Part]:
        """What each shard of a data set does to the model; decoding runs on from one to the next.

        Args:
            source: the data set.
            shards: first item and first item after, shard by shard.

        Raises:
            UnsupportedError: onnxruntime does not run the model on them.
        """
        for first, batches in groupby(self._decoded(source, shards), key=lambda batch: batch[0]):
            yield self._part(first, (batch for _, batch in batches))

    def _part(self, first: int, batches: Iterable[list[_Decoded]]) -> Part:
        made = Part.nothing(self.plan, first)
        features = []
        for batch in batches:
            told = self._told(batch, made)
            for one in batch:
                found = told.get(one.number, _Told(None, None, None))
                made.rows.append(
                    {
                        "number": one.number,
                        "name": one.item.name,
                        "label": one.item.label,
                        "reason": one.reason,
                        "class": found.label,
                        "probability": found.probability,
                    }
                )
                if found.feature is not None:
                    features.append(found.feature)
        if features:
            made.features = np.stack(features)
        return made

    def _told(self, batch: Sequence[_Decoded], made: Part) -> dict[int, _Told]:
        """What the model says of the readable images of a batch, by number; tallies go into ``made``."""
        good = [one for one in batch if one.array is not None]
        told: dict[int, _Told] = {}
        for _, alike in groupby(good, key=lambda one: one.array.shape if one.array is not None else ()):
            group = list(alike)
            told |= zip((one.number for one in group), self._forward(group, made), strict=True)
        return told

    def _forward(self, group: Sequence[_Decoded], made: Part) -> list[_Told]:
        """One forward of images of one size."""
        model, plan = self.model, self.plan
        array = np.stack([one.array for one in group if one.array is not None])
        if model.source.image and array.dtype == np.uint8:
            array = model.preprocess.array(array)
        classes = model.classes
        names = list(dict.fromkeys(plan.names() + ([classes.name] if classes is not None else [])))
        values = model.runner.run({model.source.name: array}, names, plan.batch_size)
        numbers = np.array([one.number for one in group], np.int64)
        for layer, tally, strongest in zip(plan.layers, made.tallies, made.strongest, strict=True):
            one = seen(values[layer.name], layer.channel_axis)
            tally.add(one)
            strongest.add(one, numbers)
        features: Sequence[Any] = [None] * len(group)
        if plan.feature is not None:
            value = np.moveaxis(values[plan.feature.name], plan.feature.channel_axis, 1)
            features = value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64).astype(np.float32)
        if classes is None:
            return [_Told(None, None, feature) for feature in features]
        found = classes.probabilities(values[classes.name])
        best = found.argmax(axis=1).tolist()
        return [
            _Told(label, float(row[label]), feature)
            for label, row, feature in zip(best, found, features, strict=True)
        ]

    def _decoded(
        self, source: Source, shards: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, list[_Decoded]]]:
        """Batches in their order, each with the first item of its shard, decoded ahead of their use."""
        size = self.plan.batch_size
        with ThreadPoolExecutor(self.workers, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[int, list[Future[_Decoded]]]] = deque()
            for first, stop in shards:
                items = source.items(first, stop)
                for start in range(0, len(items), size):
                    chunk = items[start : start + size]
                    jobs = [pool.submit(self._read, item, first + start + i) for i, item in enumerate(chunk)]
                    waiting.append((first, jobs))
                    if len(waiting) > _AHEAD:
                        yield _awaited(waiting.popleft())
            while waiting:
                yield _awaited(waiting.popleft())

    def _read(self, item: Item, number: int) -> _Decoded:
        try:
            found = item.read()
            if isinstance(found, Image.Image):
                return _Decoded(number, item, self.model.preprocess.view(found))
            return _Decoded(number, item, self._fitting(found))
        except ImageError as error:
            return _Decoded(number, item, None, str(error))

    def _fitting(self, array: NDArray[Any]) -> NDArray[Any]:
        shape = (self.model.source.shape or ())[1:]
        fits = array.ndim == len(shape) and all(
            not isinstance(dim, int) or dim == length for dim, length in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ImageError(f"{list(array.shape)} numbers; the model takes {list(shape)}")
        return array


def _awaited(batch: tuple[int, list[Future[_Decoded]]]) -> tuple[int, list[_Decoded]]:
    first, jobs = batch
    return first, [job.result() for job in jobs]
