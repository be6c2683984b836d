"""The relevance of a target at the input, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import TargetError
from convlens.explained import explained_at
from convlens.instrument.failing import named
from convlens.instrument.relevance.linear import CONVOLUTIONS, Linear, affine, linear
from convlens.instrument.relevance.nodes import Call
from convlens.instrument.relevance.rules import RULES, Box, Composite, Rule, Settings
from convlens.instrument.relevance.start import begin, own, totals, used
from convlens.instrument.relevance.way import Stop, find_way, key
from convlens.rows import repeated
from convlens.targets import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.instrument.build import Step, TorchGraph
    from convlens.model import Model
    from convlens.targets import Target


@dataclass(frozen=True)
class Relevance:
    """What arrived at the input.

    Attributes:
        array: in the shape of the input (of the embedding for tokens: N x T x D).
        scores: the target's score, N.
        started: the relevance at the target, N. It is the score, for every target that doubles where
            the values do that it is read from.
    """

    array: NDArray[Any]
    scores: NDArray[Any]
    started: NDArray[Any]


def relevance(
    model: Model,
    array: NDArray[Any],
    target: Target,
    composite: Composite,
    numbers: Settings,
    batch_size: int,
    box: tuple[NDArray[Any], NDArray[Any]] | None = None,
    advance: Callable[[float], None] = lambda _share: None,
) -> Relevance:
    """Relevance of ``target``, from its score down to the input.

    Models in half precision are computed in float64, as relevance is divided by what may be small.

    Args:
        model: the model.
        array: inputs as the model takes them, images first; float64 computes in float64.
        target: what is explained.
        composite: which layer gets which rule.
        numbers: what the rules take.
        batch_size: images in one forward and backward.
        box: the least and the largest number at each place of ``array``, in shapes that broadcast
            against it; None takes each image's own over all places of what is explained.
        advance: called with the share that is done.

    Raises:
        TargetError: the target has no gradient, or starts behind a softmax.
        UnsupportedError: a node between input and target has no rule.
    """
    moved = [*model.graph.producers, model.source.name]
    half = any(model.graph.value(name).dtype in ("float16", "bfloat16") for name in moved)
    graph = model.instrument("float64" if half or array.dtype == np.float64 else "float32")
    source, place = model.source.name, explained_at(model.graph, model.source).value
    names = target.needs(model.graph.outputs)
    fixed = model.runner.fixed_batch
    step = model.runner.step(min(batch_size, len(array)))
    passage: Passage | None = None
    found, scores, started = [], [], []
    for start in range(0, len(array), step):
        part = array[start : start + step]
        count = len(part)
        part = repeated(part, fixed or 0)
        if passage is None:
            wanted = used(graph, {source: part}, target.rows(start, start + count), names, count)
            way = find_way(graph, place, wanted, composite)
            passage = Passage(graph, source, place, wanted, way, numbers)
        limits = None
        if box is not None:
            rows = [np.broadcast_to(each, array.shape)[start : start + count] for each in box]
            limits = tuple(repeated(each, fixed or 0) for each in rows)
        values, at = passage.run(part, limits)
        for name, value in values.items():
            check_rows(name, tuple(value.shape), len(part), target.alone)
        values = own(target, values, count)
        score, top = begin(target.rows(start, start + count), values)
        ends = [(values[name], r) for name, r in top.items() if values[name].requires_grad]
        (signal,) = torch.autograd.grad([v for v, _ in ends], at, [r for _, r in ends], allow_unused=True)
        if signal is None:
            raise TargetError(f"{target.text} does not depend on the input")
        found.append(signal.detach().cpu().numpy()[:count])
        scores.append(score.cpu().numpy())
        started.append(totals(top, count).cpu().numpy())
        advance(min(1.0, (start + step) / len(array)))
    result = Relevance(*(np.concatenate(each) for each in (found, scores, started)))
    if half and array.dtype != np.float64:
        return Relevance(*(each.astype(np.float32) for each in vars(result).values()))
    return result


@dataclass
class Passage:
    """The graph with rules in the place of derivatives along one way. The graph itself stays as it is."""

    graph: TorchGraph
    source: str
    place: str
    names: Sequence[str]
    way: Mapping[str, Stop]
    numbers: Settings
    layers: dict[str, Linear] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)

    def run(
        self, part: NDArray[Any], limits: tuple[NDArray[Any], ...] | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The values at which relevance starts, and the one at which it arrives, to call autograd on."""
        graph, names = self.graph, self.names
        held: dict[str, Any] = {self.source: graph.working(part, self.source)}
        self.boxes = self._boxes(part, limits)
        if self.place == self.source:
            held[self.source] = held[self.source].detach().requires_grad_()
        at = held[self.source]
        plan = graph.plan(names)
        for step, expired in zip(plan.steps, plan.expire, strict=True):
            with named(step.node):
                results = self._compute(step, held)
            for name, value in zip(step.node.outputs, results, strict=False):
                if name == self.place:
                    at = value.detach().requires_grad_()
                    held[name] = at
                elif name:
                    held[name] = value
            for name in expired:
                held.pop(name, None)
        return {name: held[name] for name in names}, at

    def _compute(self, step: Step, held: Mapping[str, Any]) -> Sequence[Any]:
        """The node's outputs, the first of which is connected to what gets its relevance."""
        arguments = [self.graph._read(name, held) for name in step.inputs]
        stop = self.way.get(key(step.node))
        if stop is not None and stop.share is None and stop.linear is None:
            with torch.enable_grad():
                result = step.call(*arguments)
            return result if isinstance(result, tuple) else (result,)
        apart = [value.detach() if isinstance(value, Tensor) else value for value in arguments]
        with torch.no_grad():
            result = step.call(*apart)
        results = result if isinstance(result, tuple) else (result,)
        if stop is None:
            return results
        value = results[0].detach()
        if stop.source:
            source = held[stop.source]
            call, given = Call(step.node, step.call, [source.detach()], value, (0,)), [source]
        else:
            call = Call(step.node, step.call, apart, value, stop.receives)
            given = [arguments[at] for at in stop.receives]
        share = self._by_rule(step, stop, call) if stop.share is None else partial(stop.share, call)
        return _joined(value, given, share), *results[1:]

    def _by_rule(self, step: Step, stop: Stop, call: Call) -> Callable[[Tensor], Sequence[Tensor]]:
        layer, rule = self._layer(step, stop, call.arguments), self._rule(step, stop, call.value)
        box = self.boxes.get(step.inputs[stop.receives[0]])
        return lambda relevance: [rule(layer, call.given[0], relevance, self.numbers, box)]

    def _rule(self, step: Step, stop: Stop, value: Tensor) -> Rule:
        assert stop.linear is not None
        many, single = stop.linear
        alone = step.node.op in CONVOLUTIONS and all(size == 1 for size in value.shape[2:])
        return RULES[single if alone else many]

    def _layer(self, step: Step, stop: Stop, arguments: Sequence[Tensor | None]) -> Linear:
        """The node as a linear layer; one that something was merged into is made once."""
        key = step.node.outputs[0]
        if key in self.layers:
            return self.layers[key]
        layer = linear(step, arguments, stop.receives[0])
        if not stop.chain:
            return layer
        chain, last = [], key
        for node in stop.chain:
            part = self.graph._step_of[node.outputs[0]]
            constants = {name: self.graph._read(name, {}) for name in part.inputs if name != last}
            chain.append(affine(part, last, constants))
            last = node.outputs[0]
        self.layers[key] = layer.merged(chain)
        return self.layers[key]

    def _boxes(self, part: NDArray[Any], limits: tuple[NDArray[Any], ...] | None) -> dict[str, Box]:
        """What could stand at the input of each first layer: what the limits of the input become there."""
        wanted = {
            self.graph._step_of[name].inputs[stop.receives[0]]
            for name, stop in self.way.items()
            if stop.first and stop.linear is not None and "box" in stop.linear
        }
        if not wanted:
            return {}
        feeds = {self.source: self.graph.working(part, self.source)}
        with torch.no_grad():
            if limits is None:
                own = self.graph.values(feeds, [self.place])[self.place]
                axes = tuple(range(1, own.dim()))
                ends = [own.amin(axes, keepdim=True), own.amax(axes, keepdim=True)]
                ends = [end.expand_as(own) for end in ends]
            else:
                ends = [self.graph.working(each, self.place) for each in limits]
            low, high = (self.graph.values(feeds, wanted, edits={self.place: _constant(end)}) for end in ends)
        return {
            name: Box(torch.minimum(low[name], high[name]), torch.maximum(low[name], high[name]))
            for name in wanted
        }


def _constant(value: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _computed: value


class _Join(torch.autograd.Function):
    """Forward: a value that is known. Backward: what each input gets of its relevance."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, share: Any, *_given: Tensor) -> Tensor:
        ctx.share = share
        return value.view_as(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.share(relevance[0])


def _joined(value: Tensor, given: Sequence[Tensor | None], share: Any) -> Tensor:
    with torch.enable_grad():
        found: Tensor = _Join.apply(value, share, *given)  # type: ignore[no-untyped-call]
    return found
