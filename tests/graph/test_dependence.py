"""What hangs on the numbers of the input, and what on their count alone: held against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from convlens.graph.dependence import dependent
from graph.nets import model, numbers, op, opened

STORED: dict[str, Any] = {
    "w": numbers(4, 3, 3, 3),
    "two": np.array(2.0, np.float32),
    "front": np.array([0], np.int64),
    "minus": np.array([-1], np.int64),
    "zero": np.array(0.0, np.float32),
    "from": np.array(0, np.int64),
    "step": np.array(1, np.int64),
}
NODES = [
    op("Conv", "x w", "conv"),
    op("Shape", "conv", "shape"),
    op("Cast", "shape", "real", to=1),
    op("Div", "real two", "half"),
    op("ReduceMax", "half", "longest", keepdims=0),
    op("Div", "conv longest", "scaled"),
    op("Reshape", "conv minus", "line"),
    op("Greater", "line zero", "above"),
    op("NonZero", "above", "places"),
    op("Shape", "places", "count"),
    op("Cast", "count", "found", to=1),
    op("ArgMax", "line", "best", keepdims=0),
    op("Range", "from best step", "up"),
    op("Shape", "up", "before"),
    op("Cast", "before", "until", to=1),
    op("Gather", "line best", "highest"),
    op("Shape", "highest", "none"),
    op("Size", "line", "all"),
    op("Cast", "all", "total", to=1),
    op("Mul", "total two", "twice"),
]
NAMES = [name for node in NODES for name in node.output]


def test_what_moves_with_the_numbers_is_told_from_what_moves_with_their_count(tmp_path: Path) -> None:
    proto = model(NODES, {"x": ["N", 3, "H", "W"]}, NAMES, STORED)
    found = opened(proto, tmp_path)
    said = dependent(found.graph, ["x"])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    runs = [session.run(NAMES, {"x": rng.standard_normal((1, 3, 9, 8), np.float32)}) for _ in range(4)]
    moved = {
        name for name, *values in zip(NAMES, *runs, strict=True) if any(_differ(values[0], v) for v in values)
    }
    assert moved == said - {"x"}
    layers = {layer.name for layer in found.layers}
    assert {"conv", "scaled", "found", "until"} <= layers
    assert layers.isdisjoint({"real", "half", "longest", "total", "twice"})


def test_a_value_beside_sizes_keeps_its_place(tmp_path: Path) -> None:
    proto = model(NODES[:6], {"x": ["N", 3, "H", "W"]}, ["scaled"], STORED)
    layers = opened(proto, tmp_path).layers
    assert layers["scaled"].field == layers["conv"].field
    assert layers["scaled"].spatial_axes == (2, 3)


def _differ(one: Any, other: Any) -> bool:
    return one.shape != other.shape or bool((one != other).any())


def test_what_a_branch_reads_counts(tmp_path: Path) -> None:
    """What comes out of an If may be as long as the numbers say."""
    long, short = (
        onnx.helper.make_graph([node], name, [], [onnx.helper.make_empty_tensor_value_info(name)])
        for name, node in (("a", op("Reshape", "x minus", "a")), ("b", op("Slice", "flat front one", "b")))
    )
    nodes = [
        op("ReduceMax", "x", "top", keepdims=0),
        op("Greater", "top two", "test"),
        op("Reshape", "x minus", "flat"),
        onnx.helper.make_node("If", ["test"], ["y"], then_branch=long, else_branch=short),
        op("Shape", "y", "count"),
        op("Cast", "count", "z", to=1),
    ]
    stored = {key: STORED[key] for key in ("two", "minus", "front")} | {"one": np.array([1], np.int64)}
    found = opened(model(nodes, {"x": ["N", 3, 8, 8]}, ["z", "y"], stored), tmp_path)
    assert {"y", "count", "z"} <= dependent(found.graph, ["x"])
