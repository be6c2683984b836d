"""The graph operations that the recipes share, on a graph of three nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from convlens_adapters.exporters import surgery


def small() -> onnx.ModelProto:
    rng = np.random.default_rng(5)
    tensors = {
        "w": rng.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(16).astype(np.float32),
        "tiny": rng.standard_normal((4, 16, 1, 1)).astype(np.float32),
    }
    nodes = [
        onnx.helper.make_node("Conv", ["input", "w", "b"], ["/a/Conv_output_0"], pads=[1] * 4),
        onnx.helper.make_node("Relu", ["/a/Conv_output_0"], ["r"]),
        onnx.helper.make_node("Conv", ["r", "tiny"], ["out"]),
    ]
    image, out = surgery.value("input", "N", 3, 8, 8), surgery.value("out", "N", 4, 8, 8)
    return surgery.assemble(nodes, tensors, [image], [out], name="small")


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {"input": x})[0]
    return result


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(6).standard_normal((2, 3, 8, 8)).astype(np.float32)


def test_fp16_storage_costs_no_more_than_the_rounding_of_the_weights(x: np.ndarray) -> None:
    exact, model = small(), small()
    surgery.store_fp16(model)
    rounded = small()
    weight = onnx.numpy_helper.to_array(rounded.graph.initializer[0])
    half = weight.astype(np.float16).astype(np.float32)
    rounded.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(half, "w"))
    np.testing.assert_allclose(run(model, x), run(rounded, x), rtol=1e-5, atol=1e-5)
    want = run(exact, x)
    assert np.abs(run(model, x) - want).max() <= 2.0**-10 * np.abs(want).max()
    assert np.abs(run(model, x) - want).max() > 0


def test_fp16_storage_is_for_large_weights_only() -> None:
    model = small()
    surgery.store_fp16(model)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert stored == {"w_f16": half, "b": single, "tiny": single}
    first = model.graph.node[0]
    assert (first.op_type, list(first.input), list(first.output)) == ("Cast", ["w_f16"], ["w"])
    assert surgery.to_bytes(model)


def test_fp16_storage_leaves_what_fp16_cannot_hold() -> None:
    model = small()
    large = onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1e6
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(large, "w"))
    surgery.store_fp16(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Relu", "Conv"]


def test_strip_removes_every_note() -> None:
    model = small()
    model.producer_name, model.doc_string, model.graph.doc_string = "note", "note", "note"
    model.metadata_props.add(key="note", value="note")
    model.opset_import.extend([onnx.helper.make_opsetid("com.note", 1)])
    for part in (model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        part.doc_string = "note"
        part.metadata_props.add(key="note", value="note")
    model.graph.node[0].attribute[0].doc_string = "note"
    assert b"note" in model.SerializeToString()
    surgery.strip(model)
    assert model.SerializeToString() == small().SerializeToString()


def test_strip_reaches_into_branches() -> None:
    branch = small().graph
    branch.doc_string = branch.node[0].doc_string = "note"
    holder = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = onnx.helper.make_model(onnx.helper.make_graph([holder], "g", [], []))
    surgery.strip(model)
    assert b"note" not in model.SerializeToString()


def test_rebuild_cuts_and_names(x: np.ndarray) -> None:
    source = small()
    image, out = surgery.value("input", "N", 3, 8, 8), surgery.value("relu1", "N", 16, 8, 8)
    names = {"input": "input", "/a/Conv_output_0": "conv1", "r": "relu1"}
    cut = surgery.rebuild(source, names, [image], [out], name="cut")
    assert [node.name for node in cut.graph.node] == ["conv1", "relu1"]
    assert [tensor.name for tensor in cut.graph.initializer] == ["conv1.weight", "conv1.bias"]
    source.graph.output.append(onnx.helper.make_empty_tensor_value_info("r"))
    session = ort.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(run(cut, x), session.run(["r"], {"input": x})[0])


def test_rebuild_starts_inside_the_source(x: np.ndarray) -> None:
    image, out = surgery.value("input", "N", 16, 8, 8), surgery.value("conv2", "N", 4, 8, 8)
    names = {"r": "input", "out": "conv2"}
    tail = surgery.rebuild(small(), names, [image], [out], name="tail")
    assert [node.op_type for node in tail.graph.node] == ["Conv"]
    assert run(tail, np.zeros((1, 16, 8, 8), np.float32)).shape == (1, 4, 8, 8)


def test_the_same_model_gives_the_same_bytes() -> None:
    made = []
    for _ in range(2):
        model = small()
        surgery.store_fp16(model)
        surgery.strip(model)
        made.append(surgery.to_bytes(model))
    assert made[0] == made[1]
