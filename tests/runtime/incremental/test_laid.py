"""What is held of the clean image: each value once, as it is read, and windows until their last reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import convlens
from convlens.runtime.incremental.probing import Probing
from reference import nets

SIDE, PATCH = 16, 3
LAYERS = 4


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """Four convolutions, with a sum over the second's output and the fourth's."""
    nodes, weights = nets.convolutions(LAYERS, channels=4, inputs=2)
    nodes += [
        helper.make_node("Add", ["c3", "c1"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"]),
    ]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, SIDE, SIDE]),
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 4, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return convlens.load(path, device="cpu", threads=1, kind="image")


def probing_of(model: Any, image: NDArray[np.float32], starts: NDArray[np.int64]) -> Probing:
    def content(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.zeros((len(rows), 2, PATCH, PATCH), np.float32)

    return Probing(model.runner, "x", (2, 3), image, starts, (PATCH, PATCH), content, ["mean"])


def expected(model: Any, image: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[Any]:
    whole = np.repeat(image, len(starts), axis=0)
    for row, (top, left) in enumerate(starts.tolist()):
        whole[row, :, top : top + PATCH, left : left + PATCH] = 0
    found: NDArray[Any] = model.runner.run({"x": whole}, ["mean"])["mean"]
    return found


def test_clean_values_and_windows_are_held_once_and_no_longer_than_they_are_read(model: Any) -> None:
    rng = np.random.default_rng(1)
    image, other = (rng.normal(size=(1, 2, SIDE, SIDE)).astype(np.float32) for _ in range(2))
    starts = np.array([[0, 0], [6, 7], [13, 13], [2, 11]])
    probing = probing_of(model, image, starts)
    last = len(probing.parts.parts)
    probing.keep(last)
    rows = np.arange(len(starts))
    windows = probing.windows(rows, last)
    assert "c0" not in probing.laid.values  # its padded copy alone is read
    assert "mean" not in probing.laid.values  # which the dense rest makes
    assert windows.keys() == {"x", "sum"}
    found = probing.tail(last, 1)(windows)["mean"]
    np.testing.assert_allclose(found, expected(model, image, starts), rtol=0, atol=1e-5)

    following = probing.of(other, probing.content)
    assert following.laid.values.keys() == probing.laid.values.keys()
    found = following.tail(last, 1)(following.windows(rows, last))["mean"]
    np.testing.assert_allclose(found, expected(model, other, starts), rtol=0, atol=1e-5)
