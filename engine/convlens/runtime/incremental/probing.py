"""An image of which places are changed: in windows up to a cut, dense behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.incremental.crops import Clean, Windows
from convlens.runtime.incremental.parts import SOURCE, Part, Parts, split
from convlens.runtime.incremental.pieces import CUT, WEIGHED, Pieces
from convlens.runtime.incremental.spans import Span, spans

if TYPE_CHECKING:
    from convlens.graph.graph import Node
    from convlens.runtime.runner import Runner


class Probing:
    """An image, what may be changed in it, and the values that are asked for.

    Attributes:
        parts: what can be computed in windows.
        values: every value of the clean image that hangs on the input.
    """

    def __init__(
        self,
        runner: Runner,
        source: str,
        axes: Sequence[int],
        image: NDArray[Any],
        starts: NDArray[np.int64],
        sides: Sequence[int],
        content: Callable[[NDArray[np.int64]], NDArray[Any]],
        names: Sequence[str],
        together: int = 25,
    ) -> None:
        """Look at what the clean image does.

        Args:
            runner: of the graph.
            source: the input that is changed.
            axes: its spatial axes, counted with the batch axis.
            image: one input with its batch axis of one.
            starts: first changed position, probes x axes.
            sides: how many positions change along each axis.
            content: what stands at the changed places of some probes, probes x channels x sides.
            names: values that are asked for.
            together: how many probes share a forward of a part.
        """
        self.together = together
        self.runner, self.graph, self.source, self.names = runner, runner.graph, source, list(names)
        self.starts, self.content = starts, content
        needed = self.graph.ancestors(names)
        self.nodes = [node for node in self.graph.nodes if not needed.isdisjoint(node.outputs)]
        known = [name for node in self.nodes for name in node.outputs if name in needed]
        self._pieces = Pieces(self.graph, runner._shared, runner.device)
        session = self._pieces.session(self.nodes, {source: image}, known, runner.own_threads)
        values = dict(zip(known, session.run(known, {source: image}), strict=True))
        del session
        values[source] = image
        self.values = values
        self.extents: dict[str, tuple[int, ...]] = {name: value.shape for name, value in values.items()}
        self._bytes = {name: value.nbytes for name, value in values.items()}
        self.parts: Parts = split(self.graph, self.nodes, source, axes, self.extents)
        self.spans = spans(self.parts, self.extents, starts, sides)
        self._sessions: dict[Any, Any] = {}
        self._tails: dict[Any, Any] = {}
        self._cleans: dict[tuple[str, int], Clean] = {}
        self._lock = Lock()
        self._made = {
            name: i for i, part in enumerate(self.parts.parts) for n in part.nodes for name in n.outputs
        }
        self._out = [self._leaving(number) for number in range(len(self.parts.parts))]

    def extent(self, number: int) -> tuple[int, ...]:
        """Size of the picture in a part."""
        name = self.source if number == SOURCE else self.parts.parts[number].nodes[0].outputs[0]
        return tuple(self.extents[name][axis] for axis in self.parts.axes[name])

    def _leaving(self, number: int) -> list[str]:
        """What of a part is read elsewhere, or asked for."""
        own = [name for node in self.parts.parts[number].nodes for name in node.outputs if name]
        inside = {id(node) for node in self.parts.parts[number].nodes}
        return [
            name
            for name in own
            if name in self.names or any(id(node) not in inside for node in self.nodes if name in node.reads)
        ]

    def windows(self, rows: NDArray[np.int64], until: int) -> dict[str, Windows]:
        """The windows of some probes in every value that leaves the parts before ``until``."""
        start = self.spans[SOURCE].start[rows]
        found = {self.source: Windows(start, self.content(rows))}
        for number in range(until):
            found |= self._part(number, self.spans[number].of(rows), found)
        return found

    def _part(self, number: int, span: Span, over: dict[str, Windows]) -> dict[str, Windows]:
        part = self.parts.parts[number]
        start, size = span.even(self.extent(number))
        feeds: dict[str, NDArray[Any]] = {}
        if part.slide is not None:
            clean = self._clean(part.main, number)
            stride, spread = part.slide.stride, part.slide.span
            length = [
                (count - 1) * step + width for count, step, width in zip(size, stride, spread, strict=True)
            ]
            feeds[CUT + part.main] = clean.cut(start * np.asarray(stride), length, over[part.main])
            if part.slide.crop.uneven:
                output = part.nodes[0].outputs[0]
                feeds[WEIGHED + output] = self._weights(part, number).cut(start, size, None)
        for name in part.beside:
            value = self._clean(name, SOURCE).cut(start, size, over[name])
            feeds[name] = value
        names = self._out[number]
        session = self._session(number, part, feeds, names)
        arrays = session.run(names, feeds)
        return {name: Windows(start, array) for name, array in zip(names, arrays, strict=True)}

    def _session(self, number: int, part: Part, feeds: dict[str, NDArray[Any]], names: list[str]) -> Any:
        with self._lock:
            if number not in self._sessions:
                crop = part.slide.crop if part.slide is not None else None
                self._sessions[number] = self._pieces.session(part.nodes, feeds, names, 1, crop)
            return self._sessions[number]

    def _clean(self, name: str, reader: int) -> Clean:
        """A clean value, with the padding that part ``reader`` reads."""
        key = (name, reader)
        if key not in self._cleans:
            slide = self.parts.parts[reader].slide if reader != SOURCE else None
            outputs = self.extent(reader) if reader != SOURCE else ()
            self._cleans[key] = Clean.around(self.values[name], self.parts.axes[name], slide, outputs)
        return self._cleans[key]

    def _weights(self, part: Part, number: int) -> Clean:
        """By what an even mean over windows with padding is multiplied, place by place."""
        key = (part.nodes[0].outputs[0], -2)
        if key not in self._cleans:
            assert part.slide is not None
            axes = self.parts.axes[part.main]
            shape = [1] * self.values[part.main].ndim
            for axis in axes:
                shape[axis] = self.values[part.main].shape[axis]
            ones = np.ones(shape, self.values[part.main].dtype)
            node = part.nodes[0]
            plain = self._pieces.session([node], {part.main: ones}, list(node.outputs), 1)
            real = plain.run(None, {part.main: ones})[0]
            padded = Clean.around(ones, axes, part.slide, self.extent(number)).array[None]
            output = node.outputs[0]
            feeds = {CUT + part.main: padded, WEIGHED + output: np.ones_like(real)}
            even = self._pieces.session([node], feeds, [output], 1, part.slide.crop)
            self._cleans[key] = Clean.around(real / even.run([output], feeds)[0], self.parts.axes[output])
        return self._cleans[key]

    def crossing(self, until: int) -> list[str]:
        """Values of the parts before ``until`` that the rest reads, or that are asked for."""
        dense = self.dense(until)
        read = {name for node in dense for name in node.reads}
        own = [self.source, *(name for i in range(until) for name in self._out[i])]
        return [name for name in own if name in read or name in self.names]

    def dense(self, until: int) -> list[Node]:
        """The nodes behind the cut that are needed for what is asked for."""
        before = {name for name, number in self._made.items() if number < until} | {self.source}
        wanted: set[str] = set()
        stack = [name for name in self.names if name not in before]
        while stack:
            name = stack.pop()
            if name in wanted or name in before or name not in self.graph.producers:
                continue
            if name not in self.parts.reached:
                continue
            wanted.add(name)
            stack.extend(read for read in self.graph.producers[name].reads if read)
        return [node for node in self.nodes if not wanted.isdisjoint(node.outputs)]

    def tail(
        self, until: int, threads: int | None, most: int = 1 << 30
    ) -> Callable[[dict[str, Windows]], dict[str, NDArray[Any]]]:
        """What is asked for, from windows of the values that cross the cut; ``most`` probes at once."""
        nodes, crossing = self.dense(until), self.crossing(until)
        computed = [name for name in self.names if any(name in node.outputs for node in nodes)]
        read = {name for node in nodes for name in node.reads if name}
        made = {name for node in nodes for name in node.outputs}
        still = {
            name: self.values[name]
            for name in read - made - set(crossing)
            if name in self.values and name not in self.graph.constants
        }
        feeds = {name: self.values[name] for name in crossing if name in read}
        key = ("tail", until, threads)
        if nodes and key not in self._tails:
            self._tails[key] = self._pieces.session(nodes, {**feeds, **still}, computed, threads)
        session = self._tails.get(key)

        def some(over: dict[str, Windows]) -> dict[str, NDArray[Any]]:
            whole = {name: self._clean(name, SOURCE).whole(over[name]) for name in crossing}
            found = {name: whole[name] for name in self.names if name in whole}
            if session is not None:
                given = {**{name: whole[name] for name in feeds}, **still}
                found.update(zip(computed, session.run(computed, given), strict=True))
            return found

        def run(over: dict[str, Windows]) -> dict[str, NDArray[Any]]:
            count = len(over[self.source].start)
            if count <= most:
                return some(over)
            crossed = {name: over[name] for name in [*crossing, self.source]}
            chunks = [
                some({name: windows.rows(first, first + most) for name, windows in crossed.items()})
                for first in range(0, count, most)
            ]
            return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in self.names}

        return run

    def most(self, until: int, batch_size: int) -> int:
        """How many probes the dense rest takes at once in the memory of ``batch_size`` whole images."""
        every, rest = self._peak(self.nodes), self._peak(self.dense(until))
        return max(1, min(self.together, batch_size * every // max(1, rest)))

    def _peak(self, nodes: Sequence[Node]) -> int:
        """Bytes that the values of one node take at most."""
        return max(
            (sum(self._bytes.get(name, 0) for name in {*node.reads, *node.outputs}) for node in nodes),
            default=1,
        )

    def forget(self) -> None:
        """Let go of the dense rest of every cut; sessions hold weights in an order of their own."""
        self._tails.clear()

    def keep(self, until: int) -> None:
        """Let go of what only other cuts need."""
        parts = self.parts.parts[:until]
        needed = {name for part in parts for name in (part.main, *part.beside)} | set(self.crossing(until))
        needed |= {name for node in self.dense(until) for name in node.reads}
        self.values = {name: value for name, value in self.values.items() if name in needed}
        with self._lock:
            self._sessions = {number: held for number, held in self._sessions.items() if number < until}
