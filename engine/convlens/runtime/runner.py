"""onnxruntime over a normalised graph: any value, any number of images, memory bounded by the batch."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.errors import ModelFileError, UnsupportedError
from convlens.graph.graph import Graph
from convlens.rows import repeated
from convlens.runtime.providers import providers, resolve
from convlens.runtime.refusal import refusal
from convlens.runtime.shared import SharedModel, numpy_dtype

Arrays = Mapping[str, NDArray[Any]]

_KEPT_SESSIONS = 4
_BY_THREADS = frozenset({"DynamicQuantizeLSTM"})  # one range for the rows that a thread takes


class Runner:
    """Runs a graph with onnxruntime.

    Args:
        graph: the normalised graph.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: threads inside one forward; None leaves it to onnxruntime.
        source: the input whose first axis counts the images; None takes the first one.
        together: asked when several images come at once: whether they may share a forward.
    """

    def __init__(
        self,
        graph: Graph,
        device: str = "auto",
        threads: int | None = None,
        source: str | None = None,
        together: Callable[[], bool] = lambda: True,
    ) -> None:
        """Check the device; sessions are made when values are asked for."""
        self.graph = graph
        self.device = resolve(device)
        self.threads = threads
        self.source = source
        self.together = together
        self._sessions: OrderedDict[tuple[frozenset[str], bool], Any] = OrderedDict()

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the file prescribes for the images, None where it is free."""
        inputs = self.graph.inputs
        chosen = [value for value in inputs if value.name == self.source] or inputs
        shape = chosen[0].shape if chosen else None
        return shape[0] if shape and isinstance(shape[0], int) else None

    @cached_property
    def _shared(self) -> SharedModel:
        return SharedModel(self.graph)

    @property
    def own_threads(self) -> int | None:
        """Threads inside one forward: those that were asked for, 1 where results depend on how many."""
        return 1 if any(node.op in _BY_THREADS for node in self.graph.nodes) else self.threads

    def whole(self) -> Runner:
        """The same, but images always share a forward, whatever is known of them."""
        found = Runner(self.graph, self.device, self.threads, self.source)
        found._sessions = self._sessions
        found._shared = self._shared
        return found

    def in_threads(self, threads: int) -> Runner:
        """The same in another number of threads, on the same weights."""
        found = Runner(self.graph, self.device, threads, self.source, self.together)
        found._shared = self._shared
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
        count = len(next(iter(feeds.values())))
        chunks = [
            {name: array[i : i + batch_size] for name, array in feeds.items()}
            for i in range(0, count, batch_size)
        ]
        parts = list(self.stream(chunks, names, exact))
        if len(parts) > 1:
            sizes = [len(next(iter(chunk.values()))) for chunk in chunks]
            parts = [self._cut(part, size, size) for part, size in zip(parts, sizes, strict=True)]
        found = self._joined(parts, names)
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
        """Values ``names`` batch by batch.

        A model with a fixed batch runs in steps of that batch, one whose images influence each other
        image by image.

        Raises:
            LayerError: the graph has no such value.
            UnsupportedError: onnxruntime refuses the model or the input, or a value of several forwards
                holds no axis for images along which it could be joined.
        """
        fixed = self.fixed_batch
        for feeds in batches:
            count = len(next(iter(feeds.values())))
            step = self.step(count)
            if step >= count and fixed in (None, count):
                yield self._forward(feeds, names, exact)
                continue
            parts = []
            for start in range(0, count, step):
                rows = {n: a[start : start + step] for n, a in feeds.items()}
                kept = min(step, count - start)
                found = self._forward({n: repeated(a, fixed or kept) for n, a in rows.items()}, names, exact)
                parts.append(
                    self._cut(found, kept, fixed or kept) if count > kept or fixed != kept else found
                )
            yield self._joined(parts, names)

    def _cut(self, found: Arrays, kept: int, rows: int) -> dict[str, NDArray[Any]]:
        """The first ``kept`` of ``rows`` images."""
        out = {}
        for name, array in found.items():
            if name in self.graph.constants:
                out[name] = array
                continue
            if array.ndim == 0 or len(array) != rows:
                raise UnsupportedError(
                    f"value {name!r} has shape {list(array.shape)} for {rows} image{'s' * (rows > 1)}: its "
                    "first axis does not count images, so what several forwards give cannot be joined; "
                    "give one image at a time"
                )
            out[name] = array[:kept]
        return out

    def _joined(
        self, parts: Sequence[Mapping[str, NDArray[Any]]], names: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """What several forwards gave, images along the first axis."""
        if len(parts) == 1:
            return dict(parts[0])
        out = {}
        for name in names:
            arrays = [part[name] for part in parts]
            if name in self.graph.constants:
                out[name] = arrays[0]
                continue
            shapes = list(dict.fromkeys(array.shape[1:] if array.ndim else None for array in arrays))
            if None in shapes or len(shapes) > 1:
                told = " and ".join(str(list(array.shape)) for array in (arrays[0], arrays[-1]))
                raise UnsupportedError(
                    f"value {name!r} differs in shape from image to image ({told}) and cannot be joined; "
                    "give one image at a time"
                )
            out[name] = np.concatenate(arrays)
        return out

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
        if key in self._sessions:
            self._sessions.move_to_end(key)
            return self._sessions[key]
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if self.own_threads is not None:
            options.intra_op_num_threads = self.own_threads
        if exact:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = self._shared.exposing(names)
        if self._shared.names:
            options.add_external_initializers(self._shared.names, self._shared.values)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers(self.device))
        except Exception as error:
            raise UnsupportedError(refusal(self.graph, reason(error))) from error
        self._sessions[key] = session
        while len(self._sessions) > _KEPT_SESSIONS:
            self._sessions.popitem(last=False)
        return session


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


def check_file(path: Path) -> None:
    """Let onnxruntime itself load the file as it lies on disk.

    Raises:
        ModelFileError: it refuses.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(f"{path}: onnxruntime refuses the file: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What onnxruntime says, in one line."""
    return " ".join(str(error).split())[:300]
