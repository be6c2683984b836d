"""A patch moved over images, and what is read at each of its places."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.reading import reading, whole
from convlens.runtime.incremental.hidden import Kept, Told, probe
from convlens.runtime.patches import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.feature_maps import FeatureMaps
    from convlens.attribution.masking.covering import Cover
    from convlens.hiding import Exact
    from convlens.registry import Job


def maps(
    job: Job[Any],
    features: FeatureMaps | None,
    cover: Cover,
    starts: Sequence[Sequence[int]],
    patch: Sequence[int],
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Every array that the patch's way over the images gives, and how each image was computed.

    Args:
        job: the images, the target, and ``exact`` among the parameters.
        features: of the layer whose strongest map is followed, if any is.
        cover: what the patch shows.
        starts: first positions, axis by axis.
        patch: its sides.
    """
    assert job.target is not None
    model, array, axes, classes = job.model, job.images.array, job.model.source.axes, job.model.classes
    extent, places = [array.shape[axis] for axis in axes], list(product(*starts))
    found: dict[str, list[Any]] = {}
    ways: list[str] = []

    def keep(**numbers: Any) -> None:
        for key, value in numbers.items():
            found.setdefault(key, []).append(value)

    kept = Kept()
    for index in range(len(array)):
        own = reading(model, job.target.of(index))
        names = [*own.names]
        names += [classes.name] if classes is not None else []
        names += [features.layer.name] if features is not None else []
        names = list(dict.fromkeys(names))
        values = whole(model, array[index : index + 1], names, own.alone)
        base, channel = own.read(values)[0], 0
        if features is not None:
            totals = features.totals(values[features.layer.name])[0]
            channel = int(totals.argmax())
            keep(channel=channel, activity_baseline=totals[channel])
        if classes is not None:
            keep(label_baseline=int(classes.probabilities(values[classes.name])[0].argmax()))
        parts: dict[str, list[NDArray[Any]]] = {"map": [], "activity": [], "label": []}
        order: list[NDArray[Any]] = []
        changes, told = cover.changes(index, places, patch), Told()
        exact: Exact = "dense" if own.alone else job.parameters.exact
        for rows, values in probe(
            model.runner,
            model.source.name,
            axes,
            array[index],
            changes,
            names,
            job.batch_size,
            exact,
            told,
            kept,
        ):
            order.append(rows)
            parts["map"].append(own.read(values))
            if features is not None:
                parts["activity"].append(features.total(values[features.layer.name], channel))
            if classes is not None:
                parts["label"].append(classes.probabilities(values[classes.name]).argmax(axis=1))
            job.advance((index + sum(map(len, order)) / len(places)) / len(array))
        back = np.argsort(np.concatenate(order))
        hidden = {key: np.concatenate(part)[back] for key, part in parts.items() if part}
        ways.append(told.words())
        keep(**{key: numbers.reshape([len(each) for each in starts]) for key, numbers in hidden.items()})
        keep(baseline=base, drop=spread(base - hidden["map"], places, extent, patch))
        if features is not None:
            lost = totals[channel] - hidden["activity"]
            keep(activity_drop=spread(lost, places, extent, patch))
    return {key: np.stack(numbers) for key, numbers in found.items()}, ways
