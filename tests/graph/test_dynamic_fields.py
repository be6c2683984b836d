"""Codes of a dynamic quantisation keep their places; their step, set by all numbers, has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from convlens.attribution.layerwise.units import placed_layer
from graph.nets import model, numbers, op, opened

SIZE = 12


def quantised(x: str, out: str, mark: str) -> list[onnx.NodeProto]:
    """What onnxruntime's dynamic quantisation makes of a convolution with a bias."""
    return [
        op("DynamicQuantizeLinear", x, f"codes{mark} step{mark} zero{mark}"),
        op("ConvInteger", f"codes{mark} w{mark} zero{mark} none", f"sums{mark}", pads=[1] * 4),
        op("Cast", f"sums{mark}", f"real{mark}", to=1),
        op("Mul", f"step{mark} steps", f"both{mark}"),
        op("Mul", f"real{mark} both{mark}", f"scaled{mark}"),
        op("Add", f"scaled{mark} bias", out),
    ]


def net() -> onnx.ModelProto:
    nodes = [*quantised("image", "first", "1"), op("Relu", "first", "rectified")]
    nodes += [*quantised("rectified", "second", "2"), op("Add", "second image", "y")]
    stored: dict[str, Any] = {
        "w1": (numbers(1, 1, 3, 3, low=0.2) * 100).astype(np.int8),
        "w2": (numbers(1, 1, 3, 3, low=0.2, seed=1) * 100).astype(np.int8),
        "none": np.array(0, np.int8),
        "steps": np.array([0.01], np.float32),  # one a filter, as with weights quantised filter by filter
        "bias": numbers(1, 1, 1),
    }
    return model(nodes, {"image": [1, 1, SIZE, SIZE]}, ["y"], stored)


def test_where_the_step_stays_only_what_is_seen_moves_a_unit(tmp_path: Path) -> None:
    """The largest numbers lie at the border and stay as they are, so that the steps do too."""
    proto = net()
    layers = opened(proto, tmp_path).layers
    layer = layers["y"]
    assert layer.spatial_axes == (2, 3)
    assert layer.field is not None
    assert (layer.field.size, layer.field.offset) == ((5, 5), (-2.0, -2.0))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    still = np.random.default_rng(0).random((1, 1, SIZE, SIZE)).astype(np.float32)
    still[0, 0, :3, :3] = 8
    before = session.run(["y"], {"image": still})[0][0, 0]
    for at in ((6, 6), (8, 4), (11, 11)):
        other = still.copy()
        other[0, 0][at] += 0.5
        moved = np.argwhere(session.run(["y"], {"image": other})[0][0, 0] != before)
        assert len(moved) > 4
        for unit in moved.tolist():
            (top, under), (left, right) = layer.field.box(unit, (SIZE, SIZE))
            assert top <= at[0] < under
            assert left <= at[1] < right


def test_a_changed_step_moves_more_which_is_said(tmp_path: Path) -> None:
    proto = net()
    layers = opened(proto, tmp_path).layers
    field = layers["y"].field
    assert field is not None
    assert not field.exact
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    still = np.random.default_rng(0).random((1, 1, SIZE, SIZE)).astype(np.float32)
    other = still.copy()
    other[0, 0, 0, 0] += 3
    before, after = (session.run(["y"], {"image": x})[0][0, 0] for x in (still, other))
    (_, under), _ = field.box((0, 0), (SIZE, SIZE))
    assert (before != after)[under + 3 :].any()


def test_the_step_has_no_place(tmp_path: Path) -> None:
    layers = opened(net(), tmp_path).layers
    for name in ("step1", "step2", "both2"):
        assert layers[name].spatial_axes == ()
        assert layers[name].field is not None
        assert layers[name].field.size == (None, None)


def test_methods_find_a_layer_with_places(tmp_path: Path) -> None:
    found = opened(net(), tmp_path)
    assert [layer.name for layer in found.layers.placed()] == ["rectified"]
    assert placed_layer(found, None).name == "rectified"
