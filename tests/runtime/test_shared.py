"""Sessions that share the weights of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from convlens import catalogue
from convlens.graph.load import load_graph
from convlens.runtime.runner import Runner
from convlens.runtime.shared import SharedModel
from graph.nets import model, numbers, op, put


@pytest.mark.parametrize("kind", ["f4", "f2", "f8"])
@pytest.mark.parametrize("external", [False, True])
def test_weights_are_read_where_they_lie(tmp_path: Path, kind: str, external: bool) -> None:
    weights = {"w": numbers(40, 60).astype(kind), "b": numbers(60).astype(kind)}
    proto = model([op("MatMul", "x w", "m"), op("Add", "m b", "y")], {"x": ["N", 40]}, ["y"], weights)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = element
    path = put(proto, tmp_path)
    if external:
        onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    graph, _ = load_graph(path)
    shared = SharedModel(graph)
    assert shared.names == ["w"]
    assert len(shared.exposing(frozenset({"y"}))) < weights["w"].nbytes
    x = numbers(3, 40).astype(kind)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = Runner(graph, "cpu", 1).run({"x": x}, ["m", "y"])
    np.testing.assert_array_equal(found["y"], session.run(["y"], {"x": x})[0])


def test_the_graph_stays_as_it_is() -> None:
    graph, _ = load_graph(catalogue.locate("vgg16-conv4_1"))
    before = {name: value.const_value for name, value in graph.ir.graph.initializers.items()}
    shared = SharedModel(graph)
    assert len(shared.exposing(frozenset(graph.outputs))) < shared.nbytes / 50
    after = {name: value.const_value for name, value in graph.ir.graph.initializers.items()}
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_a_weight_that_nothing_reads_is_not_handed_over(tmp_path: Path) -> None:
    """Onnxruntime drops it before it looks for what it is given, and would refuse the model."""
    weights = {"w": numbers(40, 60), "unused": numbers(40, 60)}
    graph, _ = load_graph(put(model([op("MatMul", "x w", "y")], {"x": ["N", 40]}, ["y"], weights), tmp_path))
    x = numbers(3, 40)
    assert SharedModel(graph).names == ["w"]
    np.testing.assert_allclose(Runner(graph, "cpu", 1).run({"x": x}, ["y"])["y"], x @ weights["w"], rtol=1e-4)
