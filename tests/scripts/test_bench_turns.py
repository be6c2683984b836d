"""The benchmarks' harness: who takes turns, what is measured of them, and that equal work is compared."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

SCRIPTS = Path(__file__).parents[2] / "scripts"

CHILD = """
import os, sys, time
sys.path.insert(0, {benches!r})
import numpy as np
from turns_child import serve

def way(what):
    def make(settings, started):
        started()
        if what == "missing":
            raise ImportError("no such peer")
        seen = []
        def work(size):
            with open(settings["log"], "a") as log:
                log.write(what)
            seen.append(size)
            print("a library talks")
            os.write(1, b"and from below\\n")
            if what == "c" and len(seen) == 2:
                raise ValueError("the second\\nturn fails")
            if what == "d":
                print("last words", file=sys.stderr)
                sys.stderr.flush()
                os._exit(3)
            if what == "b":
                time.sleep(0.2)
            held = np.ones(size << 17)
            end = time.process_time() + (0.1 if what == "a" else 0)
            while time.process_time() < end:
                pass
            return {{"count": 2, "mean": held.mean()}}, np.arange(3) + len(seen)
        return work
    return make

serve({{name: way(name) for name in ("a", "b", "c", "d", "missing")}})
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: importlib.import_module(f"benches.{name}")


@pytest.fixture
def child(tmp_path: Path) -> str:
    path = tmp_path / "child.py"
    path.write_text(CHILD.format(benches=str(SCRIPTS / "benches")), encoding="utf-8")
    return str(path)


def test_turns(bench: Any, child: str, tmp_path: Path) -> None:
    turns, log = bench("turns"), tmp_path / "log"
    names = ("a", "b", "c", "d", "missing")
    ways = {name: turns.Way(sys.executable, child, name, {"log": str(log)}) for name in names}
    asks = {name: {"size": 40} for name in names}
    found, failed = turns.rounds(ways, asks, 3, tmp_path, fewer={"b": 2})
    assert {name: len(each) for name, each in found.items()} == {"a": 3, "b": 2}
    assert log.read_text() == "abcd" + "bca" + "a"  # the order moves on; who failed takes no further part
    assert failed == {
        "c": "ValueError: the second turn fails",
        "d": "ended with 3: last words",
        "missing": "ImportError: no such peer",
    }
    for turn in found["a"]:
        assert 0.1 <= turn.cpu <= turn.wall + 0.05
    for turn in found["b"]:
        assert turn.wall >= 0.2 > turn.cpu  # sleep is no work
    for turn in (*found["a"], *found["b"]):
        assert turn.peak >= 36 << 20  # some of what was held before may be given back meanwhile
        assert turn.resident >= turn.peak
        assert turn.says == {"count": 2, "mean": 1.0}
    assert np.load(found["a"][0].array).tolist() == [1, 2, 3]
    assert found["a"][1].array is None


def test_warming_up_is_not_counted(bench: Any, child: str, tmp_path: Path) -> None:
    turns = bench("turns")
    ways = {"a": turns.Way(sys.executable, child, "a", {"log": str(tmp_path / "log")})}
    found, failed = turns.rounds(ways, {"a": {"size": 1}}, 1, tmp_path, warm={"a": {"size": 2}})
    assert not failed
    assert np.load(found["a"][0].array).tolist() == [2, 3, 4]


def test_what_does_not_answer_is_ended(bench: Any, tmp_path: Path) -> None:
    turns, script = bench("turns"), tmp_path / "silent.py"
    script.write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    process = turns.Process(sys.executable, str(script), "way", {}, 1, limit=0.3)
    with pytest.raises(turns.FailedError, match="ended with -9"):
        process.ask({})
    process.end()


def test_ratios(bench: Any) -> None:
    turns = bench("turns")
    slow = [turns.Turn(cpu, 0, 0, 0, {"count": 10}) for cpu in (4.0, 6.0, 9.0)]
    fast = [turns.Turn(cpu, 0, 3 << 20, 5 << 20, {"count": 20}) for cpu in (2.0, 2.0, 6.0)]
    assert str(turns.ratio(slow, fast)) == "2.00 (1.50 - 3.00)"
    assert turns.ratio(slow, fast, 10).median == 20
    assert str(turns.ratio(slow[:1], fast)) == "2.00"
    assert turns.rates(fast, slow).values == [4, 6, 3]  # twice as much in a half, a third, two thirds
    assert turns.middle(slow) == 6
    assert turns.most(fast) == "3 / 5"


def test_grid(bench: Any) -> None:
    occlusion = bench("occlusion")
    grid = occlusion.Grid(224, 7)
    assert len(grid.starts) == 27
    assert grid.some == [0, 40, 80, 120, 160, 200, 208]
    assert grid.scale == (1 + 27 * 27) / (1 + 7 * 7)
    assert set(grid.some) <= set(grid.starts)
    assert occlusion.Grid(224, 0).some == grid.starts
    assert occlusion.Grid(299, 7).some[-2:] == [240, 283]  # moved in, as the whole run has it
    assert occlusion.Grid(299, 7).starts[-2:] == [280, 283]


def test_lost(bench: Any) -> None:
    found = bench("occlusion").lost(np.array([1.0, 3.0]), [[0, 0], [0, 8]], 32)
    assert found[0, [0, 7, 8, 15, 16, 23, 24]].tolist() == [1, 1, 2, 2, 3, 3, 0]
    assert not found[16:].any()


def test_picture(bench: Any) -> None:
    peers = bench("peers")
    found = peers.picture("inception_v3")
    assert found.shape == (1, 3, 299, 299)
    assert found.dtype == np.float32
    assert abs(found.mean()) < 1e-4
    assert abs(found.std() - 1) < 1e-4
    assert np.array_equal(found, peers.picture("inception_v3"))


def test_without_a_gpu_it_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convlens.runtime.providers.has_cuda", lambda: False)
    with pytest.raises(SystemExit, match=r"^scripts/bench gpu: device is 'cuda', but no CUDA driver"):
        bench("gpu").run(argparse.Namespace(device="cuda"))


def test_the_same_work(bench: Any, tmp_path: Path) -> None:
    """What ConvLens and the plain loop measure beside each other are the same probabilities."""
    turns, grid = bench("turns"), bench("occlusion").Grid(40, 0)
    rng = np.random.default_rng(0)
    image, model = rng.normal(size=(1, 3, 40, 40)).astype(np.float32), tmp_path / "net.onnx"
    np.save(tmp_path / "image.npy", image)
    onnx.save(_net(rng), model)
    settings = {"model": str(model), "image": str(tmp_path / "image.npy"), "threads": 1}
    ways = {
        name: turns.Way(sys.executable, "occlusion_child.py", name, settings)
        for name in ("convlens", "onnxruntime")
    }
    places = [[top, left] for top in grid.some for left in grid.some]
    ask = {"patch": 16, "target": 2}
    asks = {
        "convlens": {**ask, "stride": [8, 8], "exact": "dense"},
        "onnxruntime": {**ask, "places": places, "batch": 3},
    }
    found, failed = turns.rounds(ways, asks, 1, tmp_path)
    assert not failed
    own, plain = (np.load(found[name][0].array) for name in ("convlens", "onnxruntime"))
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for index, (top, left) in enumerate(places):
        hidden = image.copy()
        hidden[:, :, top : top + 16, left : left + 16] = 0
        scores = session.run(None, {"x": hidden})[0][0].astype(np.float64)
        expected = np.exp(scores[2]) / np.exp(scores).sum()
        assert plain[index] == pytest.approx(expected, rel=1e-5)
        assert own.ravel()[index] == pytest.approx(expected, rel=1e-5)
    assert found["convlens"][0].says["count"] == 1 + len(places)
    assert found["convlens"][0].says["rows"] == grid.starts


def _net(rng: np.random.Generator) -> onnx.ModelProto:
    weights = {"w": (4, 3, 3, 3), "m": (4, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 40, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
