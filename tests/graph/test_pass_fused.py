"""Operators that onnxruntime fused: written out, they give what onnxruntime computes for the fused ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from convlens.errors import UnsupportedError
from convlens.graph.load import load_graph
from graph.held import held, ops, ran, text
from graph.nets import model, numbers, op, opened, put, refused

ROW = numbers(3, 5, low=-3, high=3)
PLAIN = {"w": numbers(4, 3, 3, 3), "b": numbers(4)}
DENSE = {"w": numbers(4, 5), "b": numbers(4)}
NORM = {"b": numbers(5), "g": numbers(5, seed=1), "c": numbers(5, seed=2), "g2": numbers(4, 5, seed=3)}


def fused(op_text: str, **feeds: NDArray[Any]) -> str:
    """The source of a graph that computes one fused operator from ``feeds``."""
    names = {np.dtype(np.float32): "float", np.dtype(np.uint8): "uint8", np.dtype(np.float16): "float16"}
    inputs = ", ".join(
        f"{names[a.dtype]}[{','.join(['N', *map(str, a.shape[1:])])}] {n}" for n, a in feeds.items()
    )
    kind = names[next(iter(feeds.values())).dtype]
    outputs = [f"{kind} {name.strip()}" for name in op_text.split("=")[0].split(",") if name.strip() in "yt"]
    return f"({inputs}) => ({', '.join(outputs)}) {{ {op_text} }}"


@pytest.mark.parametrize(
    ("attributes", "last"),
    [
        ('activation = "Relu"', "Relu"),
        ('activation = "Tanh"', "Tanh"),
        ('activation = "Sigmoid"', "Sigmoid"),
        ('activation = "LeakyRelu", activation_params = [0.2]', "LeakyRelu"),
        ('activation = "HardSigmoid", activation_params = [0.3, 0.4]', "HardSigmoid"),
        ('activation = "Clip", activation_params = [-0.5, 0.7]', "Clip"),
    ],
)
@pytest.mark.parametrize("opset", [9, 17])
def test_convolution_with_activation(attributes: str, last: str, opset: int, tmp_path: Path) -> None:
    x, z = numbers(2, 3, 6, 7), numbers(2, 4, 3, 4)
    head = "y = com.microsoft.FusedConv <pads = [1,1,1,1], strides = [2,2], " + attributes + ">"
    graph = held(text(fused(head + "(x, w, b)", x=x), PLAIN, opset), tmp_path, {"x": x})
    assert ops(graph) == ["Conv", last]
    both = text(fused(head + "(x, w, b, z)", x=x, z=z), PLAIN, opset)
    assert ops(held(both, tmp_path, {"x": x, "z": z})) == ["Conv", "Add", last]


def test_convolution_without_bias_whose_sum_comes_fourth(tmp_path: Path) -> None:
    x, z = numbers(2, 3, 6, 6), numbers(2, 4, 4, 4)
    source = fused('y = com.microsoft.FusedConv <activation = "Relu"> (x, w, , z)', x=x, z=z)
    assert ops(held(text(source, PLAIN), tmp_path, {"x": x, "z": z})) == ["Conv", "Add", "Relu"]


@pytest.mark.parametrize(
    "attributes",
    [
        'activation = "Relu"',
        'activation = "LeakyRelu", activation_alpha = 0.2',
        'activation = "Elu", activation_alpha = 0.7',
        'activation = "Selu", activation_alpha = 1.7, activation_gamma = 1.1',
        'activation = "HardSigmoid", activation_alpha = 0.3, activation_beta = 0.4',
        'activation = "ThresholdedRelu", activation_alpha = 0.3',
        'activation = "Softplus"',
        'activation = "Softsign"',
    ],
)
def test_dense_layer_with_activation(attributes: str, tmp_path: Path) -> None:
    head = f"y = com.microsoft.FusedGemm <transB = 1, alpha = 0.5, beta = 2.0, {attributes}> (x, w, b)"
    graph = held(text(fused(head, x=ROW), DENSE), tmp_path, {"x": ROW})
    assert ops(graph)[0] == "Gemm"
    assert len(graph.nodes) == 2


@pytest.mark.parametrize(
    ("attributes", "a", "b"),
    [
        ("alpha = 0.3", (2, 3, 4, 5), (2, 3, 5, 6)),
        ("transA = 1", (2, 3, 5, 4), (2, 3, 5, 6)),
        ("transB = 1, alpha = 0.3", (2, 3, 4, 5), (2, 3, 6, 5)),
        ("transBatchA = 1", (4, 2, 3, 5), (2, 3, 5, 6)),
        ("transBatchA = 1, transA = 1", (5, 2, 3, 4), (2, 3, 5, 6)),
        ("transBatchB = 1, transB = 1", (2, 3, 4, 5), (6, 2, 3, 5)),
    ],
)
def test_product_of_transposed_factors(
    attributes: str, a: tuple[int, ...], b: tuple[int, ...], tmp_path: Path
) -> None:
    first, second = numbers(*a), numbers(*b)
    shapes = [",".join(map(str, shape)) for shape in (a, b)]
    source = f"""(float[{shapes[0]}] a, float[{shapes[1]}] b) => (float y)
        {{ y = com.microsoft.FusedMatMul <{attributes}> (a, b) }}"""
    held(text(source), tmp_path, {"a": first, "b": second})


@pytest.mark.parametrize(
    "call",
    [
        "Gelu(x)",
        "BiasGelu(x, b)",
        "FastGelu(x)",
        "FastGelu(x, b)",
        "QuickGelu(x)",
        "QuickGelu <alpha = 1.3> (x)",
    ],
)
def test_gelu_and_its_kin(call: str, tmp_path: Path) -> None:
    graph = held(text(fused(f"y = com.microsoft.{call}", x=ROW), NORM), tmp_path, {"x": ROW})
    assert not any(node.domain for node in graph.nodes)


@pytest.mark.parametrize(
    "call",
    [
        "y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, s, g, b, c)",
        "y = com.microsoft.SkipLayerNormalization (x, s, g)",
        "y, m, v, t = com.microsoft.SkipLayerNormalization (x, s, g, b, c)",
        "y = com.microsoft.SkipSimplifiedLayerNormalization (x, s, g, c)",
        "y, m, v, t = com.microsoft.SkipSimplifiedLayerNormalization (x, s, g, c)",
        "y = SimplifiedLayerNormalization (x, g)",
        "y = SimplifiedLayerNormalization <axis = 1, epsilon = 0.1> (x, g2)",
    ],
)
@pytest.mark.parametrize("opset", [12, 18])
def test_layer_normalisations(call: str, opset: int, tmp_path: Path) -> None:
    feeds = {"x": numbers(3, 4, 5), "s": numbers(3, 4, 5, seed=9)}
    graph = held(text(fused(call, **feeds), NORM, opset), tmp_path, feeds)
    assert not any(node.domain for node in graph.nodes)


@pytest.mark.parametrize(
    ("call", "last"),
    [
        ("y = com.microsoft.NhwcMaxPool <kernel_shape = [2,2], strides = [2,2], pads = [1,1,0,0]> (x)", 4),
        (
            "y = com.microsoft.QLinearConv <channels_last = 1, pads = [1,1,1,1]> "
            "(x, s, z, w, s2, z2, s3, z3)",
            3,
        ),
        ("y = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (x, s, z, s3, z3)", 3),
        (
            "y = com.microsoft.QLinearAveragePool <channels_last = 1, kernel_shape = [2,2]> "
            "(x, s, z, s3, z3)",
            3,
        ),
    ],
)
def test_channels_last(call: str, last: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 255, (2, 6, 5, last), np.uint8)
    weights = {
        "w": draw.integers(0, 255, (4, 3, 3, 3), np.uint8),
        "s": np.float32(0.02), "s2": np.float32(0.01), "s3": np.float32(0.05),
        "z": np.uint8(3), "z2": np.uint8(120), "z3": np.uint8(128),
    }  # fmt: skip
    graph = held(text(fused(call, x=x), weights), tmp_path, {"x": x})
    assert [ops(graph)[0], ops(graph)[-1]] == ["Transpose", "Transpose"]


def net() -> onnx.ModelProto:
    """What onnxruntime's optimiser finds something to fuse in: a residual block, Gelu, a dense layer."""
    nodes = [
        op("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        op("Relu", "c1", "r1"),
        op("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1]),
        op("Add", "c2 r1", "sum"),
        op("Relu", "sum", "r2"),
        op("Conv", "r2 w3 b2", "c3", pads=[1, 1, 1, 1]),
        op("LeakyRelu", "c3", "l3", alpha=0.1),
        op("Div", "l3 root", "d"),
        op("Erf", "d", "e"),
        op("Add", "e one", "e1"),
        op("Mul", "l3 e1", "m"),
        op("Mul", "m half", "gelu"),
        op("GlobalAveragePool", "gelu", "pool"),
        op("Flatten", "pool", "flat"),
        op("Gemm", "flat w4 b4", "dense", transB=1),
        op("Relu", "dense", "y"),
    ]
    weights = {
        "w1": numbers(4, 3, 3, 3), "b1": numbers(4), "w2": numbers(4, 4, 3, 3), "b2": numbers(4, seed=1),
        "w3": numbers(4, 4, 3, 3, seed=2), "w4": numbers(5, 4), "b4": numbers(5),
        "root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5),
    }  # fmt: skip
    return model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], weights, opset=13)


def saved(folder: Path, level: Any) -> Path:
    """The net as onnxruntime's optimiser saves it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(str(put(net(), folder)), options, providers=["CPUExecutionProvider"])
    return folder / "optimised.onnx"


def test_what_onnxruntime_saves_is_read_back(tmp_path: Path) -> None:
    path = saved(tmp_path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert {"FusedConv", "Gelu", "FusedGemm"} <= {node.op_type for node in onnx.load(path).graph.node}
    x = numbers(2, 3, 8, 8)
    graph = held(onnx.load(path), tmp_path, {"x": x})
    assert {"fused operators written out"} <= set(graph.changes)
    assert not any(node.domain for node in graph.nodes)
    np.testing.assert_allclose(
        ran(path, {"x": x}, ["y"])[0], ran(put(net(), tmp_path), {"x": x}, ["y"])[0], rtol=0, atol=2e-6
    )
    loaded = opened(onnx.load(path), tmp_path)
    assert [layer.kind for layer in loaded.layers].count("conv") == 3
    assert loaded.certificate().passed


def test_the_layout_of_one_processor_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc", name="blocked")
    imports = [helper.make_opsetid("com.microsoft.nchwc", 1)]
    proto = model([node], {"x": [1, 8, 4, 4]}, ["y"], {"w": numbers(8, 8, 3, 3)}, imports=imports)
    with refused(UnsupportedError, "com.microsoft.nchwc.Conv", "'blocked'", "ORT_ENABLE_EXTENDED"):
        load_graph(put(proto, tmp_path))


def test_a_variant_that_no_rule_covers_stays(tmp_path: Path) -> None:
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], domain="com.microsoft", activation="Strange")
    imports = [helper.make_opsetid("com.microsoft", 1)]
    proto = model([node], {"x": ["N", 3, 4, 4]}, ["y"], {"w": numbers(2, 3, 3, 3)}, imports=imports)
    graph, _ = load_graph(put(proto, tmp_path))
    assert ops(graph) == ["com.microsoft.FusedConv"]
    assert graph.changes == ()
