"""Parameters and multiply-accumulates against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convlens import load
from convlens.graph.layers import shape_text, total_macs
from graph.nets import classifier, model, numbers, op, opened

# node, input shape, weights, parameters, multiply-accumulates
CASES: dict[str, tuple[onnx.NodeProto, list[int], dict[str, Any], int, int]] = {
    # 4 filters of 3 x 3 x 3 and 4 biases; 6 x 5 places, each 4 x 27 products
    "conv": (
        op("Conv", "image w b", "y"),
        [1, 3, 8, 7],
        {"w": numbers(4, 3, 3, 3), "b": numbers(4)},
        4 * 27 + 4,
        6 * 5 * 4 * 27,
    ),
    # two groups: each of 6 filters reads 2 of 4 channels
    "grouped": (
        op("Conv", "image w", "y", group=2, pads=[1, 1, 1, 1]),
        [1, 4, 8, 8],
        {"w": numbers(6, 2, 3, 3)},
        6 * 18,
        64 * 6 * 18,
    ),
    "depthwise": (
        op("Conv", "image w", "y", group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
        [1, 3, 8, 8],
        {"w": numbers(3, 1, 3, 3)},
        27,
        16 * 27,
    ),
    # each of 5 x 5 pixels and 3 channels is spread over 2 channels of 4 x 4
    "transposed": (
        op("ConvTranspose", "image w", "y", strides=[2, 2]),
        [1, 3, 5, 5],
        {"w": numbers(3, 2, 4, 4)},
        3 * 2 * 16,
        5 * 5 * 3 * 2 * 16,
    ),
    "gemm": (
        op("Gemm", "image w b", "y"),
        [1, 12],
        {"w": numbers(12, 5), "b": numbers(5)},
        65,
        60,
    ),
    "gemm_transposed": (op("Gemm", "image w", "y", transB=1), [1, 12], {"w": numbers(5, 12)}, 60, 60),
    "matmul": (op("MatMul", "image w", "y"), [1, 7, 12], {"w": numbers(12, 5)}, 60, 7 * 60),
    "norm": (
        op("BatchNormalization", "image s b m v", "y"),
        [1, 3, 4, 4],
        {"s": numbers(3), "b": numbers(3), "m": numbers(3), "v": np.ones(3, np.float32)},
        12,
        0,
    ),
    "scalar": (op("Mul", "image two", "y"), [1, 3], {"two": np.array(2.0, np.float32)}, 0, 0),
    "resize": (
        op("Resize", "image - scales", "y"),
        [1, 3, 4, 4],
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        0,
        0,
    ),
    "shape": (op("Reshape", "image shape", "y"), [1, 3, 4, 4], {"shape": np.array([1, 48])}, 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_single_operators(tmp_path: Path, case: str) -> None:
    node, shape, weights, parameters, macs = CASES[case]
    layer = opened(model([node], {"image": shape}, ["y"], weights), tmp_path)["y"]
    assert layer.parameters == parameters
    assert layer.macs == macs


def test_shared_weight_counts_once(tmp_path: Path) -> None:
    nodes = [op("Conv", "image w", "a"), op("Conv", "a w", "y")]
    proto = model(nodes, {"image": [1, 2, 7, 7]}, ["y"], {"w": numbers(2, 2, 3, 3)})
    layers = opened(proto, tmp_path).layers
    assert [layer.parameters for layer in layers] == [36, 0]
    assert [layer.macs for layer in layers] == [25 * 2 * 18, 9 * 2 * 18]


def test_open_batch_counts_as_one(tmp_path: Path) -> None:
    layers = opened(classifier(), tmp_path).layers
    # 64 places x 4 filters x 27, then 5 x 4
    assert total_macs(layers) == 64 * 4 * 27 + 20
    assert sum(layer.parameters for layer in layers) == 4 * 27 + 4 + 20 + 5


def test_open_size_needs_a_number(tmp_path: Path) -> None:
    nodes = [op("Conv", "image w", "a"), op("Relu", "a", "y")]
    proto = model(nodes, {"image": ["N", 3, "H", "W"]}, ["y"], {"w": numbers(4, 3, 3, 3)})
    assert total_macs(opened(proto, tmp_path).layers) is None
    assert total_macs(opened(proto, tmp_path, size=(10, 12)).layers) == 8 * 10 * 4 * 27


def test_vgg16_up_to_conv4_1() -> None:
    layers = load("vgg16-conv4_1", device="cpu").layers
    # 3 x 3 convolutions, channels in and out, side of the map at 224 pixels
    convs = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112)]
    convs += [(128, 256, 56), (256, 256, 56), (256, 256, 56), (256, 512, 28)]
    assert sum(layer.parameters for layer in layers) == sum(9 * i * o + o for i, o, _ in convs)
    assert total_macs(layers) == sum(9 * i * o * side * side for i, o, side in convs)


def test_efficientnet_lite0() -> None:
    # blocks by stage: how many, kernel, stride, expansion, channels out (Tan and Le 2019, table 1;
    # the lite variant has no squeeze-and-excitation). Batch normalisation is folded into biases
    stages = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)]
    stages += [(3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
    convs = [(3, 32, 3, 112)]  # channels read by one filter, filters, kernel, side of the map
    channels, side = 32, 112
    for count, kernel, stride, expansion, out in stages:
        for block in range(count):
            wide = channels * expansion
            if expansion > 1:
                convs.append((channels, wide, 1, side))
            side //= stride if block == 0 else 1
            convs += [(1, wide, kernel, side), (wide, out, 1, side)]
            channels = out
    convs += [(channels, 1280, 1, side), (1280, 1000, 1, 1)]
    layers = load("efficientnet-lite0", device="cpu").layers
    assert sum(layer.parameters for layer in layers) == sum(i * o * k * k + o for i, o, k, _ in convs)
    assert total_macs(layers) == sum(i * o * k * k * side * side for i, o, k, side in convs)


def test_layers_as_json(tmp_path: Path) -> None:
    layers = opened(classifier(), tmp_path).layers
    records = json.loads(layers.json())
    assert [record["alias"] for record in records] == ["conv1", "relu1", "pool", "flat", "logits"]
    assert records[0]["shape"] == ["N", 4, 8, 8]
    seen = {"size": [3, 3], "stride": [1.0, 1.0], "offset": [-1.0, -1.0], "exact": True}
    assert records[0]["field"] == seen
    assert records[4]["field"]["size"] == [None, None]


def test_shapes_as_people_write_them() -> None:
    assert shape_text(("N", 3, 224, None)) == "N x 3 x 224 x ?"
    assert shape_text(("unk__653", 10)) == "N x 10"
    assert shape_text(None) == "?"
    assert shape_text(()) == ""
