"""The integral of a gradient along the straight line from a baseline to the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.attribution.slopes.sampled import Sample, gradients_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.registry import Job

Nodes: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"
"""Places between 0 (the baseline) and 1 (the input), and what the gradient at each weighs."""

_HELD = 1 << 28  # bytes of gradients that are kept while places are still being added
_FIRST = 8  # intervals from which refinement starts
_SHARE = 0.3  # of the largest error: intervals with no less are halved
_EDGE = 0.001
"""Where the gradient at the baseline is taken instead: in an input without any contrast all numbers under
a maximum are equal, and rounding would choose between them."""
_CANCEL = 10.0  # how many times the error that is asked for the intervals' own may add up to


def even(rule: str, steps: int) -> Nodes:
    """Places and weights of a rule of quadrature from 0 to 1.

    Args:
        rule: ``gauss-legendre``, ``midpoint`` or ``trapezoid``.
        steps: how many places; the trapezoid needs two.
    """
    if rule == "gauss-legendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + places) / 2, weights / 2
    if rule == "midpoint":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    return trapezoid(np.linspace(0, 1, max(2, steps)))


def trapezoid(places: NDArray[np.float64]) -> Nodes:
    """Weights of rising places, 0 and 1 among them: each stands for half of the interval on either side."""
    widths = np.diff(places)
    return places, (np.append(widths, 0.0) + np.append(0.0, widths)) / 2


@dataclass(frozen=True)
class Integral:
    """What the way from the baseline to each of N inputs comes to.

    Attributes:
        gradient: its mean along the way, float64, in the shape of the inputs.
        start: the target's score at the baseline; ``end`` at the input.
        places: how many gradients were taken, the ends included.
    """

    gradient: NDArray[np.float64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    places: NDArray[np.int64]


def integral(
    job: Job[Any],
    rule: str,
    baseline: NDArray[Any],
    points: NDArray[Any],
    quadrature: str,
    steps: int,
    tolerance: float,
) -> Integral:
    """The mean gradient of the job's target between ``baseline`` and ``points``.

    Args:
        job: what was asked for.
        rule: what rectifiers do to the signal on its way back.
        baseline: where each way begins, as :func:`~convlens.attribution.slopes.sampled.real_points` gives it.
        points: where it ends.
        quadrature: a rule that :func:`even` knows, or ``adaptive``.
        steps: places of an even rule (the ends come on top where it has them not); of ``adaptive`` the most.
        tolerance: the completeness error with which ``adaptive`` is content.
    """
    way = _Way(job, rule, baseline, points)
    if quadrature != "adaptive":
        places, weights = even(quadrature, steps)
        ends = [end for end in (0.0, 1.0) if end not in places]
        nodes = [*zip(places.tolist(), weights.tolist(), strict=True), *((end, 0.0) for end in ends)]
        for image, (place, weight) in ((i, node) for i in range(len(points)) for node in nodes):
            way.planned.append((image, place, weight))
        way.sum(job.advance)
        return way.integral
    for start in range(0, len(points), job.batch_size):
        group = range(start, min(start + job.batch_size, len(points)))

        def advance(share: float, start: int = start, count: int = len(group)) -> None:
            job.advance((start + share * count) / len(points))

        way.refine({image: Refined(tolerance, steps) for image in group}, advance)
        way.sum(lambda _share: None)
        advance(1.0)
    return way.integral


class _Way:
    """The sums along each way, and the gradients that may be needed again, as far as there is room."""

    def __init__(self, job: Job[Any], rule: str, baseline: NDArray[Any], points: NDArray[Any]) -> None:
        self.job, self.rule, self.baseline, self.points = job, rule, baseline, points
        self.planned: list[tuple[int, float, float]] = []  # image, place, weight
        self.held: dict[tuple[int, float], NDArray[Any]] = {}
        count = len(points)
        self.integral = Integral(
            np.zeros(points.shape), np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
        )

    def at(
        self, rows: Sequence[tuple[int, float]], advance: Callable[[float], None]
    ) -> Iterator[tuple[int, float, Sample]]:
        """The gradient at each place of each way."""
        numbered = [(image, number) for number, (image, _) in enumerate(rows)]

        def point(image: int, number: int) -> NDArray[Any]:
            start, end, place = self.baseline[image], self.points[image], rows[number][1]
            if place in (0.0, 1.0):  # the ends are what they are, without rounding
                return np.asarray(end if place else start)
            return np.asarray((1 - place) * start.astype(np.float64) + place * end).astype(end.dtype)

        for sample in gradients_at(self.job, self.rule, numbered, point, advance):
            place = rows[sample.number][1]
            if place in (0.0, 1.0):
                (self.integral.end if place else self.integral.start)[sample.image] = sample.score
            yield sample.image, place, sample

    def refine(self, ways: Mapping[int, Refined], advance: Callable[[float], None]) -> None:
        """Look where each way asks, until none asks any more; then its places are planned."""
        while rows := [(image, place) for image, way in ways.items() for place in way.wanted()]:
            edges = [(image, _EDGE) for image, place in rows if not place]
            for image, place, sample in self.at([*rows, *edges], lambda _share: None):
                if not place:
                    continue  # the baseline's score alone, which stands in the integral by now
                along = self.points[image].astype(np.float64) - self.baseline[image]
                slope, edge = float((sample.gradient * along).sum()), place == _EDGE
                score = float(self.integral.start[image]) if edge else sample.score
                ways[image].add(0.0 if edge else place, slope, score)
                if (len(self.held) + 1) * self.points[image].nbytes <= _HELD:
                    self.held[image, place] = sample.gradient.astype(self.points.dtype)
            advance(max(len(way.slopes) / way.most for way in ways.values()))
        for image, way in ways.items():
            places, weights = trapezoid(way.places)
            nodes = zip(places.tolist(), weights.tolist(), strict=True)
            self.planned += [(image, place or _EDGE, weight) for place, weight in nodes]

    def sum(self, advance: Callable[[float], None]) -> None:
        """Add up what is planned; gradients that are not held are taken (again)."""
        missing = [(image, place) for image, place, _ in self.planned if (image, place) not in self.held]
        weights = {(image, place): weight for image, place, weight in self.planned}
        for image, place, weight in self.planned:
            self.integral.places[image] += 1
            if (image, place) in self.held:
                self.integral.gradient[image] += weight * self.held[image, place]
        if missing:
            for image, place, sample in self.at(missing, advance):
                self.integral.gradient[image] += weights[image, place] * sample.gradient
        self.planned, self.held = [], {}


@dataclass
class Refined:
    """Places that crowd where the trapezoid is wrong.

    What the score does between two places is known exactly, and so is what the trapezoid makes of it. The
    intervals in which the two differ most are halved, until all of them together are right.

    Attributes:
        tolerance: the completeness error that is asked for, a share of the score's change.
        most: how many places there may be.
    """

    tolerance: float
    most: int

    def __post_init__(self) -> None:
        self.slopes: dict[float, float] = {}
        self.scores: dict[float, float] = {}

    @property
    def places(self) -> NDArray[np.float64]:
        """Every place so far, rising."""
        return np.asarray(sorted(self.slopes))

    def add(self, place: float, slope: float, score: float) -> None:
        """What was found at a place: the gradient along the line, and the score."""
        self.slopes[place], self.scores[place] = slope, score

    def wanted(self) -> list[float]:
        """Where to look next; nothing once the tolerance is kept or no place is left."""
        if not self.slopes:
            return [float(place) for place in np.linspace(0, 1, min(_FIRST + 1, max(2, self.most)))]
        places = self.places
        slopes, scores = (
            np.asarray([kind[p] for p in places.tolist()]) for kind in (self.slopes, self.scores)
        )
        errors = np.diff(scores) - np.diff(places) * (slopes[1:] + slopes[:-1]) / 2
        change = abs(scores[-1] - scores[0])
        apart = np.abs(errors)
        if abs(errors.sum()) <= self.tolerance * change and apart.sum() <= _CANCEL * self.tolerance * change:
            return []
        worst = np.argsort(-apart, kind="stable")
        chosen = [k for k in worst.tolist() if apart[k] >= _SHARE * apart[worst[0]]]
        middles = [float(places[k] + places[k + 1]) / 2 for k in chosen[: self.most - len(places)]]
        return [place for place in middles if place not in self.slopes]
