"""``If`` with a condition that is known, and what stays where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convlens.errors import UnsupportedError
from convlens.graph.load import load_graph
from graph.held import held, ops, text
from graph.nets import opened, put, refused

X = np.array([[1.0, -2.0, 3.0], [-0.5, 0.25, 4.0]], np.float32)
TWO = """<then_branch = p () => (float[N,3] k) { k = Neg(a) },
    else_branch = q () => (float[N,3] m) { m = Exp(a) }>"""


@pytest.mark.parametrize("condition", [0, 1])
def test_a_stored_condition(condition: int, tmp_path: Path) -> None:
    source = f"(float[N,3] x) => (float[N,3] y) <bool c = {{{condition}}}> {{ a = Abs(x)  y = If(c) {TWO} }}"
    assert ops(held(text(source), tmp_path, {"x": X})) == ["Abs", ("Exp", "Neg")[condition]]


def test_an_output_whose_shape_the_file_leaves_out_stays_without_one(tmp_path: Path) -> None:
    """The branch knows its shape; at the border the file's word stands."""
    source = f"(float[N,3] x) => (float y) <bool c = {{1}}> {{ a = Abs(x)  y = If(c) {TWO} }}"
    graph = held(text(source), tmp_path, {"x": X})
    assert ops(graph) == ["Abs", "Neg"]


@pytest.mark.parametrize("length", [3, 4])
def test_a_condition_from_a_known_size_with_an_open_batch(length: int, tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) {{ a = Abs(x)  s = Shape(x)
        one = Constant <value_int = 1> ()  n = Gather <axis = 0> (s, one)
        want = Constant <value_int = {length}> ()  c = Equal(n, want)
        y = If(c) {TWO} }}"""
    graph = held(text(source), tmp_path, {"x": X})
    assert ops(graph)[0] == "Abs"
    assert ops(graph)[-1] == ("Neg" if length == 3 else "Exp")
    assert "If" not in ops(graph)
    assert "Equal" not in ops(graph), "what only the condition needed goes with it"


def test_a_condition_from_the_open_batch_stays(tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) {{ a = Abs(x)  s = Shape(x)
        zero = Constant <value_int = 0> ()  n = Gather <axis = 0> (s, zero)
        want = Constant <value_int = 2> ()  c = Equal(n, want)  y = If(c) {TWO} }}"""
    for rows in (1, 2):
        assert "If" in ops(held(text(source), tmp_path, {"x": X[:rows]}))


def test_names_that_collide(tmp_path: Path) -> None:
    # k and h stand in both branches, in the graph behind the node, and in another node's branches
    source = """(float[N,3] x) => (float[N,3] y, float[N,3] z, float[N,3] w) <bool c = {1}, bool d = {0}> {
        y = If(c) <then_branch = p () => (float[N,3] k) { h = Neg(x)  k = Exp(h) },
                   else_branch = q () => (float[N,3] k) { h = Abs(x)  k = Neg(h) }>
        z = If(d) <then_branch = p () => (float[N,3] k) { h = Neg(x)  k = Exp(h) },
                   else_branch = q () => (float[N,3] k) { h = Abs(x)  k = Neg(h) }>
        h = Relu(x)  k = Neg(h)  w = Add(k, y) }"""
    graph = held(text(source), tmp_path, {"x": X})
    assert "If" not in ops(graph)
    assert {"h", "k"} <= graph.producers.keys()
    assert graph.producers["k"].op == "Neg"


def test_nested_conditions_and_weights_of_branches(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y) <bool c = {1}> {
        a = Relu(x)
        y = If(c) <then_branch = p () => (float[N,3] u) <float[3] w = {1, 2, 3}> {
                d = Not(c)  b = Mul(a, w)
                u = If(d) <then_branch = r () => (float[N,3] i) { i = Neg(b) },
                           else_branch = s () => (float[N,3] j) <float[3] w2 = {3, 2, 1}>
                    { b2 = Add(b, a)  j = Mul(b2, w2) }> },
            else_branch = q () => (float[N,3] v) { v = Exp(x) }> }"""
    graph = held(text(source), tmp_path, {"x": X})
    assert ops(graph) == ["Relu", "Mul", "Add", "Mul"]


def test_a_branch_that_hands_on_outer_values_and_constants(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y, float[3] z) <bool c = {1}> { a = Abs(x)
        y, z = If(c) <then_branch = p () => (float[N,3] i, float[3] w)
                { i = Identity(a)  w = Constant <value_floats = [1.0, 2.0, 3.0]> () },
            else_branch = q () => (float[N,3] k, float[3] m)
                { k = Neg(x)  m = Constant <value_floats = [1.0, 2.0, 3.0]> () }> }"""
    held(text(source), tmp_path, {"x": X})


def test_a_condition_inside_a_loop(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y) <int64 m = {3}, bool c = {1}> { b = Abs(x)
        y = Loop(m, c, x) <body = l (int64 i, bool go, float[N,3] s) => (bool on, float[N,3] t)
            { on = Identity(go)  k = Constant <value = bool {1}> ()
              t = If(k) <then_branch = p () => (float[N,3] q) { q = Add(s, b) },
                         else_branch = r () => (float[N,3] q) { q = Abs(s) }> }> }"""
    graph = held(text(source), tmp_path, {"x": X})
    loop = graph.producers["y"]
    assert loop.captures == ("b",)
    assert not any(node.op_type == "If" for node in graph.ir.graph.all_nodes())


def test_a_condition_from_the_data_stays(tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) <float none = {{0}}> {{ a = Abs(x)
        sum = ReduceSum <keepdims = 0> (x)  c = Greater(sum, none)  y = If(c) {TWO} }}"""
    graph = held(text(source), tmp_path, {"x": X})
    branch = graph.producers["y"]
    assert branch.captures == ("a",)
    assert graph.consumers["a"] == (branch,)
    assert {"a", "c", "x"} <= graph.ancestors(["y"])
    loaded = opened(text(source), tmp_path)
    assert [layer.op for layer in loaded.layers][-1] == "If"


def test_a_loop_is_read_and_refused_with_the_node(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y) <int64 m = {3}, bool c = {1}> {
        y = Loop(m, c, x) <body = l (int64 i, bool go, float[N,3] s) => (bool on, float[N,3] t)
            { on = Identity(go)  t = Abs(s) }> }"""
    with refused(UnsupportedError, "Loop", "'y'", "dynamic control flow"):
        opened(text(source), tmp_path).instrument()


def test_a_branch_that_reads_what_nothing_computes(tmp_path: Path) -> None:
    from convlens.errors import ModelFileError

    source = """(float[N,3] x, bool c) => (float[N,3] y) { y = If(c)
        <then_branch = p () => (float[N,3] k) { k = Neg(ghost) },
         else_branch = q () => (float[N,3] m) { m = Exp(x) }> }"""
    with refused(ModelFileError, "If", "'ghost'"):
        load_graph(put(text(source), tmp_path))
