"""onnxruntime over a normalised graph: any value, any number of images, memory bounded by the batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph
from convlens.rows import repeated
from convlens.runtime.ahead import ahead, divided, small
from convlens.runtime.joining import cut, joined
from convlens.runtime.providers import resolve
from convlens.runtime.sessions import reason, session_of
from convlens.runtime.shared import SharedModel, numpy_dtype

Arrays = Mapping[str, NDArray[Any]]

_KEPT_SESSIONS = 4
_BY_THREADS = frozenset({"DynamicQuantizeLSTM"})  # one range for the rows that a thread takes


class Runner:
    """Runs a graph with onnxruntime.

    Args:
        graph: the normalised graph.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: threads inside one forward, and forwards one after the other. With None the cores are
            shared out: as many forwards of a small model as there are cores for, up to eight, are done side
            by side in one thread each, and a large one, or one whose cost is not known, in all of them.
        source: the input whose first axis counts the images; None takes the first one.
        together: asked when several images come at once: whether they may share a forward.
        macs: asked for the multiply-accumulates of one image; None where they are not known.
    """

    def __init__(
        self,
        graph: Graph,
        device: str = "auto",
        threads: int | None = None,
        source: str | None = None,
        together: Callable[[], bool] = lambda: True,
        macs: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Check the device; sessions are made when values are asked for."""
        self.graph = graph
        self.device = resolve(device)
        self.threads = threads
        self.source = source
        self.together = together
        self.macs = macs
        self.often = False
        self._lock = Lock()
        self._sessions: OrderedDict[tuple[frozenset[str], bool], Any] = OrderedDict()

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the file prescribes for the images, None where it is free."""
        found = self._taken[:1]
        return found[0] if found and isinstance(found[0], int) else None

    @property
    def _taken(self) -> tuple[int | str | None, ...]:
        """The shape of the input that counts the images."""
        inputs = self.graph.inputs
        chosen = [value for value in inputs if value.name == self.source] or inputs
        return tuple((chosen[0].shape or ()) if chosen else ())

    @cached_property
    def _shared(self) -> SharedModel:
        return SharedModel(self.graph)

    @property
    def own_threads(self) -> int | None:
        """Threads inside one forward: those that were asked for, 1 where results depend on how many."""
        return 1 if any(node.op in _BY_THREADS for node in self.graph.nodes) else self.threads

    @cached_property
    def division(self) -> tuple[int, int | None]:
        """How many forwards a stream does side by side, and the threads inside each.

        0 is one after the other in the thread that asks for them; 1 is one after the other while the next
        batch is made. It is decided by sizes alone, so that the same is done every time.
        """
        if self.own_threads is not None:
            return 0, self.own_threads
        if self.device != "cpu":
            return 1, None
        if not small(self._taken[1:], self.macs):
            return 0, None
        workers, threads = divided()
        return (workers if workers > 1 else 0), threads

    def whole(self) -> Runner:
        """The same, but images always share a forward, whatever is known of them."""
        found = Runner(self.graph, self.device, self.threads, self.source, macs=self.macs)
        found._sessions, found._lock = self._sessions, self._lock
        found._shared = self._shared
        return found

    def for_many(self, threads: int) -> Runner:
        """The same on the same weights, for many forwards that hand out much, in ``threads`` each.

        What it takes longer to get ready it saves in every forward (:mod:`.interleaved`).
        """
        found = Runner(self.graph, self.device, threads, self.source, self.together, self.macs)
        found._shared, found.often = self._shared, True
        return found

    def step(self, batch_size: int) -> int:
        """How many of ``batch_size`` images go into one forward as different ones."""
        if batch_size > 1 and not self.together():
            return 1
        return self.fixed_batch or batch_size

    def run(
        self, feeds: Arrays, names: Sequence[str], batch_size: int = 8, exact: bool = False
    ) -> dict[str, NDArray[Any]]:
        """Values ``names`` for all of ``feeds``, batches joined along the first axis.

        Args:
            feeds: the graph's inputs by name, the images along the first axis.
            names: ONNX value names, graph inputs included.
            batch_size: images in one forward; results do not depend on it.
            exact: run every node as it is written, without onnxruntime's fusions.

        Raises:
            LayerError: the graph has no such value.
            UnsupportedError: onnxruntime refuses the model or the input.
        """
        count = _rows(feeds)
        chunks = [
            {name: array[i : i + batch_size] for name, array in feeds.items()}
            for i in range(0, count, batch_size)
        ]
        parts = list(self.stream(chunks, names, exact))
        if len(parts) > 1:
            sizes = [_rows(chunk) for chunk in chunks]
            parts = [cut(p, n, n, self.graph.constants) for p, n in zip(parts, sizes, strict=True)]
        found = joined(parts, names, self.graph.constants)
        return {name: found[name] for name in names}

    def once(self, feeds: Arrays, names: Sequence[str], exact: bool = False) -> dict[str, NDArray[Any]]:
        """Values ``names`` of one forward of everything in ``feeds``, whatever its axes count.

        Raises:
            LayerError: the graph has no such value.
            UnsupportedError: onnxruntime refuses the model or the input.
        """
        return self._forward(feeds, names, exact)

    def readable(self, feeds: Arrays, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Which of the values ``names`` onnxruntime hands out as arrays, and why not for the others.

        Sequences, optional values and types that numpy does not hold are told from the graph; whatever
        else fails although the outputs can be computed is found by trying.

        Raises:
            UnsupportedError: the model itself cannot be run on ``feeds``.
        """
        types = {v.name: v for node in self.graph.ir.graph for v in node.outputs}
        refused = {name: why for name in names if (why := _unheld(types.get(name), self.graph, name))}
        outputs = [n for n in self.graph.outputs if n in types and not _unheld(types[n], self.graph, n)]
        left = [name for name in names if name not in refused]
        if len(left) > len(outputs):
            self._forward(feeds, outputs, exact=True)  # one clear error where the model itself fails
        self._try(feeds, left, refused)
        if left and refused.keys() >= set(left):
            raise UnsupportedError(refused[left[0]])
        return [name for name in left if name not in refused], refused

    def _try(self, feeds: Arrays, names: Sequence[str], refused: dict[str, str]) -> None:
        """Run ``names``, in halves where they fail, and enter in ``refused`` those that fail alone."""
        try:
            found = self._forward(feeds, names, exact=True)
        except UnsupportedError as error:
            if len(names) == 1:
                refused[names[0]] = str(error)
                return
            self._try(feeds, names[: len(names) // 2], refused)
            self._try(feeds, names[len(names) // 2 :], refused)
            return
        for name in names:
            value: Any = found[name]  # sequences come as lists
            if not isinstance(value, np.ndarray) or value.dtype == object:
                refused[name] = "onnxruntime hands out no numbers for it"

    def stream(
        self, batches: Iterable[Arrays], names: Sequence[str], exact: bool = False
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Values ``names`` batch by batch, in their order.

        A model with a fixed batch runs in steps of that batch, one whose images influence each other
        image by image. Where forwards are done side by side (:attr:`division`), batches are taken ahead of
        their values, at most two more than there are forwards at once; none may change after it was handed
        over. What each batch gives does not depend on how many there are at once.

        Raises:
            LayerError: the graph has no such value.
            UnsupportedError: onnxruntime refuses the model or the input, or a value of several forwards
                holds no axis for images along which it could be joined.
        """
        steps = ((feeds, self.step(_rows(feeds))) for feeds in batches)

        def work(item: tuple[Arrays, int]) -> dict[str, NDArray[Any]]:
            return self._stepped(*item, names, exact)

        workers = 0 if exact else self.division[0]
        yield from ahead(work, steps, workers) if workers else map(work, steps)

    def _stepped(
        self, feeds: Arrays, step: int, names: Sequence[str], exact: bool
    ) -> dict[str, NDArray[Any]]:
        """Values of one batch, ``step`` images in a forward."""
        fixed, count = self.fixed_batch, _rows(feeds)
        if step >= count and fixed in (None, count):
            return self._forward(feeds, names, exact)
        parts = []
        for start in range(0, count, step):
            rows = {n: a[start : start + step] for n, a in feeds.items()}
            kept = min(step, count - start)
            found = self._forward({n: repeated(a, fixed or kept) for n, a in rows.items()}, names, exact)
            several = count > kept or fixed != kept
            parts.append(cut(found, kept, fixed or kept, self.graph.constants) if several else found)
        return joined(parts, names, self.graph.constants)

    def _forward(self, feeds: Arrays, names: Sequence[str], exact: bool) -> dict[str, NDArray[Any]]:
        given = {n: feeds[n] for n in names if n in feeds}
        constant = {n: self.graph.constants[n] for n in names if n in self.graph.constants}
        wanted = [n for n in dict.fromkeys(names) if n not in given and n not in constant]
        found: dict[str, NDArray[Any]] = {**given, **constant}
        if wanted:
            session = self._session(frozenset(wanted), exact)
            cast = {n: as_declared(a, self.graph.value(n).dtype) for n, a in feeds.items()}
            try:
                found.update(zip(wanted, session.run(wanted, cast), strict=True))
            except Exception as error:  # onnxruntime raises its own kinds, all unrelated
                shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in feeds.items())
                raise UnsupportedError(
                    f"onnxruntime cannot run the model on {shapes}: {reason(error)}"
                ) from error
        return found

    def _session(self, names: frozenset[str], exact: bool) -> Any:
        key = (names, exact)
        with self._lock:
            if key not in self._sessions:
                threads = self.own_threads if exact else self.division[1]
                often = self.often and not exact
                self._sessions[key] = session_of(self._shared, names, self.device, threads, exact, often)
            self._sessions.move_to_end(key)
            while len(self._sessions) > _KEPT_SESSIONS:
                self._sessions.popitem(last=False)
            return self._sessions[key]

    def forget(self, names: Sequence[str]) -> None:
        """Let go of what the values ``names`` are computed with; it is made again when they are asked for."""
        with self._lock:
            self._sessions.pop((frozenset(names), False), None)


def _rows(feeds: Arrays) -> int:
    """How many images there are."""
    return len(next(iter(feeds.values())))


def as_declared(array: NDArray[Any], dtype: str | None) -> NDArray[Any]:
    """The array contiguous, real numbers in the precision that the input declares."""
    if dtype is not None and "float" in dtype and array.dtype.kind == "f":
        return np.asarray(array, numpy_dtype(dtype), order="C")
    return np.asarray(array, order="C")  # which leaves a single number without an axis


def _unheld(value: ir.Value | None, graph: Graph, name: str) -> str | None:
    """Why numpy does not hold a value of this type, None where it does."""
    if value is not None and isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
        return "a sequence or an optional value is no array"
    dtype = graph.value(name).dtype
    if dtype is not None and (
        dtype == "bfloat16" or "int4" in dtype or "int2" in dtype or dtype.startswith("float4")
    ):
        return f"onnxruntime hands out no {dtype}"
    return None
