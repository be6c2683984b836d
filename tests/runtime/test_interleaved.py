"""Values that are handed out early keep their bits, and nothing depends on its going well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convlens.graph.load import load_graph
from convlens.runtime import interleaved as module
from convlens.runtime.runner import Runner
from reference import nets

LAYERS = 6
NAMES = [f"a{number}" for number in range(LAYERS)]
IMAGES = np.random.default_rng(1).normal(size=(5, 3, 12, 12)).astype(np.float32)


def chain(folder: Path) -> Path:
    """Convolutions in a row, every rectifier of which is read by the next convolution alone."""
    nodes, weights = nets.convolutions(LAYERS, channels=16, inputs=3, after="Relu")
    nodes.append(helper.make_node("GlobalAveragePool", [NAMES[-1]], ["y"]))
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    path = folder / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def held(runner: Runner) -> dict[str, Any]:
    return runner.run({"x": IMAGES}, [*NAMES, "y"], 2)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(load_graph(chain(tmp_path))[0], "cpu", 1)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in [*NAMES, "y"])


def test_bits_are_kept(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    proto: list[onnx.ModelProto] = []
    drawn = module._drawn_forward
    monkeypatch.setattr(module, "_drawn_forward", lambda given: (proto.append(given), drawn(given))[1])
    expected = held(runner)
    assert not proto
    assert same(held(runner.for_many(1)), expected)
    operators = [node.op_type for node in proto[0].graph.node]
    if module._BACK not in operators:
        pytest.skip("onnxruntime has no blocked layout on this processor")
    places = [number for number, name in enumerate(operators) if name == module._BACK]
    assert len(places) > LAYERS // 2
    assert operators[places[0] - 1] == "Conv"
    assert np.diff(places).max() <= 2


@pytest.mark.parametrize("fails", ["written", "read", "again"])
def test_where_it_fails_values_are_there_all_the_same(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    expected = held(runner)

    def refuse(*given: Any) -> Any:
        raise OSError("no room")

    def spoilt(proto: onnx.ModelProto) -> bool:
        proto.graph.node[0].op_type = "Nothing"
        return True

    if fails == "written":
        monkeypatch.setattr(module.Path, "__truediv__", lambda folder, name: f"/nowhere/at/all/{name}")
    elif fails == "read":
        monkeypatch.setattr(module.onnx, "load", refuse)
    else:
        monkeypatch.setattr(module, "_drawn_forward", spoilt)
    assert same(held(runner.for_many(1)), expected)


def test_heavy_models_and_few_values_are_left_alone(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(module, "_drawn_forward", lambda proto: bool(seen.append(proto)))
    many = runner.for_many(1)
    many.run({"x": IMAGES}, ["y"], 2)
    assert not seen
    monkeypatch.setattr(module, "_MOST", 100)
    held(many)
    assert not seen
