"""Inputs bound to constants: the same numbers as when they are fed, and one line where that cannot be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import convlens
from convlens.cli.app import run
from convlens.errors import CardError, UnsupportedError, UsageError
from convlens.graph.graph import Graph
from convlens.graph.load import load_graph
from convlens.recording.plan import plan_of
from convlens.runtime.runner import Runner
from graph.held import ran, text
from graph.nets import numbers, put, refused

X = numbers(3, 4)


def bound(
    proto: onnx.ModelProto, folder: Path, feeds: Mapping[str, Any], same: Mapping[str, NDArray[Any]]
) -> Graph:
    """The graph with ``feeds`` bound; its outputs found equal to the file's with ``same`` fed."""
    path = put(proto, folder)
    graph, _ = load_graph(path, feeds)
    assert [value.name for value in graph.inputs] == ["x"]
    names = list(graph.outputs)
    expected = ran(path, {"x": X, **same}, names)
    found = Runner(graph, "cpu", 1).run({"x": X}, names, batch_size=3)
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_array_equal(found[name], array)
    return graph


def test_a_number_for_a_scalar(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float s) => (float[N,4] y) { y = Mul(x, s) }")
    graph = bound(proto, tmp_path, {"s": 2.5}, {"s": np.array(2.5, np.float32)})
    assert graph.changes == ("input s bound to 2.5",)
    assert graph.constants["s"].dtype == np.float32


def test_a_number_for_a_shape(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float[2,1,4] s) => (float y) { y = Add(x, s) }")
    bound(proto, tmp_path, {"s": 1}, {"s": np.ones((2, 1, 4), np.float32)})


def test_lists_arrays_and_files(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float[4] s) => (float[N,4] y) { y = Mul(x, s) }")
    array = np.array([1, 2, 3, 4], np.float32)
    np.save(tmp_path / "s.npy", array)
    for feed in ([1, 2, 3, 4], array, array.astype(np.float64), tmp_path / "s.npy", str(tmp_path / "s.npy")):
        bound(proto, tmp_path, {"s": feed}, {"s": array})


@pytest.mark.parametrize(("shape", "rows"), [("1,4", 1), ("N,4", 3)])
def test_numbers_in_a_row_fill_the_shape(shape: str, rows: int, tmp_path: Path) -> None:
    proto = text(f"(float[N,4] x, float[{shape}] s) => (float y) {{ y = Mul(x, s) }}")
    row = np.array([1, 2, 3, 4], np.float32)
    bound(proto, tmp_path, {"s": [1, 2, 3, 4]}, {"s": np.repeat(row[None], rows, axis=0)})


@pytest.mark.parametrize("feed", [0.5, [1, 2, 3, 4]])
@pytest.mark.parametrize("shape", ["1,4", "N,4"])
def test_the_file_is_run_with_what_was_bound(feed: Any, shape: str, tmp_path: Path) -> None:
    proto = text(f"(float[N,4] x, float[{shape}] s) => (float[N,4] y) {{ y = Mul(x, s) }}")
    model = convlens.load(put(proto, tmp_path), device="cpu", feeds={"s": feed})
    assert model.batching().free
    checks = model.certificate().checks
    assert all(not check.note for check in checks if "file against" in check.input)
    assert any("file against" in check.input for check in checks)


def test_a_shared_symbol_follows_the_input_that_stays(tmp_path: Path) -> None:
    proto = text(
        "(float[N,L] x, float[N,L] mask, float[2,N] h) => (float[N,L] y, float[2,N] z)"
        "{ y = Mul(x, mask)  z = Neg(h) }"
    )
    same = {"mask": np.full((3, 4), 2, np.float32), "h": np.full((2, 3), 5, np.float32)}
    graph = bound(proto, tmp_path, {"mask": 2, "h": [[5], [5]]}, same)
    assert graph.inputs[0].shape == ("N", "L"), "any number of rows of any length"
    other = Runner(graph, "cpu", 1).run({"x": numbers(5, 7)}, ["y", "z"])
    np.testing.assert_array_equal(other["y"], 2 * numbers(5, 7))
    assert other["z"].shape == (2, 5)


def test_rows_given_for_a_shared_symbol_fix_it(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float[N,4] s) => (float[N,4] y) { y = Mul(x, s) }")
    rows = numbers(3, 4, seed=7)
    graph = bound(proto, tmp_path, {"s": rows}, {"s": rows})
    assert graph.inputs[0].shape == (3, 4)


@pytest.mark.parametrize("names", ["float[?,4] x, float[?,4] s", "float[N,4] x, float[?,4] s"])
def test_where_nobody_knows_the_batch_rows_run_one_by_one(names: str, tmp_path: Path) -> None:
    proto = text(f"({names}) => (float y) {{ y = Concat <axis = 1> (x, s) }}")
    for value in proto.graph.input:  # the text form has no unnamed dimension
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "?":
                dim.Clear()
    path = put(proto, tmp_path)
    graph, _ = load_graph(path, {"s": 1})
    runner = Runner(graph, "cpu", 1)
    found = runner.run({"x": X}, ["y"], batch_size=3)["y"]
    for row in range(3):
        feeds = {"x": X[row : row + 1], "s": np.ones((1, 4), np.float32)}
        np.testing.assert_array_equal(found[row : row + 1], ran(path, feeds, ["y"])[0])


def test_an_input_that_has_a_default(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float s) => (float[N,4] y) <float s = {3}> { y = Mul(x, s) }")
    bound(proto, tmp_path, {"s": 2}, {"s": np.array(2, np.float32)})


def test_an_input_that_is_an_output_too(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, float[2] s) => (float[N,4] y, float[2] s) { y = Neg(x) }")
    bound(proto, tmp_path, {"s": [1, 2]}, {"s": np.array([1, 2], np.float32)})


def test_a_condition_that_is_bound(tmp_path: Path) -> None:
    proto = text("""(float[N,4] x, int64 rate) => (float[N,4] y) <int64 want = {16000}>
        { c = Equal(rate, want)
        y = If(c) <then_branch = p () => (float[N,4] k) { k = Neg(x) },
                   else_branch = q () => (float[N,4] m) { m = Exp(x) }> }""")
    for rate, op in ((16000, "Neg"), (8000, "Exp")):
        graph = bound(proto, tmp_path, {"rate": rate}, {"rate": np.array(rate)})
        assert [node.op for node in graph.nodes] == [op]


def test_a_size_that_is_said_decides_conditions(tmp_path: Path) -> None:
    proto = text("""(float[N,3,H,8] x) => (float[N,3,H,8] y) <int64 two = {2}, int64 want = {6}>
        { s = Shape(x)  h = Gather <axis = 0> (s, two)  c = Equal(h, want)
        y = If(c) <then_branch = p () => (float[N,3,H,8] k) { k = Neg(x) },
                   else_branch = q () => (float[N,3,H,8] m) { m = Exp(x) }> }""")
    path = put(proto, tmp_path)
    assert [node.op for node in convlens.load(path, device="cpu").graph.nodes][-1] == "If"
    for height, op in ((6, "Neg"), (5, "Exp")):
        graph = convlens.load(path, device="cpu", size=(height, 8)).graph
        assert [node.op for node in graph.nodes] == [op]
        assert graph.inputs[0].shape == ("N", 3, height, 8)


PROTO = """(float[N,4] x, int64[2] s, float[N,M] t) => (float[N,4] y) { f = Cast <to = 1> (s)
    r = ReduceSum <keepdims = 0> (f)  u = ReduceSum <keepdims = 0> (t)  v = Add(r, u)  y = Mul(x, v) }"""


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"sr": 1}, ["no input 'sr'", "x, s, t"]),
        ({"s": 0.5}, ["'s'", "int64", "0.5", "whole numbers"]),
        ({"s": [1, 2, 3]}, ["'s'", "[2]", "3 numbers"]),
        ({"s": [[1, 2]]}, ["'s'", "[2]", "[1, 2]"]),
        ({"s": [1, [2, 3]]}, ["differ in length"]),
        ({"s": ["a", "b"]}, ["expected a number"]),
        ({"t": 1.0}, ["'t'", "dimension 1 (M)", "array"]),
        ({"s": "nowhere.npy"}, ["nowhere.npy", "expected a .npy file"]),
        ({"x": np.ones((1, 4)), "s": 1, "t": np.ones((1, 2))}, ["every input is bound", "one left"]),
    ],
)
def test_what_does_not_fit_is_refused(feeds: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with refused(UsageError, *words):
        load_graph(put(text(PROTO), tmp_path), feeds)


def test_numbers_that_a_type_cannot_hold(tmp_path: Path) -> None:
    proto = text("(float[N,4] x, uint8[1] s) => (float[N,4] y, uint8[1] z) { y = Neg(x)  z = Identity(s) }")
    with refused(UsageError, "'s'", "uint8", "cannot hold"):
        load_graph(put(proto, tmp_path), {"s": 300})


def two_inputs() -> onnx.ModelProto:
    return text(
        "(float[N,3,8,8] x, float s) => (float[N,4] y)"
        "{ m = Mul(x, s)  c = Conv(m, w)  g = GlobalMaxPool(c)  y = Flatten(g) }",
        {"w": numbers(4, 3, 3, 3)},
    )


def test_methods_say_what_to_bind(tmp_path: Path) -> None:
    model = convlens.load(put(two_inputs(), tmp_path), device="cpu")
    with refused(UnsupportedError, "several inputs (x, s)", "--feed s=VALUE", "[feeds]", "feeds={'s': ...}"):
        model.run("saliency", numbers(1, 3, 8, 8), "y:0")
    with refused(UnsupportedError, "several inputs (x, s)", "--feed s=VALUE"):
        plan_of(model)  # of a recording


def test_feeds_are_in_the_result_and_in_the_certificate(tmp_path: Path) -> None:
    path = put(two_inputs(), tmp_path)
    results = {}
    for scale in (1.0, 2.0):
        model = convlens.load(path, device="cpu", threads=1, feeds={"s": scale})
        assert model.certificate().passed
        results[scale] = model.run("saliency", numbers(1, 3, 8, 8), "y:0")
        assert results[scale].how["feeds"] == {"s": scale}
    np.testing.assert_allclose(results[2.0].array, 2 * results[1.0].array, rtol=1e-6)


def test_cards_bind(tmp_path: Path) -> None:
    path = put(two_inputs(), tmp_path)
    np.save(tmp_path / "s.npy", np.array(3.0, np.float32))
    for said, expected in (("2.0", 2.0), ('"s.npy"', 3.0)):
        (tmp_path / "card.toml").write_text(f"[feeds]\ns = {said}\n")
        model = convlens.load(path, device="cpu")
        assert model.graph.bound["s"] == expected
    assert convlens.load(path, device="cpu", feeds={"s": 5}).graph.bound["s"] == 5
    (tmp_path / "card.toml").write_text("[feeds]\ns = {a = 1}\n")
    with refused(CardError, "card.toml", "feeds", "s is no number"):
        convlens.load(path, device="cpu")


def test_the_command_line_binds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(
        text(
            "(float[N,3,8,8] x, float[2] s, int64 k) => (float[N,3,8,8] y, float[2] z, int64 l)"
            "{ y = Neg(x)  z = Neg(s)  l = Neg(k) }"
        ),
        tmp_path,
    )
    assert run(["layers", str(path), "--feed", "s=1,2.5", "--feed", "k=3"]) == 0
    assert "input s bound to an array of shape [2]; input k bound to 3" in capsys.readouterr().out
    np.save(tmp_path / "s.npy", np.ones(2, np.float32))
    assert run(["layers", str(path), "--json", "--feed", f"s={tmp_path / 's.npy'}", "--feed", "k=3"]) == 0
    assert [layer["op"] for layer in json.loads(capsys.readouterr().out)["layers"]] == ["Neg"]
    for wrong, words in (("s", "NAME=VALUE"), ("s=a", "expected a number"), ("q=1", "no input 'q'")):
        assert run(["layers", str(path), "--feed", wrong]) == 2
        assert words in capsys.readouterr().err
