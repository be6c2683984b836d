"""What a pass leaves, held against onnxruntime running the file as it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from convlens.graph.graph import Graph
from convlens.graph.load import load_graph
from convlens.runtime.runner import Runner
from graph.nets import put

CLOSE = 2e-6
"""Relative to the largest magnitude: a few units in the last place of float32, for another order of sums."""


def text(
    source: str,
    weights: Mapping[str, NDArray[Any]] | None = None,
    opset: int = 17,
    functions: str = "",
    domains: str = "",
) -> onnx.ModelProto:
    """A model from ONNX's own text form; ``source`` starts at the graph's signature."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1{domains}]> net '
    proto = parser.parse_model(f"{head}{source}\n{functions}")
    proto.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in (weights or {}).items())
    return proto


def ran(path: Path, feeds: Mapping[str, NDArray[Any]], names: list[str]) -> list[NDArray[Any]]:
    """The outputs by onnxruntime itself, unoptimised."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(names, dict(feeds)))


def held(proto: onnx.ModelProto, folder: Path, feeds: Mapping[str, NDArray[Any]]) -> Graph:
    """The graph, its outputs found equal to the file's, in number, order, type and value."""
    path = put(proto, folder)
    graph, _ = load_graph(path)
    names = [value.name for value in proto.graph.output]
    assert list(graph.outputs) == names
    expected = ran(path, feeds, names)
    for exact in (True, False):
        [found] = Runner(graph, "cpu", 1).stream([feeds], names, exact)
        for name, array in zip(names, expected, strict=True):
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            limit = CLOSE * max(1.0, float(np.abs(array).max(initial=0.0)))
            np.testing.assert_allclose(found[name], array, rtol=0, atol=limit)
    return graph


def ops(graph: Graph) -> list[str]:
    """The operators in order."""
    return [node.full_op for node in graph.nodes]
