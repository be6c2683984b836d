"""Gradients at many points of each image, batch by batch: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.registry import Job

Point: TypeAlias = "Callable[[int, int], NDArray[Any]]"


@dataclass(frozen=True)
class Sample:
    """The gradient at one point of one image, float64, and the target's score there."""

    image: int
    number: int
    gradient: NDArray[np.float64]
    score: float


def real_points(job: Job[Any], array: NDArray[Any]) -> NDArray[Any]:
    """The values at which ``array`` is explained, as real numbers: integers between which points lie, too."""
    from convlens.instrument.gradients import start_points

    points = start_points(job.model, array, job.batch_size)
    return points if points.dtype.kind == "f" else points.astype(np.float32)


def gradients_at(
    job: Job[Any],
    rule: str,
    rows: Sequence[tuple[int, int]],
    point: Point,
    advance: Callable[[float], None],
) -> Iterator[Sample]:
    """The gradient of the job's target at every point, in the order of ``rows``.

    Args:
        job: what was asked for; each image has its own target.
        rule: what rectifiers do to the signal on its way back.
        rows: image and number of each point.
        point: gives a point from image and number, in the shape of one row of :func:`real_points`.
        advance: called with the share that is done.

    Raises:
        TargetError: the target has no gradient.
    """
    from convlens.instrument.gradients import input_gradient

    assert job.target is not None
    step = job.model.runner.step(min(job.batch_size, len(rows)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        images = [image for image, _ in part]
        gradient, scores = input_gradient(
            job.model,
            job.images.array[images],
            job.target.take(images),
            rule,
            job.batch_size,
            points=np.stack([point(image, number) for image, number in part]),
        )
        for (image, number), own, score in zip(part, gradient, scores, strict=True):
            yield Sample(image, number, own.astype(np.float64), float(score))
        advance(min(1.0, (start + step) / len(rows)))
