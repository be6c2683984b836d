"""Shapes against what onnxruntime computes, with numbers and with symbols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from convlens.graph.load import load_graph
from convlens.graph.shapes import infer
from convlens.graph.sizes import Size, divide, fresh, product, symbol
from graph.nets import model, numbers, op, put


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def test_sizes() -> None:
    n, h = symbol("N"), symbol("H")
    assert n + n == 2 * n
    assert n - n == 0
    assert 2 * n * h == n * h * 2
    assert divide(6 * n * h, 3 * n) == 2 * h
    assert divide(n * (h + 1), h + 1) == n
    assert divide(n * (h + 1), h) is None
    assert divide(3 * n, 2) is None
    assert divide(7, 2) is None
    assert n // 2 != n // 2  # rounded, and not known how
    assert isinstance(n // 2, Size)
    assert (4 * n) % 2 == 0
    assert product([2, n, 3]) == 6 * n
    assert fresh() != fresh()
    assert (n.only(), (2 * n).only(), (n * h).only()) == ("N", None, None)


# nodes, weights, and the shape of y in symbols as the operators' definitions give it
CHAINS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], tuple[Any, ...]]] = {
    "rows": (
        [
            op("Shape", "x", "s"),
            op("Gather", "s zero", "n"),
            op("Concat", "n rest", "t", axis=0),
            op("Reshape", "x t", "y"),
        ],
        {"zero": ints(0), "rest": ints(-1)},
        ("N", None),
    ),
    "scalar": (
        [
            op("Shape", "x", "s"),
            op("Gather", "s zero", "n"),
            op("Unsqueeze", "n axis", "m"),
            op("Concat", "m four rest", "t", axis=0),
            op("Reshape", "x t", "y"),
        ],
        {"zero": np.int64(0), "axis": ints(0), "four": ints(4), "rest": ints(-1)},
        ("N", 4, None),
    ),
    "heads": (
        [
            op("Shape", "x", "s"),
            op("Slice", "s a b", "front"),
            op("Concat", "front two two rest", "t", axis=0),
            op("Reshape", "x t", "y"),
        ],
        {"a": ints(0), "b": ints(1), "two": ints(2), "rest": ints(-1)},
        ("N", 2, 2, None),
    ),
    "product": (
        [
            op("Shape", "x", "s"),
            op("Gather", "s three", "w"),
            op("Gather", "s two", "h"),
            op("Mul", "h w", "hw"),
            op("Concat", "keep c hw", "t", axis=0),
            op("Reshape", "x t", "y"),
        ],
        {"three": ints(3), "two": ints(2), "keep": ints(0), "c": ints(4)},
        ("N", 4, None),
    ),
    "back": (
        [
            op("Shape", "x", "s"),
            op("Reshape", "x flat", "a"),
            op("Relu", "a", "b"),
            op("Reshape", "b s", "y"),
        ],
        {"flat": ints(0, -1)},
        ("N", 4, "H", "W"),
    ),
    "like": (
        [
            op("MaxPool", "x", "a", kernel_shape=[2, 2], strides=[2, 2]),
            op("Shape", "x", "s"),
            op("Slice", "s two four", "hw"),
            op("Shape", "a", "sa"),
            op("Slice", "sa zero two", "nc"),
            op("Concat", "nc hw", "t", axis=0),
            op("Resize", "a - - t", "y"),
        ],
        {"zero": ints(0), "two": ints(2), "four": ints(4)},
        ("N", 4, "H", "W"),
    ),
    "filled": (
        [op("Shape", "x", "s"), op("ConstantOfShape", "s", "a"), op("Add", "x a", "y")],
        {},
        ("N", 4, "H", "W"),
    ),
    "expanded": (
        [op("Shape", "x", "s"), op("Expand", "one s", "y")],
        {"one": numbers(1, 4, 1, 1)},
        ("N", 4, "H", "W"),
    ),
    "doubled": ([op("Concat", "x x", "y", axis=0)], {}, (None, 4, "H", "W")),
    "padded": ([op("Pad", "x pads", "y")], {"pads": ints(0, 0, 1, 0, 0, 0, 0, 0)}, ("N", 4, None, "W")),
    "repeated": ([op("Tile", "x times", "y")], {"times": ints(1, 2, 1, 1)}, ("N", 8, "H", "W")),
    "cut": (
        [op("Slice", "x a b c", "y")],
        {"a": ints(0, 1), "b": ints(1 << 40, 3), "c": ints(0, 1)},
        ("N", 2, "H", "W"),
    ),
    "counted": (
        [
            op("Shape", "x", "s"),
            op("Gather", "s zero", "n"),
            op("Range", "a n b", "r"),
            op("Cast", "r", "f", to=TensorProto.FLOAT),
            op("Unsqueeze", "f axes", "g"),
            op("Mul", "x g", "y"),
        ],
        {"zero": np.int64(0), "a": np.int64(0), "b": np.int64(1), "axes": ints(1, 2, 3)},
        (None, 4, "H", "W"),
    ),
    "chosen": (
        [
            op("Shape", "x", "s"),
            op("Equal", "t minus", "test"),
            op("Where", "test s t", "u"),
            op("Expand", "x u", "y"),
        ],
        {"t": ints(-1, 4, -1, -1), "minus": ints(-1, -1, -1, -1)},
        ("N", 4, "H", "W"),
    ),
}


@pytest.mark.parametrize("case", CHAINS)
def test_shapes_that_the_graph_computes(tmp_path: Path, case: str) -> None:
    nodes, weights, expected = CHAINS[case]
    proto = model(nodes, {"x": ["N", 4, "H", "W"]}, ["y"], weights)
    graph, _ = load_graph(put(proto, tmp_path))
    assert graph.value("y").shape == expected
    names = [name for node in graph.nodes for name in node.outputs]
    for name in names:
        if name not in {value.name for value in proto.graph.output}:
            proto.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    for shape in [(1, 4, 6, 8), (3, 4, 8, 6)]:
        values = dict(zip(outputs, session.run(None, {"x": numbers(*shape)}), strict=True))
        found = infer(graph.ir, {"x": shape})
        given = dict(zip(("N", "H", "W"), (shape[0], *shape[2:]), strict=True))
        for name in names:
            assert found[name].shape == values[name].shape, name
            assert found[name].dtype == values[name].dtype.name
            symbolic = graph.value(name).shape
            assert symbolic is not None
            for dim, size in zip(symbolic, values[name].shape, strict=True):
                assert dim is None or (given[dim] if isinstance(dim, str) else dim) == size


WINDOWS: list[tuple[str, dict[str, Any]]] = [
    *(
        (kind, {"kernel_shape": [k], "strides": [s], "ceil_mode": c, **more})
        for kind in ("MaxPool", "AveragePool")
        for k, s in ((1, 2), (2, 3), (3, 2))
        for c in (0, 1)
        for more in ({}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"})
        if k >= s or "auto_pad" not in more  # elsewhere onnxruntime refuses
    ),
    ("MaxPool", {"kernel_shape": [3], "dilations": [2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", {"kernel_shape": [3], "pads": [1, 1], "strides": [2], "ceil_mode": 1}),
    ("ConvTranspose", {"kernel_shape": [3], "strides": [4], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", {"kernel_shape": [3], "strides": [2], "auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", {"kernel_shape": [3], "strides": [2], "pads": [1, 0], "output_padding": [1]}),
    ("ConvTranspose", {"kernel_shape": [3], "strides": [2], "output_shape": [14]}),
]


@pytest.mark.parametrize("opset", [11, 22])
@pytest.mark.parametrize("case", range(len(WINDOWS)))
def test_windows_are_counted_as_they_run(tmp_path: Path, case: int, opset: int) -> None:
    """As the kernels leave them: what onnxruntime infers beforehand may be another number."""
    kind, attributes = WINDOWS[case]
    reads, weights = ("x w", {"w": numbers(1, 1, 3)}) if kind == "ConvTranspose" else ("x", {})
    node = op(kind, reads, "y", **attributes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    for length in (6, 7):
        path = put(model([node], {"x": [1, 1, length]}, ["y"], weights, opset=opset), tmp_path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": np.ones((1, 1, length), np.float32)})
        shape = load_graph(path)[0].value("y").shape
        assert shape is not None
        assert shape[2:] == found.shape[2:]


def test_one_word_for_every_open_axis_is_not_one_size(tmp_path: Path) -> None:
    nodes = [op("Transpose", "x", "t", perm=[0, 1, 3, 2]), op("Concat", "x t", "y", axis=0)]
    graph, _ = load_graph(put(model(nodes[:1], {"x": ["N", 3, "?", "?"]}, ["t"]), tmp_path))
    assert graph.value("t").shape == ("N", 3, "?", "?")
    nodes = [op("Shape", "x", "s"), op("Gather", "s two", "h"), op("Gather", "s three", "w")]
    nodes += [op("Sub", "h w", "d"), op("ConstantOfShape", "d", "y")]
    proto = model(nodes, {"x": ["N", 3, "?", "?"]}, ["y"], {"two": ints(2), "three": ints(3)})
    graph, _ = load_graph(put(proto, tmp_path))
    assert graph.value("y").shape == (None,)  # and not the 0 that equal symbols would give


@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearSigmoid", "QLinearGlobalAveragePool", "Gelu"])
def test_operators_without_a_schema(tmp_path: Path, kind: str) -> None:
    scale, zero = np.float32(0.1), np.uint8(3)
    one = "q scale zero"
    reads = {
        "QLinearAdd": f"{one} {one} scale zero",
        "QLinearSigmoid": f"{one} scale zero",
        "QLinearGlobalAveragePool": f"{one} scale zero",
        "Gelu": "x",
    }[kind]
    attributes = {"channels_last": 0} if "Pool" in kind else {}
    nodes = [op("QuantizeLinear", "x scale zero", "q")] if kind != "Gelu" else []
    nodes += [op(kind, reads, "y", domain="com.microsoft", **attributes)]
    weights = {"scale": scale, "zero": zero} if kind != "Gelu" else {}
    proto = model(
        nodes, {"x": ["N", 4, 5, 5]}, ["y"], weights, imports=[onnx.helper.make_opsetid("com.microsoft", 1)]
    )
    found = infer(load_graph(put(proto, tmp_path))[0].ir, {"x": (2, 4, 5, 5)})["y"]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": numbers(2, 4, 5, 5)})
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype.name)


SPLIT = "SplitToSequence"
LISTS: dict[str, tuple[list[onnx.NodeProto], tuple[int | str | None, ...] | None]] = {
    "even parts": (
        [op(SPLIT, "x even", "s", axis=1), op("SequenceAt", "s one", "y")], ("N", 2, "H", "W"),
    ),
    "uneven parts": (
        [op(SPLIT, "x uneven", "s", axis=1), op("SequenceAt", "s one", "y")], ("N", None, "H", "W"),
    ),
    "one by one": (
        [op(SPLIT, "x", "s", axis=1, keepdims=0), op("SequenceAt", "s one", "y")], ("N", "H", "W"),
    ),
    "joined": (
        [op("SequenceConstruct", "x x", "s"), op("ConcatFromSequence", "s", "y", axis=1)],
        ("N", None, "H", "W"),
    ),
    "stacked": (
        [op("SequenceConstruct", "x x", "s"), op("ConcatFromSequence", "s", "y", axis=1, new_axis=1)],
        ("N", None, 4, "H", "W"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_what_comes_out_of_lists(tmp_path: Path, case: str) -> None:
    nodes, expected = LISTS[case]
    stored = {"one": np.array(1), "even": ints(2, 2), "uneven": ints(1, 3)}
    proto = model(nodes, {"x": ["N", 4, "H", "W"]}, ["y"], stored)
    found = load_graph(put(proto, tmp_path))[0].value("y")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": numbers(3, 4, 6, 8)})
    assert (found.dtype, found.shape) == ("float32", expected)
    assert found.shape is not None
    given = {"N": 3, "H": 6, "W": 8}
    assert len(found.shape) == y.ndim
    for dim, size in zip(found.shape, y.shape, strict=True):
        assert dim is None or (given[dim] if isinstance(dim, str) else dim) == size
