"""Whole nets in other element types and in several at once: opened, certified, with the right gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import convlens
from ops.models import case, check_gradient, floats, ints, model_of, numbers, reference, torch_graph, x

F16, F32, F64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE
BF16 = TensorProto.BFLOAT16


def net(inner: int, outer: int | None = None, stored: int | None = None) -> onnx.ModelProto:
    """A small classifier that works in ``inner``, takes ``outer`` and keeps its filters in ``stored``."""
    nodes, at = [], "x"
    if outer is not None:
        nodes.append(helper.make_node("Cast", ["x"], ["inside"], to=inner))
        at = "inside"
    filters = "w"
    if stored is not None:
        nodes.append(helper.make_node("Cast", ["w"], ["filters"], to=inner))
        filters = "filters"
    nodes += [
        helper.make_node("Conv", [at, filters, "b"], ["conv"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["conv", "scale", "b", "b", "scale"], ["norm"]),
        helper.make_node("Relu", ["norm"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["pool"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["y"]),
    ]
    weights = {
        "w": (numbers(4, 3, 3, 3, low=-0.3, high=0.3), stored or inner),
        "b": (numbers(4), inner),
        "scale": (numbers(4, low=0.5), inner),
        "dense": (numbers(5, 4), inner),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", inner if outer is None else outer, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", inner, ["n", 5])],
        [helper.make_tensor(n, kind, a.shape, a.ravel().tolist()) for n, (a, kind) in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETS = {
    "half": net(F16),
    "half_inside": net(F16, F32),
    "half_weights": net(F32, stored=F16),
    "bfloat16_weights": net(F32, stored=BF16),
    "double_weights": net(F32, stored=F64),
    "double_outside": net(F32, F64),
    "uint8_images": net(F32, TensorProto.UINT8),
    "uint16_images": net(F32, TensorProto.UINT16),
    "int32_images": net(F32, TensorProto.INT32),
    "int64_images": net(F32, TensorProto.INT64),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_certified_and_explained(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(NETS[name].SerializeToString())
    model = convlens.load(path)
    assert model.certificate().passed
    kind = model.source.dtype or "float32"
    pixels = np.random.default_rng(0).random((2, 3, 16, 16))
    images = (pixels * 200).astype(kind) if "int" in kind else pixels.astype(np.float32)
    found = model.run("saliency", images, target=1).array
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0


def test_a_double_net_computes_in_double(tmp_path: Path) -> None:
    """onnxruntime has no double convolution; dense nets and arithmetic it runs, to the last digits."""
    image = numbers(2, 6).astype(np.float64) / 3
    stored = {"w": numbers(6, 4).astype(np.float64) / 7, "b": numbers(4).astype(np.float64) / 7}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Softmax", ["d"], ["y"]),
    ]
    model = model_of(nodes, {"x": image}, ["y"], stored)
    graph = torch_graph(model, tmp_path)
    found = graph.values({"x": graph.working(image, "x")}, ["y"])["y"].numpy()
    (expected,) = reference(model, {"x": image})
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "types"),
    [("resize", {"mode": "linear"}), ("resize", {"mode": "cubic", "cubic_coeff_a": -0.5})],
    ids=["linear", "cubic"],
)
def test_antialiased_resize_has_the_right_gradient(name: str, types: dict[str, Any], tmp_path: Path) -> None:
    image = x(1, 2, 9, 7)
    one = case("Resize", image, floats(), floats(), ints(1, 2, 4, 5), antialias=1, **types)
    check_gradient(one.model(18), one.feeds, tmp_path)
