"""An image of which places are changed: in windows up to a cut, dense behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.incremental.crops import Windows
from convlens.runtime.incremental.cutting import CUT, WEIGHED
from convlens.runtime.incremental.laid import Laid
from convlens.runtime.incremental.parts import SOURCE, Part, Parts, split
from convlens.runtime.incremental.pieces import Pieces
from convlens.runtime.incremental.spans import Span, spans

if TYPE_CHECKING:
    from convlens.graph.graph import Node
    from convlens.runtime.runner import Runner


class Probing:
    """An image, what may be changed in it, and the values that are asked for.

    Attributes:
        parts: what can be computed in windows.
        laid: values of the clean image that hang on the input; of what :meth:`keep` leaves.
        until: how many parts run in windows, once it is settled.
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
        together: int = 9,
        values: Mapping[str, NDArray[Any]] | None = None,
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
            values: of the clean image, every one that is needed; without them it goes forward once.
        """
        self.together, self.until = together, 0
        self.runner, self.graph, self.source, self.names = runner, runner.graph, source, list(names)
        self.starts, self.content = starts, content
        needed = self.graph.ancestors(names)
        self.nodes = [node for node in self.graph.nodes if not needed.isdisjoint(node.outputs)]
        known = [name for node in self.nodes for name in node.outputs if name in needed]
        self._pieces = Pieces(self.graph, runner._shared, runner.device)
        values = self._clean_pass(image, known) if values is None else values
        self._bytes = {name: value.nbytes for name, value in values.items()}
        self.parts: Parts = split(self.graph, self.nodes, source, axes, values)
        self.laid, self._kept = Laid(self.parts, self._pieces, values), list(values)
        self.extents = self.laid.extents
        self.spans = spans(self.parts, self.extents, starts, sides)
        self._sessions: dict[Any, Any] = {}
        self._tails: dict[Any, Any] = {}
        self._crossings: dict[int, list[str]] = {}
        self._lock = Lock()
        self._made = {
            name: i for i, part in enumerate(self.parts.parts) for n in part.nodes for name in n.outputs
        }
        self._out = [self.leaving(number) for number in range(len(self.parts.parts))]

    def _clean_pass(self, image: NDArray[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Values of the unchanged image."""
        feeds = {self.source: image}
        known = [name for name in names if name != self.source]
        session = self._pieces.session(self.nodes, feeds, known, self.runner.own_threads, once=True)
        return {**dict(zip(known, session.run(known, feeds), strict=True)), **feeds}

    def of(self, image: NDArray[Any], content: Callable[[NDArray[np.int64]], NDArray[Any]]) -> Probing:
        """The same places and parts for another image of the same size; sessions are shared."""
        found = copy(self)
        found.content, found.laid = content, self.laid.of(self._clean_pass(image, self._kept))
        found.laid.lay(self.until, self._behind(self.until))
        return found

    def extent(self, number: int) -> tuple[int, ...]:
        """Size of the picture in a part."""
        return self.laid.extent(number, self.source)

    def leaving(self, number: int) -> list[str]:
        """What of a part is read elsewhere, or asked for."""
        own = [name for node in self.parts.parts[number].nodes for name in node.outputs if name]
        inside = {id(node) for node in self.parts.parts[number].nodes}
        return [
            name
            for name in own
            if name in self.names or any(id(node) not in inside for node in self.nodes if name in node.reads)
        ]

    def windows(self, rows: NDArray[np.int64], until: int) -> dict[str, Windows]:
        """The windows of some probes in every value that is read behind the parts before ``until``."""
        start = self.spans[SOURCE].start[rows]
        found = {self.source: Windows(start, self.content(rows))}
        kept, last = {self.source, *self.crossing(until)}, self._last
        for number in range(until):
            found |= self._part(number, self.spans[number].of(rows), found)
            for name in [name for name in found if last.get(name, 0) <= number and name not in kept]:
                del found[name]
        return found

    @cached_property
    def _last(self) -> dict[str, int]:
        """The last part that reads each value."""
        return {
            name: number for number, part in enumerate(self.parts.parts) for name in (part.main, *part.beside)
        }

    def _part(self, number: int, span: Span, over: dict[str, Windows]) -> dict[str, Windows]:
        part = self.parts.parts[number]
        start, size = span.even(self.extent(number))
        feeds: dict[str, NDArray[Any]] = {}
        if part.slide is not None:
            clean = self.laid.clean(part.main, number)
            length = part.slide.length(size)
            feeds[CUT + part.main] = clean.cut(part.slide.begin(start), length, over[part.main])
            if part.slide.crop.uneven:
                output = part.nodes[0].outputs[0]
                feeds[WEIGHED + output] = self.laid.weights(number).cut(start, size, None)
        for name in part.beside:
            value = self.laid.clean(name).cut(start, size, over[name])
            feeds[name] = value
        feeds |= {name: self.laid.values[name] for name in part.given}
        for still in part.still:
            feeds[still.feed] = self.laid.still(still, number).cut(start, size, None)
        names = self._out[number]
        session = self._session(number, part, feeds, names)
        arrays = session.run(names, feeds)
        return {name: Windows(start, array) for name, array in zip(names, arrays, strict=True)}

    def _session(self, number: int, part: Part, feeds: dict[str, NDArray[Any]], names: list[str]) -> Any:
        with self._lock:
            if number not in self._sessions:
                crop = part.slide.crop if part.slide is not None else None
                self._sessions[number] = self._pieces.session(part.nodes, feeds, names, 1, crop, part)
            return self._sessions[number]

    def crossing(self, until: int) -> list[str]:
        """Values of the parts before ``until`` that the rest reads, or that are asked for."""
        if until not in self._crossings:  # which is asked for with every group of probes
            read = {name for node in self.dense(until) for name in node.reads}
            own = [self.source, *(name for i in range(until) for name in self._out[i])]
            self._crossings[until] = [name for name in own if name in read or name in self.names]
        return self._crossings[until]

    def _behind(self, until: int) -> set[str]:
        """Values that are read behind the parts before ``until``, and not made there."""
        dense = self.dense(until)
        read = {name for node in dense for name in node.reads}
        return (read - {name for node in dense for name in node.outputs}) | {*self.crossing(until)}

    def dense(self, until: int) -> list[Node]:
        """The nodes behind the cut that are needed for what is asked for."""
        before = {name for name, number in self._made.items() if number < until} | {self.source}
        known = self.parts.reached | self.parts.sized
        wanted: set[str] = set()
        stack = [name for name in self.names if name not in before]
        while stack:
            name = stack.pop()
            if name in wanted or name in before or name not in self.graph.producers:
                continue
            if name not in known or self._counts(name):
                continue
            wanted.add(name)
            stack.extend(read for read in self.graph.producers[name].reads if read)
        return [node for node in self.nodes if not wanted.isdisjoint(node.outputs)]

    def _counts(self, name: str) -> bool:
        """Whether a value tells the size of one that may be in windows; its first axis counts images."""
        node = self.graph.producers[name]
        return node.full_op in ("Shape", "Size") and node.inputs[0] in self.parts.home

    def _counted(self, name: str, images: int) -> NDArray[np.int64]:
        """The same for so many images."""
        node = self.graph.producers[name]
        shape = np.array((images, *self.extents[node.inputs[0]][1:]), np.int64)
        if node.op == "Size":
            return np.asarray(shape.prod())
        return shape[node.attr("start", 0) : node.attr("end")]

    def tail(
        self, until: int, threads: int | None, most: int = 1 << 30
    ) -> Callable[..., dict[str, NDArray[Any]]]:
        """What is asked for, from windows of the values that cross the cut; ``most`` probes at once.

        What is handed out takes what :meth:`windows` gives, that of several groups behind each other.
        """
        nodes, crossing = self.dense(until), self.crossing(until)
        computed = [name for name in self.names if any(name in node.outputs for node in nodes)]
        read = {name for node in nodes for name in node.reads if name}
        still = {
            name: self.laid.values[name]
            for name in self._behind(until) - set(crossing)
            if name in self.laid.values and name not in self.graph.constants
        }
        counts = [name for name in still if name in self.parts.sized and self._counts(name)]
        feeds = {name: self.laid.values[name] for name in crossing if name in read}
        key = ("tail", until, threads)
        if nodes and key not in self._tails:
            self._tails[key] = self._pieces.session(
                nodes, {**feeds, **still}, computed, threads, fixed=counts
            )
        session = self._tails.get(key)

        def some(*over: dict[str, Windows]) -> dict[str, NDArray[Any]]:
            whole = {name: self.laid.clean(name).whole(*(each[name] for each in over)) for name in crossing}
            found = {name: whole[name] for name in self.names if name in whole}
            if session is not None:
                given = {**{name: whole[name] for name in feeds}, **still}
                images = sum(len(each[self.source].start) for each in over)
                given |= {name: self._counted(name, images) for name in counts}
                found.update(zip(computed, session.run(computed, given), strict=True))
            return found

        def run(*over: dict[str, Windows]) -> dict[str, NDArray[Any]]:
            counts = [len(each[self.source].start) for each in over]
            if sum(counts) <= most:
                return some(*over)
            chunks = [
                some({name: each[name].rows(first, first + most) for name in [*crossing, self.source]})
                for each, count in zip(over, counts, strict=True)
                for first in range(0, count, most)
            ]
            return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in self.names}

        return run

    def most(self, until: int, batch_size: int) -> int:
        """How many probes the dense rest takes at once in the memory of ``batch_size`` whole images."""
        every, rest = self._peak(self.nodes), self._peak(self.dense(until))
        return max(1, batch_size * every // max(1, rest))

    def heavy(self, until: int) -> int:
        """Weights of the dense layers behind the cut."""
        dense = [node for node in self.dense(until) if node.op in ("Gemm", "MatMul")]
        held = [
            self.graph.constants[name]
            for node in dense
            for name in node.inputs
            if name in self.graph.constants
        ]
        return sum(array.size for array in held)

    def _peak(self, nodes: Sequence[Node]) -> int:
        """Bytes that the values of one node take at most."""
        return max(
            (sum(self._bytes.get(name, 0) for name in {*node.reads, *node.outputs}) for node in nodes),
            default=1,
        )

    def keep(self, until: int) -> None:
        """Settle on a cut, and let go of what only others need."""
        self.until = until
        parts = self.parts.parts[:until]
        behind = self._behind(until)
        needed = {name for part in parts for name in (part.main, *part.plain)} | behind
        self.laid.values = {name: value for name, value in self.laid.values.items() if name in needed}
        self._kept = list(self.laid.values)
        self.laid.lay(until, behind)
        with self._lock:
            self._sessions = {number: held for number, held in self._sessions.items() if number < until}
