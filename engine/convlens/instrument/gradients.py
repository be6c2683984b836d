"""Gradients of a target with respect to the input, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.explained import explained_at
from convlens.instrument.session import Session
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

    Returns:
        The signal in the shape of ``array`` (of the embedding for tokens: N x T x D), and the scores, N.

    Raises:
        TargetError: the target has no gradient.
        UnsupportedError: integers go in and never become real numbers.
    """
    names = target.needs(model.graph.outputs)

    def score(values: Mapping[str, Tensor], start: int) -> Tensor:
        count = len(next(iter(values.values())))
        found: Tensor = target.rows(start, start + count).score(values)
        return found

    return _backward(model, array, names, score, target.text, rule, batch_size, advance)


def unit_gradients(
    model: Model,
    array: NDArray[Any],
    layer: Layer,
    units: NDArray[Any],
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> NDArray[Any]:
    """The signal at the input for one unit of ``layer`` per row of ``array``.

    Args:
        model: the model.
        array: inputs, one for each unit; repeat an image to look at several of its units.
        layer: where the units lie.
        units: index of each unit along every axis of the layer after the batch, rows x (rank - 1).
        rule: ``plain``, ``deconvnet`` or ``guided``.
        batch_size: rows in one forward and backward.
        advance: called with the share that is done.
    """

    def score(values: Mapping[str, Tensor], start: int) -> Tensor:
        value = values[layer.name]
        own = torch.from_numpy(units[start : start + len(value)]).to(value.device)
        return value[(torch.arange(len(value), device=value.device), *own.unbind(dim=1))]

    text = f"units of {layer.alias}"
    return _backward(model, array, (layer.name,), score, text, rule, batch_size, advance)[0]


def _backward(
    model: Model,
    array: NDArray[Any],
    names: Sequence[str],
    score: Score,
    text: str,
    rule: str,
    batch_size: int,
    advance: Callable[[float], None],
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Forward to ``names``, backward from each row's own score, in batches."""
    graph = model.instrument("float64" if array.dtype == np.float64 else "float32")
    source = model.source.name
    place = explained_at(model.graph, model.source)
    fixed = model.runner.fixed_batch
    step = model.runner.step(min(batch_size, len(array)))
    signals, scores = [], []
    for start in range(0, len(array), step):
        part = array[start : start + step]
        count = len(part)
        if fixed and count < fixed:  # the file takes no fewer; the copies' results are dropped
            part = np.concatenate([part, np.repeat(part[-1:], fixed - count, axis=0)])
        with Session(graph, rule, source=source) as session:
            tap = None if place.value == source else session.tap(place.value).replace(_leaf)
            run = session.run(part, names)
            for name, value in run.items():
                check_rows(name, tuple(value.shape), len(part))
            values = {name: value[:count] for name, value in run.items()}
            found = score(values, start)
            x = session.input if tap is None else tap.value
            if x is None or not found.requires_grad:
                raise TargetError(f"{text} has no gradient; choose a value before the step that cuts it")
            (signal,) = torch.autograd.grad(found.sum(), x, allow_unused=True)
        if signal is None:
            raise TargetError(f"{text} does not depend on the input")
        signals.append(signal.detach().cpu().numpy()[:count])
        scores.append(found.detach().cpu().numpy())
        advance(min(1.0, (start + step) / len(array)))
    return np.concatenate(signals), np.concatenate(scores)


def _leaf(value: Tensor) -> Tensor:
    """The value as a new start of the graph, to which gradients run and at which they stop."""
    return value.detach().requires_grad_()
