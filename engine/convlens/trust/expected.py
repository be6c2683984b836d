"""onnxruntime's values for one input, in parts that memory can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from convlens.errors import UnsupportedError
from convlens.graph.shapes import infer
from convlens.rows import repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Dim, Graph, Shape
    from convlens.runtime.runner import Runner

PART = 384 << 20
"""Bytes of values that one run of onnxruntime returns."""

_UNKNOWN = 4


class Expected:
    """What onnxruntime computes for one input; values are asked for in the order of computation.

    Args:
        runner: onnxruntime on the model.
        feeds: the inputs, the batch along the first axis.
        exact: run every node as it is written, without fusions.
        once: run all of ``feeds`` in one forward, whatever their axes count.

    Attributes:
        refused: values that onnxruntime computes and does not hand out, with the reason.
        untold: values whose size the graph does not tell; each counts as much as the largest that it does.
    """

    def __init__(
        self, runner: Runner, feeds: Mapping[str, NDArray[Any]], exact: bool, once: bool = False
    ) -> None:
        """Measure; nothing is run before values are asked for."""
        self.runner, self.feeds, self.exact, self.once = runner.whole(), feeds, exact, once
        self.refused: dict[str, str] = {}
        told = _sizes(runner.graph, {name: tuple(array.shape) for name, array in feeds.items()})
        largest = max((size for size in told.values() if size is not None), default=0)
        self.untold = [name for name, size in told.items() if size is None]
        self._sizes = {name: largest if size is None else size for name, size in told.items()}

    def measured(self, sizes: Mapping[str, int]) -> None:
        """Take ``sizes``, in bytes, for values of which the graph does not tell them."""
        self._sizes |= {name: sizes[name] for name in self.untold if name in sizes}

    def runs(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Those of the values ``names`` that onnxruntime hands out; :attr:`refused` says why not the others.

        Raises:
            UnsupportedError: onnxruntime cannot run the model on these inputs.
        """
        asked = [name for name in names if name not in self.refused]
        try:
            return self._run(asked)
        except UnsupportedError:
            left, refused = self.runner.readable(self.feeds, asked)
            if not refused:
                raise
            self.refused |= refused
            return self._run(left)

    def _run(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if self.once:
            return self.runner.once(self.feeds, names, self.exact)
        count = len(next(iter(self.feeds.values())))
        return self.runner.run(self.feeds, names, max(count, 1), self.exact)

    def parts(self, names: Sequence[str]) -> list[list[str]]:
        """``names`` in order, cut so that no part exceeds :data:`PART`."""
        parts: list[list[str]] = [[]]
        held = 0
        for name in names:
            size = self._sizes.get(name, 0)
            if parts[-1] and held + size > PART:
                parts.append([])
                held = 0
            parts[-1].append(name)
            held += size
        return parts

    def with_inputs(self, names: Sequence[str]) -> Iterator[tuple[list[str], dict[str, NDArray[Any]]]]:
        """Parts of ``names``, each with the values that it and its operators read."""
        graph = self.runner.graph
        doubted: list[str] = []
        reads: dict[str, None] = {}
        for name in names:
            more = {n: None for n in (name, *graph.producers[name].reads) if n in graph.producers}
            if doubted and sum(self._sizes.get(n, 0) for n in {**reads, **more}) > PART:
                yield doubted, self.runs(list(reads))
                doubted, reads = [], {}
            doubted.append(name)
            reads |= more
        if doubted:
            yield doubted, self.runs(list(reads))


def _sizes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | None]:
    """Bytes of every value for inputs of these shapes, None where they cannot be told."""
    known = {value.name: value.shape for value in graph.inputs}
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        for dim, number in zip(known.get(name) or (), shape, strict=False):
            if isinstance(dim, str):
                symbols[dim] = number
    found = {name: _bytes(graph.value(name).shape, symbols) for name in graph.producers}
    if any(size is None for size in found.values()):
        given: dict[str, tuple[Dim, ...]] = {name: tuple(shape) for name, shape in shapes.items()}
        again = infer(graph.ir, given)
        found = {
            name: size if size is not None or name not in again else _bytes(again[name].shape, symbols)
            for name, size in found.items()
        }
    return found


def _bytes(shape: Shape, symbols: Mapping[str, int]) -> int | None:
    if shape is None:
        return None
    dims = [symbols.get(dim) if isinstance(dim, str) else dim for dim in shape]
    return (
        None if any(dim is None for dim in dims) else _UNKNOWN * prod(dim for dim in dims if dim is not None)
    )


def filled(feeds: Mapping[str, NDArray[Any]], least: int) -> dict[str, NDArray[Any]]:
    """The inputs with at least ``least`` rows, the last one repeated: a file may take no fewer."""
    count = len(next(iter(feeds.values())))
    missing = max(least - count, 0)
    return {n: repeated(a, len(a) + missing) for n, a in feeds.items()}
