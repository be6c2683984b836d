"""Shard by shard through the model: batches are decoded, run and reduced side by side, tallied in order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlens.errors import ImageError
from convlens.recording.byclass import Group
from convlens.recording.features import vectors_of
from convlens.recording.gathered import Gathered, Together
from convlens.recording.part import VALUE, Part
from convlens.recording.seen import seen
from convlens.runtime.ahead import divided
from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.classes import Classes
    from convlens.model import Model
    from convlens.recording.plan import Plan
    from convlens.recording.source import Item, Source
    from convlens.runtime.runner import Runner


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

    label: int | None = None
    probability: float | None = None
    feature: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Batch:
    """What became of a batch: rows of the table of images, feature vectors, and what layers did."""

    rows: list[dict[str, Any]]
    features: list[NDArray[np.float32]]
    seen: list[Together]


class Recorder:
    """One model that follows a plan; the same for every runner.

    What a shard gives depends on the model, the plan and the shard's items alone, so it does not matter who
    does it, when, and how often.
    """

    def __init__(self, model: Model, plan: Plan, workers: int | None = None) -> None:
        """Divide the cores.

        Args:
            model: the model.
            plan: what is recorded.
            workers: batches that are worked on at once, a thread each from decoding to reducing; without it
                as many as there are cores for, up to eight. A forward runs in the threads that the model
                was loaded with, else in one (in more where there are 16 cores and more), however many
                workers there are: the last digits can depend on it.
        """
        self.model = model
        self.plan = plan
        own, threads = divided(model.runner.own_threads)
        self.workers = max(1, own if workers is None else workers)
        self._runner: Runner = model.runner.for_many(threads)
        self._texts = _texts(model.classes)
        self._lock, self._ran = Lock(), False

    def parts(self, source: Source, shards: Sequence[tuple[int, int]]) -> Iterator[Part]:
        """What each shard of a data set does to the model; work runs on from one to the next.

        Args:
            source: the data set.
            shards: first item and first item after, shard by shard.

        Raises:
            UnsupportedError: onnxruntime does not run the model on them.
        """
        for first, batches in groupby(self._batches(source, shards), key=lambda batch: batch[0]):
            yield self._part(first, (batch for _, batch in batches))

    def _part(self, first: int, batches: Iterable[_Batch]) -> Part:
        made = Part.nothing(self.plan, first)
        gathered, features = Gathered(made), []
        for batch in batches:
            for one in batch.seen:
                gathered.add(one)
            made.rows += batch.rows
            features += batch.features
        gathered.close()
        if features:
            made.features = np.stack(features)
        return made

    def _batches(self, source: Source, shards: Sequence[tuple[int, int]]) -> Iterator[tuple[int, _Batch]]:
        """Batches in their order, each with the first item of its shard."""
        size = self.plan.batch_size
        waiting: deque[tuple[int, Future[_Batch]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="record")
        try:
            for first, stop in shards:
                items = source.items(first, stop)
                for start in range(0, len(items), size):
                    job = pool.submit(self._batch, items[start : start + size], first + start)
                    waiting.append((first, job))
                    if len(waiting) > self.workers + 1:
                        before, job = waiting.popleft()
                        yield before, job.result()
            while waiting:
                before, job = waiting.popleft()
                yield before, job.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, items: Sequence[Item], first: int) -> _Batch:
        """One batch from decoding to reducing."""
        decoded = [self._read(item, number) for number, item in enumerate(items, first)]
        good = [one for one in decoded if one.array is not None]
        told: dict[int, _Told] = {}
        layers: list[Together] = []
        for _, alike in groupby(good, key=lambda one: one.array.shape if one.array is not None else ()):
            group = list(alike)
            found, each = self._forward(group)
            layers.append(found)
            told |= zip((one.number for one in group), each, strict=True)
        nothing = _Told()
        rows = [
            {
                "number": one.number,
                "name": one.item.name,
                "label": one.item.label,
                "reason": one.reason,
                "class": told.get(one.number, nothing).label,
                "probability": told.get(one.number, nothing).probability,
                **{f"{VALUE}{name}": value for name, value in one.item.values.items()},
            }
            for one in decoded
        ]
        return _Batch(rows, [one.feature for one in told.values() if one.feature is not None], layers)

    def _forward(self, group: Sequence[_Decoded]) -> tuple[Together, list[_Told]]:
        """One forward of images of one size."""
        model, plan = self.model, self.plan
        array = np.stack([one.array for one in group if one.array is not None])
        if model.source.image and array.dtype == np.uint8:
            array = model.preprocess.array(array)
        classes = model.classes
        values = self._values(array, plan.names() + ([classes.name] if classes is not None else []))
        for name, value in values.items():
            check_rows(name, value.shape, len(group))
        features: Sequence[Any] = [None] * len(group)
        if plan.feature is not None:
            features = [*vectors_of(values[plan.feature.name], plan.feature.channel_axis)]
        told = [_Told(feature=feature) for feature in features]
        if classes is not None:
            found = classes.probabilities(values[classes.name])
            for row, label in enumerate(found.argmax(axis=1).tolist()):
                if np.isfinite(found[row]).all():
                    told[row] = _Told(label, float(found[row, label]), features[row])
        # the last layers first: they are what the processor's cache still holds
        layers = [seen(values[layer.name], layer.channel_axis) for layer in reversed(plan.layers)]
        return Together(
            np.array([one.number for one in group], np.int64),
            [self._group(one.item.label, each.label) for one, each in zip(group, told, strict=True)],
            layers[::-1],
        ), told

    def _values(self, array: NDArray[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """One forward; the first one alone, as it makes what all others use."""
        feeds, once = {self.model.source.name: array}, list(dict.fromkeys(names))
        if self._ran:
            return self._runner.run(feeds, once, self.plan.batch_size)
        with self._lock:
            found = self._runner.run(feeds, once, self.plan.batch_size)
            self._ran = True
            return found

    def _group(self, label: str | None, predicted: int | None) -> Group | None:
        if label is not None:
            return Group(False, label)
        return Group(True, self._texts[predicted]) if predicted is not None else None

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


def _texts(classes: Classes | None) -> list[str]:
    """One text a class, no two alike: its label, numbered where others have the same; or its number."""
    if classes is None:
        return []
    if classes.labels is None:
        return [str(index) for index in range(classes.count)]
    first = [names[0] for names in classes.labels]
    often = Counter(first)
    return [name if often[name] == 1 else f"{name} ({index})" for index, name in enumerate(first)]
