"""What is done to every graph before anything reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convlens.graph.graph import Graph
from convlens.graph.load import load_graph
from graph.nets import classifier, model, numbers, op, opened, put


def normal(proto: onnx.ModelProto, folder: Path) -> Graph:
    return load_graph(put(proto, folder))[0]


def test_constant_nodes_are_lifted(tmp_path: Path) -> None:
    bias = numbers(3)
    graph = normal(
        model(
            [
                op("Constant", "", "bias", value=numpy_helper.from_array(bias)),
                op("Constant", "", "two", value_float=2.0),
                op("Add", "x bias", "a"),
                op("Mul", "a two", "y"),
            ],
            {"x": [1, 3]},
            ["y"],
        ),
        tmp_path,
    )
    assert [node.op for node in graph.nodes] == ["Add", "Mul"]
    np.testing.assert_array_equal(graph.constants["bias"], bias)
    assert graph.constants["two"] == np.float32(2.0)


def test_local_functions_are_written_out(tmp_path: Path) -> None:
    double = helper.make_function(
        "own",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Relu", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    proto = model(
        [op("Double", "x", "h", domain="own"), op("Double", "h", "y", domain="own")],
        {"x": [1, 3]},
        {"y": [1, 3]},
        functions=[double],
        imports=[helper.make_opsetid("own", 1)],
    )
    loaded = opened(proto, tmp_path)
    assert [node.full_op for node in loaded.graph.nodes] == ["Add", "Relu", "Add", "Relu"]
    x = np.array([[1.0, -2.0, 0.5]], np.float32)
    found = loaded.runner.run({"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(found, np.array([[4.0, 0.0, 2.0]], np.float32))


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    proto = classifier()
    shuffled = [proto.graph.node[i] for i in (4, 2, 0, 3, 1)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in shuffled]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    graph = normal(proto, tmp_path)
    assert [node.outputs[0] for node in graph.nodes] == ["conv1", "relu1", "pool", "flat", "logits"]


def test_weights_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    proto = classifier()
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    loaded = opened(proto, tmp_path)
    assert [value.name for value in loaded.graph.inputs] == ["image"]
    assert loaded["conv1"].parameters == 4 * 3 * 3 * 3 + 4
    assert loaded.runner.run({"image": numbers(2, 3, 8, 8)}, ["logits"])["logits"].shape == (2, 5)


def test_half_precision_weights_behind_casts_are_constants(tmp_path: Path) -> None:
    weight = numbers(4, 3, 3, 3).astype(np.float16)
    graph = normal(
        model(
            [
                op("Cast", "half", "full", to=TensorProto.FLOAT),
                op("Identity", "full", "same"),
                op("Conv", "x same", "y"),
            ],
            {"x": [1, 3, 5, 5]},
            ["y"],
            {"half": weight},
        ),
        tmp_path,
    )
    assert [node.op for node in graph.nodes] == ["Conv"]
    assert graph.constants["same"].dtype == np.float32
    np.testing.assert_array_equal(graph.constants["same"], weight.astype(np.float32))


def test_arithmetic_on_constants_is_folded(tmp_path: Path) -> None:
    a, b = numbers(3, seed=1), numbers(3, seed=2)
    nodes = [op("Mul", "a b", "ab"), op("Reshape", "ab shape", "c"), op("Add", "x c", "y")]
    weights = {"a": a, "b": b, "shape": np.array([1, 3])}
    graph = normal(model(nodes, {"x": [1, 3]}, ["y"], weights), tmp_path)
    assert [node.op for node in graph.nodes] == ["Add"]
    np.testing.assert_array_equal(graph.constants["c"], (a * b).reshape(1, 3))


def test_random_nodes_are_no_constants(tmp_path: Path) -> None:
    nodes = [op("RandomNormal", "", "noise", shape=[1, 3]), op("Add", "x noise", "y")]
    graph = normal(model(nodes, {"x": [1, 3]}, ["y"]), tmp_path)
    assert [node.op for node in graph.nodes] == ["RandomNormal", "Add"]
    assert "noise" not in graph.constants


def test_symbols_stay_in_the_shapes_of_layers(tmp_path: Path) -> None:
    proto = model(
        [op("Relu", "x", "a"), op("Conv", "a w", "y")],
        {"x": ["batch", 3, "H", "W"]},
        {"y": ["batch", 4, "h", "w"]},
        {"w": numbers(4, 3, 3, 3)},
    )
    layers = opened(proto, tmp_path).layers
    assert layers["a"].shape == ("batch", 3, "H", "W")
    assert layers["y"].shape == ("batch", 4, "h", "w")


def test_symbols_that_inference_invents_are_unknown(tmp_path: Path) -> None:
    proto = model(
        [op("Conv", "x w", "a"), op("Relu", "a", "y")],
        {"x": ["N", 3, "H", "W"]},
        ["y"],
        {"w": numbers(4, 3, 3, 3)},
    )
    assert opened(proto, tmp_path).layers["a"].shape == ("N", 4, None, None)
