"""Gradients of a target with respect to the input, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.explained import explained_at
from convlens.instrument import halves
from convlens.instrument.session import Session
from convlens.instrument.several import leaf, shared
from convlens.precision import FULL, in_use
from convlens.rows import repeated
from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.targets import Target


Score: TypeAlias = "Callable[[Mapping[str, Tensor], int], Tensor]"


def input_gradient(
    model: Model,
    array: NDArray[Any],
    target: Target,
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
    points: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The signal that arrives at the input under ``rule``, and the target's score.

    Where integers go in, it is the signal at the value that :func:`explained_at` names.

    Args:
        model: the model.
        array: inputs as the model takes them, images first; float64 computes in float64.
        target: what is differentiated; each image's own score, so that images do not mix.
        rule: ``plain``, ``deconvnet`` or ``guided``.
        batch_size: images in one forward and backward.
        advance: called with the share that is done.
        points: where the gradient is taken instead of at ``array`` itself, in the shape of what
            :func:`start_points` gives; ``array`` still feeds whatever else reads the input.

    Returns:
        The signal in the shape of ``array`` (of the embedding for tokens: N x T x D), and the scores, N.

    Raises:
        TargetError: the target has no gradient.
        UnsupportedError: integers go in and never become real numbers.
    """
    place = explained_at(model.graph, model.source).value
    names = target.needs(model.graph.outputs)
    goal = _Goal(names, _score_of(target), target.text, target.alone)
    signals, scores = [], []
    for part in _parts(model, array, goal, place, rule, batch_size, advance, points):
        signals.append(part.gradient)
        scores.append(part.scores)
    return np.concatenate(signals), np.concatenate(scores)


def start_points(model: Model, array: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """The value at which ``array`` is explained: itself, or what :func:`explained_at` names for integers."""
    place = explained_at(model.graph, model.source).value
    source = model.source.name
    return array if place == source else model.runner.run({source: array}, [place], batch_size)[place]


def layer_gradients(
    model: Model,
    array: NDArray[Any],
    layer: Layer,
    target: Target,
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> Iterator[Part]:
    """A layer's value and the target's gradient with respect to it, batch by batch.

    Arguments and errors as for :func:`input_gradient`; each :class:`Part` covers the images after
    those of the part before, so that whoever reduces them holds one batch at a time.
    """
    names = target.needs(model.graph.outputs)
    goal = _Goal(names, _score_of(target), target.text, target.alone)
    yield from _parts(model, array, goal, layer.name, rule, batch_size, advance, None)


def unit_gradients(
    model: Model,
    array: NDArray[Any],
    layer: Layer,
    units: NDArray[Any],
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
    prepare: Callable[[Session], None] = lambda _session: None,
    images: Sequence[int] | NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The signal at the input for one unit of ``layer``, or the sum of several, per row.

    Args:
        model: the model.
        array: inputs, images first.
        layer: where the units lie.
        units: index of each unit along every axis of the layer after the batch, rows x (rank - 1); or rows x
            units x (rank - 1) for the sum of several, with -1 where a row has fewer.
        rule: ``plain``, ``deconvnet`` or ``guided``.
        batch_size: images in one forward and backward.
        advance: called with the share that is done.
        prepare: called with each batch's session before it runs.
        images: which image each row is of, so that an image goes forward once for all of its rows; each
            row has an image of its own without it.
    """

    def pick(values: Mapping[str, Tensor], places: Sequence[int], rows: Sequence[int]) -> Tensor:
        value = values[layer.name]
        own = torch.from_numpy(units[list(rows)]).to(value.device)
        at = torch.tensor(places, device=value.device)
        if own.ndim == 2:
            return value[(at, *own.unbind(dim=1))]
        several = value[(at[:, None], *own.clamp(min=0).unbind(dim=2))]
        return torch.where(own[..., 0] >= 0, several, 0).sum(dim=1)

    of, text = range(len(array)) if images is None else images, f"units of {layer.alias}"
    return shared(model, array, of, (layer.name,), pick, text, rule, batch_size, advance, prepare)[0]


@dataclass(frozen=True)
class Part:
    """One batch: the value looked at, the gradient with respect to it, and the target's scores."""

    value: NDArray[Any]
    gradient: NDArray[Any]
    scores: NDArray[Any]

    def with_rows(self, rows: NDArray[np.bool_], other: Part) -> Part:
        """The same with ``other``'s numbers where ``rows`` is true."""
        if len(rows) != len(self.value):  # the rows count what was found on one image
            return other
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Part(*(np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in pairs))


@dataclass(frozen=True)
class _Goal:
    """What is differentiated: the values that it reads, one number a row, and its name for people.

    ``alone`` says that their rows count what was found on one image, and not images.
    """

    names: Sequence[str]
    score: Score
    text: str
    alone: bool = False


def _score_of(target: Target) -> Score:
    def score(values: Mapping[str, Tensor], start: int) -> Tensor:
        count = 1 if target.alone else len(next(iter(values.values())))
        found: Tensor = target.rows(start, start + count).score(values)
        return found

    return score


def _parts(
    model: Model,
    array: NDArray[Any],
    goal: _Goal,
    place: str,
    rule: str,
    batch_size: int,
    advance: Callable[[float], None],
    points: NDArray[Any] | None,
) -> Iterator[Part]:
    """Forward to what ``goal`` reads, backward from each row's own score to ``place``, in batches."""
    source = model.source.name
    if points is not None and place == source:
        array, points = points, None
    use, way = in_use(), (source, place, rule, *goal.names)
    lowered = use.lowered(array)
    step = model.runner.step(min(batch_size, len(array)))
    for start in range(0, len(array), step):
        own = None if points is None else points[start : start + step]
        part = array[start : start + step]
        found, lost = _part(model, part, goal, place, rule, start, own, lowered)
        if lowered != FULL and way not in use.found and not (start or lost[0]):
            first = None if own is None else own[:1]
            full, _ = _part(model, part[:1], goal, place, rule, start, first, FULL)
            use.compare(way, found.gradient[:1], full.gradient[:1])
        if lost.any():
            full, _ = _part(model, part, goal, place, rule, start, own, FULL)
            found = found.with_rows(lost, full)
        yield found
        advance(min(1.0, (start + step) / len(array)))


def _part(
    model: Model,
    part: NDArray[Any],
    goal: _Goal,
    place: str,
    rule: str,
    start: int,
    points: NDArray[Any] | None,
    precision: str,
) -> tuple[Part, NDArray[np.bool_]]:
    """One batch, which begins at image number ``start``, and which of its rows are to be taken in float32."""
    source, count, fixed = model.source.name, len(part), model.runner.fixed_batch
    graph = model.instrument("float64" if part.dtype == np.float64 else "float32")
    if fixed and count < fixed:  # the file takes no fewer; the copies' results are dropped
        part = repeated(part, fixed)
    with Session(graph, rule, source=source, precision=precision) as session:
        tap = None if place == source else session.tap(place)
        if tap is not None:
            tap.replace(leaf if points is None else _put(points, len(part)))
        run = session.run(part, goal.names)
        for name, value in run.items():
            check_rows(name, tuple(value.shape), len(part), goal.alone)
        given = run if goal.alone else {name: value[:count] for name, value in run.items()}
        found = goal.score(given, start)
        x = session.input if tap is None else tap.value
        if x is None or not found.requires_grad:
            raise TargetError(f"{goal.text} has no gradient; choose a value before the step that cuts it")
        signal, lost = session.gradient(found, x)
    if signal is None:
        raise TargetError(f"{goal.text} does not depend on {'the input' if tap is None else place}")
    arrays = (halves.wide(each.detach()).cpu().numpy()[:count] for each in (x, signal, found))
    return Part(*map(np.ascontiguousarray, arrays)), lost  # convolutions lie channels last


def _put(points: NDArray[Any], rows: int) -> Callable[[Tensor], Tensor]:
    """What replaces a value by ``points``, the last one repeated to ``rows``, as such a start."""

    def put(value: Tensor) -> Tensor:
        return torch.from_numpy(repeated(points, rows)).to(value).requires_grad_()

    return put
