"""onnxruntime over a normalised graph: any value, any number of images, memory bounded by the batch."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from convlens.errors import LayerError, ModelFileError, UnsupportedError, nearest
from convlens.graph.graph import Graph
from convlens.runtime.providers import providers, resolve

Arrays = Mapping[str, NDArray[Any]]

_KEPT_SESSIONS = 4
_PROTOBUF_LIMIT = (1 << 31) - (1 << 20)


class Runner:
    """Runs a graph with onnxruntime.

    Args:
        graph: the normalised graph.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: threads inside one forward; None leaves it to onnxruntime.
    """

    def __init__(self, graph: Graph, device: str = "auto", threads: int | None = None) -> None:
        """Check the device; sessions are made when values are asked for."""
        self.graph = graph
        self.device = resolve(device)
        self.threads = threads
        self._sessions: OrderedDict[tuple[frozenset[str], bool], Any] = OrderedDict()

    @property
    def fixed_batch(self) -> int | None:
        """The batch that the file prescribes for its first input, None where it is free."""
        shape = self.graph.inputs[0].shape
        return shape[0] if shape and isinstance(shape[0], int) else None

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
        chunks = (
            {name: array[i : i + batch_size] for name, array in feeds.items()}
            for i in range(0, count, batch_size)
        )
        parts = list(self.stream(chunks, names, exact))
        return {name: _join([part[name] for part in parts]) for name in names}

    def stream(
        self, batches: Iterable[Arrays], names: Sequence[str], exact: bool = False
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Values ``names`` batch by batch. A model with a fixed batch runs in steps of that batch."""
        fixed = self.fixed_batch
        for feeds in batches:
            count = len(next(iter(feeds.values())))
            if fixed is None or fixed == count:
                yield self._forward(feeds, names, exact)
                continue
            parts = []
            for start in range(0, count, fixed):
                part = {n: _fill(a[start : start + fixed], fixed) for n, a in feeds.items()}
                parts.append(self._forward(part, names, exact))
            yield {n: _join([part[n] for part in parts])[:count] for n in names}

    def _forward(self, feeds: Arrays, names: Sequence[str], exact: bool) -> dict[str, NDArray[Any]]:
        given = {n: feeds[n] for n in names if n in feeds}
        constant = {n: self.graph.constants[n] for n in names if n in self.graph.constants}
        wanted = [n for n in dict.fromkeys(names) if n not in given and n not in constant]
        found: dict[str, NDArray[Any]] = {**given, **constant}
        if wanted:
            session = self._session(frozenset(wanted), exact)
            cast = {n: _as(a, self.graph.value(n).dtype) for n, a in feeds.items()}
            try:
                found.update(zip(wanted, session.run(wanted, cast), strict=True))
            except Exception as error:  # onnxruntime raises its own kinds, all unrelated
                shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in feeds.items())
                raise UnsupportedError(
                    f"onnxruntime cannot run the model on {shapes}: {_reason(error)}"
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
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        if exact:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with tempfile.TemporaryDirectory(prefix="convlens-") as folder:
            model = self._exposed(names, Path(folder))
            try:
                session = onnxruntime.InferenceSession(model, options, providers=providers(self.device))
            except Exception as error:
                raise UnsupportedError(f"onnxruntime refuses the model: {_reason(error)}") from error
        self._sessions[key] = session
        while len(self._sessions) > _KEPT_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def _exposed(self, names: frozenset[str], folder: Path) -> bytes | str:
        """The model with ``names`` as its only outputs: bytes, or a file where it is too large."""
        model = self.graph.ir
        known = {v.name for node in model.graph for v in node.outputs if v.name}
        for name in sorted(names - known):
            raise LayerError(f"the graph computes no value {name!r}{nearest(name, known)}")
        weights = model.graph.initializers.values()
        size = sum(v.const_value.nbytes for v in weights if v.const_value is not None)
        external = any(isinstance(v.const_value, ir.ExternalTensor) for v in weights)
        if size > _PROTOBUF_LIMIT or external:
            path = folder / "model.onnx"
            proto = ir.serde.serialize_model(model)
            _set_outputs(proto, names, self.graph)
            ir_model = ir.serde.deserialize_model(proto)
            for name, value in ir_model.graph.initializers.items():
                value.const_value = _at_hand(model.graph.initializers[name].const_value)
            ir.save(ir_model, path, external_data="weights.bin")
            return os.fspath(path)
        proto = ir.serde.serialize_model(model)
        _set_outputs(proto, names, self.graph)
        return bytes(proto.SerializeToString())


def _set_outputs(proto: onnx.ModelProto, names: frozenset[str], graph: Graph) -> None:
    kept = {info.name: info for info in proto.graph.output if info.name in names}
    del proto.graph.output[:]
    for name in sorted(names):
        info = onnx.ValueInfoProto(name=name)
        dtype = graph.value(name).dtype
        if name in kept:
            info = kept[name]
        elif dtype is not None:
            info.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(_numpy(dtype))
        proto.graph.output.append(info)


def _at_hand(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """A tensor that saving does not close: the graph's constants are views of the mapped file."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    return tensor


def _numpy(name: str) -> np.dtype[Any]:
    if name in ("bfloat16", "int4", "uint4") or name.startswith("float8"):
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    return np.dtype(name)


def _as(array: NDArray[Any], dtype: str | None) -> NDArray[Any]:
    """The array contiguous, real numbers in the precision that the input declares."""
    if dtype is not None and "float" in dtype and array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=_numpy(dtype))
    return np.ascontiguousarray(array)


def _fill(array: NDArray[Any], count: int) -> NDArray[Any]:
    """The array repeated at its end to ``count`` rows, for models that take no fewer."""
    missing = count - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 or parts[0].ndim == 0 else np.concatenate(parts)


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
        raise ModelFileError(f"{path}: onnxruntime refuses the file: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
