"""Small ONNX models from one node, and their outputs from onnxruntime and from the PyTorch graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from convlens.graph.load import load_graph
from convlens.instrument.build import TorchGraph

torch.set_num_threads(1)
ABSENT = None


@dataclass(frozen=True)
class Feed:
    """An input that is fed at run time."""

    array: NDArray[Any]


@dataclass(frozen=True)
class Fixed:
    """An input that the file stores."""

    array: NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One node with its inputs, to be tried under several opsets."""

    op: str
    inputs: Sequence[Feed | Fixed | None]
    opsets: Sequence[int] = (17,)
    outputs: int = 1
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    def label(self, opset: int) -> str:
        """What pytest shows."""
        shape = next((s.array.shape for s in self.inputs if s is not None), ())
        parts = [f"{name}={value}" for name, value in self.attributes.items()]
        return "-".join([f"{self.op}{opset}", "x".join(map(str, shape)), *parts]).replace(" ", "")

    def model(self, opset: int) -> onnx.ModelProto:
        """The node as a model, all shapes static."""
        names = ["" if source is None else f"x{i}" for i, source in enumerate(self.inputs)]
        given = [(n, s) for n, s in zip(names, self.inputs, strict=True) if s is not None]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, domain=self.domain, **self.attributes)
        return model_of(
            [node],
            {n: s.array for n, s in given if isinstance(s, Feed)},
            outputs,
            {n: s.array for n, s in given if isinstance(s, Fixed)},
            opset,
        )

    @property
    def smooth(self) -> bool:
        """Whether the real inputs are generic: finite, and no two numbers of one equal."""
        arrays = [s.array for s in self.inputs if isinstance(s, Feed) and s.array.dtype.kind == "f"]
        return bool(arrays) and all(np.isfinite(a).all() and len(np.unique(a)) == a.size > 0 for a in arrays)

    @property
    def feeds(self) -> dict[str, NDArray[Any]]:
        """The run-time inputs by name."""
        return {f"x{i}": s.array for i, s in enumerate(self.inputs) if isinstance(s, Feed)}


def case(op: str, *inputs: Any, opsets: Any = 17, outputs: int = 1, domain: str = "", **a: Any) -> Case:
    """A :class:`Case`; a bare array is stored in the file."""
    sources = [Fixed(np.asarray(s)) if isinstance(s, (np.ndarray, np.generic)) else s for s in inputs]
    opsets = (opsets,) if isinstance(opsets, int) else tuple(opsets)
    return Case(op, sources, opsets, outputs, domain, a)


def spread(cases: Sequence[Case], latest: bool = False) -> list[Any]:
    """A pytest parameter for every case under every one of its opsets, or only under the last."""
    return [
        pytest.param(one, opset, id=one.label(opset))
        for one in cases
        for opset in one.opsets[-1 if latest else 0 :]
    ]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: dict[str, NDArray[Any]],
    outputs: Sequence[str],
    stored: dict[str, NDArray[Any]] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model from nodes, example inputs and stored arrays."""
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        infos,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in (stored or {}).items()],
    )
    domains = {"": opset} | {node.domain: 1 for node in nodes if node.domain}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def reference(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def torch_graph(model: onnx.ModelProto, folder: Path, dtype: torch.dtype = torch.float32) -> TorchGraph:
    """The model written to a file, read back and built."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return TorchGraph(load_graph(path)[0], dtype)


def compare(
    model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], folder: Path, tolerance: float = 2e-5
) -> None:
    """Hold every output of the PyTorch graph against onnxruntime."""
    graph = torch_graph(model, folder)
    names = [output.name for output in model.graph.output]
    expected = reference(model, feeds)
    with torch.no_grad():
        found = graph.values({n: torch.from_numpy(a.copy()) for n, a in feeds.items()}, names)
    for name, wanted in zip(names, expected, strict=True):
        got = found[name].numpy()
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


def check_gradient(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], folder: Path) -> None:
    """Hold the gradient of every real output against finite differences, in double precision."""
    graph = torch_graph(model, folder, torch.float64)
    names = [output.name for output in model.graph.output]
    real = {n: torch.from_numpy(a.copy()).double() for n, a in feeds.items() if a.dtype.kind == "f"}
    rest = {n: torch.from_numpy(a.copy()) for n, a in feeds.items() if n not in real}

    def function(*xs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = graph.values(dict(zip(real, xs, strict=True)) | rest, names)
        return tuple(v for v in found.values() if v.is_floating_point() and v.requires_grad)

    inputs = tuple(x.requires_grad_() for x in real.values())
    if inputs and function(*inputs):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True, atol=1e-5, rtol=1e-4)


def numbers(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> NDArray[Any]:
    """Random float32 numbers, the same each time."""
    return np.random.default_rng(seed + sum(shape)).uniform(low, high, shape).astype(np.float32)


def x(*shape: int, **how: Any) -> Feed:
    """A run-time input of random numbers."""
    return Feed(numbers(*shape, **how))


def feed(values: Any, dtype: Any = np.float32) -> Feed:
    """A run-time input of the given values."""
    return Feed(np.asarray(values, dtype=dtype))


def ints(*values: int) -> NDArray[Any]:
    """A stored list of int64."""
    return np.asarray(values, dtype=np.int64)


def floats(*values: float) -> NDArray[Any]:
    """A stored list of float32."""
    return np.asarray(values, dtype=np.float32)
