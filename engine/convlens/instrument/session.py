"""A context that owns taps and a rule on the PyTorch graph, and leaves no trace when it closes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from convlens.errors import LayerError, UnsupportedError, nearest
from convlens.instrument import halves
from convlens.instrument.build import ACTIVE, TorchGraph
from convlens.instrument.rules import rule as find_rule
from convlens.precision import FULL

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Tap:
    """One value under observation: what it was in the last run, and its gradient after a backward.

    ``value`` is None before a run, and after one that did not need it.
    """

    name: str
    value: Tensor | None = None
    edit: Callable[[Tensor], Tensor] | None = None

    @property
    def gradient(self) -> Tensor | None:
        """Gradient of the last backward with respect to this value, None before one."""
        return None if self.value is None else self.value.grad

    def replace(self, new: Tensor | Callable[[Tensor], Tensor]) -> Tap:
        """Put ``new`` (a tensor, or a function of the value) in the value's place in later runs."""
        self.edit = new if callable(new) else lambda _value: new
        return self


class Session:
    """Taps and a rule on a :class:`TorchGraph`, for as long as the ``with`` block lasts.

    The graph itself is never changed: the session stands beside it, so nothing has to be undone, also
    when an exception ends it. Sessions nest; the innermost one on a graph applies.

    Args:
        graph: the graph to watch.
        rule: ``plain``, ``deconvnet`` or ``guided``.
        names: turns an alias into an ONNX value name; names are taken as they are without it.
        source: the input that a bare array is for; the graph's first without it.
        precision: ``float32``, or ``float16`` or ``bfloat16`` by autocast. Values are then of any of these
            types, and the model's outputs float32. :meth:`gradient` keeps what float16 would lose.

    Example::

        with model.session(rule="guided") as session:
            tap = session.tap("conv5_3")
            logits = session(x)
            logits[:, 281].sum().backward()
            tap.value, tap.gradient, session.input.grad
    """

    def __init__(
        self,
        graph: TorchGraph,
        rule: str = "plain",
        names: Callable[[str], str] | None = None,
        source: str | None = None,
        precision: str = FULL,
    ) -> None:
        """Prepare; nothing applies before the block is entered."""
        self.precision = precision
        self.source = source if source is not None else graph.graph.inputs[0].name
        self.graph = graph
        self.rule = find_rule(rule)
        self.taps: dict[str, Tap] = {}
        self.input: Tensor | None = None
        self._names = names or (lambda name: name)
        self._tokens: list[Token[tuple[Session, ...]]] = []

    def __enter__(self) -> Session:
        self._tokens.append(ACTIVE.set((*ACTIVE.get(), self)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tokens:
            ACTIVE.reset(self._tokens.pop())

    def tap(self, name: str) -> Tap:
        """Watch the value of that name or alias from the next run on.

        Raises:
            LayerError: the graph computes no such value.
        """
        value = self._names(name)
        inputs = {known.name for known in self.graph.graph.inputs}
        if value not in self.graph.graph.producers and value not in inputs:
            known = [*self.graph.graph.producers, *inputs]
            raise LayerError(f"the graph computes no value {name!r}{nearest(name, known)}")
        return self.taps.setdefault(value, Tap(value))

    def collect(self, feeds: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
        """Run what ``names`` need under this session's rule and taps; returns them by name."""
        wanted = set(names)
        needed = self.graph.graph.ancestors(names) if self.taps else frozenset()
        edits = {tap.name: tap.edit for tap in self.taps.values() if tap.edit is not None}
        found = {}
        for tap in self.taps.values():
            tap.value = None
        if self.precision != FULL:
            edits = halves.widened(self.graph.graph, wanted, edits)
        stream = self.graph.stream(feeds, [*names, *(self.taps.keys() & needed)], self.rule, edits)
        try:
            with halves.autocast(self.precision, next(iter(feeds.values())).device.type):
                for name, value in stream:
                    if name in self.taps:
                        if value.requires_grad and not value.is_leaf:
                            value.retain_grad()
                        self.taps[name].value = value
                    if name in wanted:
                        found[name] = value
        except UnsupportedError as error:
            if self.precision == FULL:
                raise
            raise UnsupportedError(f"in {self.precision}: {error}; try precision {FULL}") from error
        return found

    def gradient(
        self, scores: Tensor, x: Tensor, keep: bool = False, places: Sequence[int] | None = None
    ) -> tuple[Tensor | None, NDArray[np.bool_]]:
        """The gradient of the sum of ``scores`` at ``x``, and which scores' gradient left float16's range.

        Args:
            scores: one for each of some rows of ``x``, of which each reads its own row alone.
            x: a value of this session's run, images first.
            keep: whether the graph is used once more.
            places: the rows that the scores are of; the first ones without it.

        Returns:
            The gradient in float32 (float64 where ``x`` is), None where no score depends on ``x``; and a
            truth value for each score, never true outside float16.
        """
        if self.precision == "float16":
            return halves.scaled(scores.float(), x, range(len(scores)) if places is None else places)
        gradients: tuple[Any, ...] = torch.autograd.grad(
            scores.sum(), x, allow_unused=True, retain_graph=keep
        )
        found = None if gradients[0] is None else halves.wide(gradients[0])
        return found, np.zeros(tuple(scores.shape), bool)

    def run(self, x: Any, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Values ``names`` (default: the outputs) for one batch ``x``, ready for a backward.

        Args:
            x: array or tensor in the layout of the model's source, or a mapping of all inputs.
            names: value names or aliases; only the part of the graph that they need is run.
        """
        given = x if isinstance(x, Mapping) else {self.source: x}
        feeds = {}
        for name, array in given.items():
            tensor = self.graph.working(array, name)
            if tensor.dtype.is_floating_point:
                tensor = tensor.detach().requires_grad_()
            feeds[name] = tensor
        self.input = feeds[self.source]
        wanted = list(self.graph.graph.outputs) if names is None else [self._names(n) for n in names]
        with torch.enable_grad():
            return self.collect(feeds, wanted)

    def __call__(self, x: Any) -> Tensor | tuple[Tensor, ...]:
        """The model's outputs for ``x``, ready for a backward."""
        return self.graph.packed(self.run(x))
