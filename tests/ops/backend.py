"""The ONNX package's own backend tests, run in the PyTorch graph and told apart by what comes out."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from convlens import ops
from convlens.errors import ConvLensError
from convlens.graph.load import load_graph
from convlens.instrument.build import TorchGraph

Arrays = Sequence[NDArray[Any]]

RTOL, ATOL = 1e-4, 1e-5
"""Allowed relative to the number itself and to the largest number; coarse types add their own step."""


@dataclass(frozen=True)
class Verdict:
    """What became of one model: ``equal``, ``wrong``, ``crashed``, ``refused``, ``absent`` or ``untold``.

    ``absent``: an operator is not in the table. ``untold``: there is nothing to hold it against, as
    onnxruntime does not run it and it is random or its inputs and outputs are not tensors.
    """

    name: str
    kind: str
    why: str = ""
    truth: str = "onnxruntime"


def node_cases(*modules: str) -> list[Any]:
    """The package's tests of single nodes; only those of some operators' modules where they are named."""
    from onnx.backend.test.case import node
    from onnx.backend.test.case.node import _NodeTestCases
    from onnx.backend.test.case.utils import import_recursive

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not modules:
            import_recursive(node)
            return list(_NodeTestCases)
        for module in modules:
            importlib.import_module(f"{node.__name__}.{module}")
    chosen = tuple(module.replace("_", "") for module in modules)
    return [
        one for one in _NodeTestCases if one.name.removeprefix("test_").replace("_", "").startswith(chosen)
    ]


def stored_cases(kind: str) -> Iterator[tuple[str, onnx.ModelProto, list[tuple[Arrays, Arrays]]]]:
    """The package's stored models of a kind, each with its pairs of inputs and outputs."""
    from onnx.backend.test.loader import load_model_tests

    for one in sorted(load_model_tests(kind=kind), key=lambda c: c.name):
        if one.model_dir is None:
            continue
        folder = Path(one.model_dir)
        model = onnx.load(folder / "model.onnx")
        pairs = []
        for data in sorted(folder.glob("test_data_set_*")):
            pairs.append(
                (_stored(data, "input", model.graph.input), _stored(data, "output", model.graph.output))
            )
        yield one.name, model, pairs


def _stored(folder: Path, what: str, infos: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    found = []
    for index, info in enumerate(infos):
        path = folder / f"{what}_{index}.pb"
        if not path.exists():
            continue
        if info.type.WhichOneof("value") != "tensor_type":
            found.append(None)
            continue
        tensor = onnx.TensorProto()
        tensor.ParseFromString(path.read_bytes())
        found.append(onnx.numpy_helper.to_array(tensor))
    return found


def judge(
    name: str, model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any], folder: Path
) -> Verdict:
    """Run one model in both executors. onnxruntime is the truth where it runs it, else the stored outputs."""
    names = [info.name for info in model.graph.input if info.name not in _initializers(model)]
    inputs, outputs = ([_array(value) for value in values] for values in (inputs, outputs))
    feeds = dict(zip(names, inputs, strict=False))
    if not all(isinstance(array, np.ndarray) and array.dtype.kind not in "OSU" for array in feeds.values()):
        return Verdict(name, "untold", "inputs that are not tensors of numbers")
    try:
        expected = _onnxruntime(model, feeds)
        truth = "onnxruntime"
    except Exception as error:
        expected, truth = list(outputs), f"stored ({' '.join(str(error).split())[:90]})"
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        graph = load_graph(path)[0]
        absent = sorted({node.full_op for node in graph.nodes if ops.find(node) is None})
        if absent:
            return Verdict(name, "absent", ", ".join(absent), truth)
        torch_graph = TorchGraph(graph)
        with torch.no_grad():
            tensors = {n: torch_graph.working(a, n) for n, a in feeds.items()}
            found = torch_graph.values(tensors, [info.name for info in model.graph.output])
    except ConvLensError as error:
        return Verdict(name, "refused", " ".join(str(error).split()), truth)
    except Exception as error:
        return Verdict(name, "crashed", f"{type(error).__name__}: {' '.join(str(error).split())}", truth)
    for info, wanted in zip(model.graph.output, expected, strict=True):
        if not isinstance(wanted, np.ndarray) or wanted.dtype.kind in "OU":
            return Verdict(name, "untold", "not tensors", truth)
        why = difference(found[info.name], wanted, 1.0 if truth == "onnxruntime" else 10.0)
        if why:
            return Verdict(name, "wrong", f"{info.name}: {why}", truth)
    return Verdict(name, "equal", "", truth)


def _array(value: Any) -> Any:
    """The package writes types that numpy lacks as protobufs, and outputs without axes as bare numbers."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _initializers(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def difference(found: torch.Tensor, wanted: NDArray[Any], slack: float = 1.0) -> str:
    """What is wrong with ``found``, empty where nothing is; stored outputs are given the package's slack."""
    if tuple(found.shape) != wanted.shape:
        return f"shape {tuple(found.shape)}, expected {wanted.shape}"
    a, b = found.double().numpy(), wanted.astype(np.float64)
    if wanted.dtype.kind in "iub" and not found.is_floating_point():
        a, b = found.numpy(), wanted
        count = int(np.count_nonzero(a != b))
        return f"{count} of {b.size} integers differ" if count else ""
    finite = np.isfinite(b)
    if not ((a == b) | (np.isnan(a) & np.isnan(b)))[~finite].all() or not np.isfinite(a[finite]).all():
        return "infinite or NaN on one side only"
    step = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(wanted.dtype.name, 0.0)
    largest = np.abs(b[finite]).max(initial=0.0)
    allowed = (slack * RTOL + step) * np.abs(b[finite]) + (slack * ATOL + step / 4) * largest
    off = np.abs(a[finite] - b[finite])
    if (off > allowed).any():
        count = int((off > allowed).sum())
        return f"off by {off.max():.3g} of {largest:.3g}, {count} of {b.size}"
    if wanted.dtype.name in ("float32", "float64") and str(found.dtype)[6:] != wanted.dtype.name:
        return f"type {found.dtype}, expected {wanted.dtype}"
    return ""
