"""Local functions, whatever is inside them, and constants in all their forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convlens.errors import UnsupportedError
from convlens.graph.load import load_graph
from graph.held import held, ops, text
from graph.nets import model, put, refused

X = np.array([[1.0, -2.0, 3.0], [-0.5, 0.25, 4.0]], np.float32)
OWN = ', "own" : 1, "two" : 1'
NESTED = """
<domain : "own", opset_import : ["" : 17, "two" : 1]>
F <alpha : float = 0.5> (a) => (b) { t = LeakyRelu <alpha : float = @alpha> (a)  u = two.G(t)  b = Add(u, t) }
<domain : "two", opset_import : ["" : 17]>
G (a) => (b) { c = Constant <value = bool {1}> ()
    b = If(c) <then_branch = p () => (float[N,3] t) { t = Neg(a) },
               else_branch = q () => (float[N,3] s) { s = Abs(a) }> }
"""


def test_functions_in_functions_with_attributes(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y)
        { t = own.F <alpha = 0.25> (x)  u = own.F(t)  y = Add(t, u) }"""
    graph = held(text(source, functions=NESTED, domains=OWN), tmp_path, {"x": X})
    assert ops(graph) == ["LeakyRelu", "Neg", "Add", "LeakyRelu", "Neg", "Add", "Add"]


def test_functions_called_in_branches_whose_names_are_taken(tmp_path: Path) -> None:
    source = """(float[N,3] x, bool c) => (float[N,3] y) { h = Neg(x)  t = Abs(h)
        y = If(c) <then_branch = p () => (float[N,3] q) { q = own.F(h) },
                   else_branch = r () => (float[N,3] s) { v = own.F(x)  s = Add(v, t) }> }"""
    proto = text(source, functions=NESTED, domains=OWN)
    for condition in (True, False):
        held(proto, tmp_path, {"x": X, "c": np.array(condition)})


def test_a_function_that_hands_on_its_input(tmp_path: Path) -> None:
    function = helper.make_function(
        "own",
        "Both",
        ["a"],
        ["a", "b"],
        [helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    proto = model(
        [helper.make_node("Both", ["x"], ["y", "z"], domain="own")],
        {"x": ["N", 3]},
        ["y", "z"],
        functions=[function],
        imports=[helper.make_opsetid("own", 1)],
    )
    graph, _ = load_graph(put(proto, tmp_path))
    assert graph.outputs == ("y", "z")
    assert [(node.op, node.outputs) for node in graph.nodes] == [("Relu", ("z",)), ("Identity", ("y",))]


def test_unsorted_functions(tmp_path: Path) -> None:
    function = helper.make_function(
        "own",
        "Late",
        ["a"],
        ["b"],
        [helper.make_node("Neg", ["t"], ["b"]), helper.make_node("Relu", ["a"], ["t"])],
        [helper.make_opsetid("", 17)],
    )
    proto = model(
        [helper.make_node("Late", ["x"], ["y"], domain="own")],
        {"x": ["N", 3]},
        ["y"],
        functions=[function],
        imports=[helper.make_opsetid("own", 1)],
    )
    graph, _ = load_graph(put(proto, tmp_path))
    assert ops(graph) == ["Relu", "Neg"]


def test_function_in_another_opset_with_the_same_operators(tmp_path: Path) -> None:
    other = '<domain : "own", opset_import : ["" : 16]> F (a) => (b) { b = Relu(a) }'
    source = "(float[N,3] x) => (float[N,3] y) { y = own.F(x) }"
    assert ops(held(text(source, functions=other, domains=OWN), tmp_path, {"x": X})) == ["Relu"]


def test_function_whose_operators_mean_something_else_is_refused(tmp_path: Path) -> None:
    other = '<domain : "own", opset_import : ["" : 13]> F (a) => (b) { b = ReduceMean <axes = [1]> (a) }'
    source = "(float[N,3] x) => (float[N,1] y) { y = own.F(x) }"
    path = put(text(source, functions=other, domains=OWN, opset=18), tmp_path)
    with refused(UnsupportedError, "own.F", "opset 13", "18", "ReduceMean", "export"):
        load_graph(path)


def test_unused_functions_go(tmp_path: Path) -> None:
    source = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"
    graph = held(text(source, functions=NESTED, domains=OWN), tmp_path, {"x": X})
    assert not graph.ir.functions


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value_int = 3", np.array(3)),
        ("value_ints = [1, 2, 3]", np.array([1, 2, 3])),
        ("value_float = 0.5", np.array(0.5, np.float32)),
        ("value_floats = [1.0, 2.0, 3.0]", np.array([1, 2, 3], np.float32)),
        ("value = float[3] {1, 2, 3}", np.array([1, 2, 3], np.float32)),
    ],
)
def test_every_form_of_constant(attribute: str, expected: np.ndarray, tmp_path: Path) -> None:
    source = (
        "(float[N,3] x) => (float[N,3] y) "
        f"{{ c = Constant <{attribute}> ()  f = Cast <to = 1> (c)  y = Mul(x, f) }}"
    )
    graph = held(text(source), tmp_path, {"x": X})
    assert graph.constants["c"].dtype == expected.dtype
    np.testing.assert_array_equal(graph.constants["c"], expected)
    assert ops(graph) == ["Mul"]


def test_a_constant_that_is_an_output(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y, float[2] z)
        { y = Relu(x)  z = Constant <value_floats = [1.0, 2.0]> () }"""
    held(text(source), tmp_path, {"x": X})


@pytest.mark.parametrize("rows", [False, True])
def test_sparse_constants_and_weights(rows: bool, tmp_path: Path) -> None:
    def sparse(name: str) -> onnx.SparseTensorProto:
        values = helper.make_tensor(name, TensorProto.FLOAT, [2], [5.0, 7.0])
        places = [0, 1, 1, 2] if rows else [1, 5]
        shape = [2, 2] if rows else [2]
        return helper.make_sparse_tensor(
            values, helper.make_tensor("at", TensorProto.INT64, shape, places), [2, 3]
        )

    nodes = [
        helper.make_node("Constant", [], ["c"], sparse_value=sparse("v")),
        helper.make_node("Add", ["x", "c"], ["a"]),
        helper.make_node("Mul", ["a", "w"], ["y"]),
    ]
    proto = model(nodes, {"x": [2, 3]}, ["y"])
    proto.graph.sparse_initializer.append(sparse("w"))
    graph = held(proto, tmp_path, {"x": X})
    np.testing.assert_array_equal(graph.constants["w"], [[0, 5, 0], [0, 0, 7]])
    assert "sparse weights written out" in graph.changes


def test_outputs_that_are_inputs_weights_or_twice_there(tmp_path: Path) -> None:
    proto = text(
        "(float[N,3] x) => (float[N,3] y, float[N,3] x, float[N,3] y, float[3] w)"
        "<float[3] w = {1, 2, 3}> { y = Relu(x) }"
    )
    held(proto, tmp_path, {"x": X})
