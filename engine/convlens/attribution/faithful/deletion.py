"""Curves of a target while an input's parts are hidden, or shown, in an order (Petsiuk et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.reading import reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.masking.parts import Parts
    from convlens.model import Model
    from convlens.targets import Target


def cuts(parts: Parts, steps: int) -> NDArray[Any]:
    """How many parts are replaced at each point of a curve: none at the first, all at the last."""
    return np.unique(np.rint(np.linspace(0, parts.count, steps + 1)).astype(np.int64))


def curves(
    model: Model,
    image: NDArray[Any],
    other: NDArray[Any],
    orders: Sequence[NDArray[Any]],
    parts: Parts,
    steps: int,
    target: Target,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> NDArray[Any]:
    """The target while ``image`` becomes ``other`` part by part, orders x points, float64.

    The points are those of :func:`cuts`; what all orders have in common, the first and the last point,
    is run once. Copies are made a batch at a time.

    Args:
        model: the model, run by onnxruntime.
        image: one input without the batch axis.
        other: what it becomes, in the same shape and type.
        orders: part numbers, in the order in which they are replaced.
        parts: the parts.
        steps: how many steps a curve has.
        target: of this image (see :meth:`Target.of`).
        batch_size: copies in one forward.
        advance: called with the share that is done.
    """
    points = cuts(parts, steps)
    own = reading(model, target)
    axes = [axis - 1 for axis in model.source.axes]
    shape = [size if axis in axes else 1 for axis, size in enumerate(image.shape)]
    ranks = [np.argsort(order) for order in orders]
    wanted = [(0, int(points[0])), (0, int(points[-1]))]
    wanted += [(number, int(cut)) for number in range(len(orders)) for cut in points[1:-1]]

    def batches() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, len(wanted), batch_size):
            rows = [
                np.where((ranks[number] < cut)[parts.index].reshape(shape), other, image)
                for number, cut in wanted[start : start + batch_size]
            ]
            yield {model.source.name: np.stack(rows)}

    found: list[NDArray[Any]] = []
    for values in model.runner.stream(batches(), list(own.names)):
        with np.errstate(invalid="ignore", over="ignore"):  # scores that are not finite, told by the outcome
            found.append(own.read(values))
        advance(sum(map(len, found)) / len(wanted))
    numbers = np.concatenate(found)
    between = numbers[2:].reshape(len(orders), -1)
    ends = np.repeat(numbers[None, :2], len(orders), axis=0)
    return np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)


def area(curve: NDArray[Any], parts: Parts, steps: int) -> NDArray[Any]:
    """The area under curves along their last axis, by trapezia, over the share of parts replaced (0 to 1)."""
    x = cuts(parts, steps) / parts.count
    return np.asarray(((curve[..., 1:] + curve[..., :-1]) / 2 * np.diff(x)).sum(axis=-1))
