"""Weights that are not finite are named wherever a person looks at the model."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convlens.cli.app import run
from convlens.graph.load import load_graph
from convlens.graph.unsound import unsound_weights, unsound_words
from graph.nets import classifier, model, numbers, op, put


def unsound(**numbers_by_weight: float) -> onnx.ModelProto:
    """The classifier with some first numbers of weights replaced."""
    proto = classifier()
    for tensor in proto.graph.initializer:
        if tensor.name in numbers_by_weight:
            array = numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[:2] = numbers_by_weight[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    graph, _ = load_graph(put(unsound(w1=np.nan, b2=-np.inf), tmp_path))
    found = {each.name: (each.nan, each.infinite, each.size) for each in unsound_weights(graph)}
    assert found == {"w1": (2, 0, 108), "b2": (0, 2, 5)}
    words = unsound_words(graph)
    assert words is not None
    assert "w1 (read by Conv conv1): 2 NaN of 108 numbers" in words
    assert "b2 (read by Gemm logits): 2 infinite of 5 numbers" in words
    sound, _ = load_graph(put(classifier(), tmp_path))
    assert unsound_words(sound) is None


def test_infinite_bounds_and_masks_are_ordinary(tmp_path: Path) -> None:
    nodes = [op("Clip", "x low high", "a"), op("Where", "mask a low", "y")]
    weights = {"low": np.float32(-np.inf), "high": np.float32(6), "mask": np.array([True, False, True])}
    graph, _ = load_graph(put(model(nodes, {"x": ["N", 3]}, ["y"], weights), tmp_path))
    assert unsound_weights(graph) == ()


def test_half_weights_that_are_not_finite(tmp_path: Path) -> None:
    for dtype in (np.float16, ml_dtypes.bfloat16):
        weight = numbers(3).astype(dtype)
        weight[1] = np.nan
        proto = model(
            [op("Cast", "w", "c", to=1), op("Identity", "x", "i"), op("Add", "i c", "y")],
            {"x": ["N", 3]},
            ["y"],
            {"w": weight},
        )
        graph, _ = load_graph(put(proto, tmp_path))
        assert [each.nan for each in unsound_weights(graph)] == [1]


@pytest.mark.parametrize("command", [["layers"], ["layers", "--json"], ["verify"]])
def test_commands_say_that_weights_are_not_finite(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(unsound(w1=np.inf), tmp_path)
    run([command[0], str(path), *command[1:], "--device", "cpu"])
    assert (
        "convlens: weights that are not finite: w1 (read by Conv conv1): 2 infinite"
        in capsys.readouterr().err
    )
