"""``channels``: the units it picks, the part of the input they see, and the signal they send back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convlens
from convlens.errors import LayerError
from reference import deconvnet, nets, plainly

DRIFT = 1e-9
"""Of the largest signal: float64 on both sides. The units themselves are picked in float32."""

SINGLE = 1e-5
"""Of the largest activation: onnxruntime computes in float32."""


def planted(folder: Path, **how: Any) -> tuple[nets.Net, convlens.Model]:
    """A convolution with three filters of 3 x 3, each of which reads one colour, and a rectifier."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    for colour in range(3):
        weight[colour, colour] = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    net = nets.Net((3, 8, 7), (nets.Conv(weight, np.zeros(3, np.float32), pad=1), nets.Relu()))
    return net, convlens.load(nets.saved(net.onnx(**how), folder), threads=1)


@pytest.mark.parametrize("nhwc", [False, True])
def test_a_planted_dot_is_found(nhwc: bool, tmp_path: Path) -> None:
    """One bright green pixel: the filter's largest weight, 9, sees it from one row and column before."""
    _, model = planted(tmp_path, nhwc=nhwc)
    image = np.zeros((1, 3, 8, 7), np.float32)
    image[0, 1, 4, 3] = 2.0
    image[0, 2, 6, 6] = 0.5  # a weaker blue one
    given = np.moveaxis(image, 1, -1) if nhwc else image
    result = model.run("channels", given, layer="relu1", top=2, rule="plain")
    assert result.arrays["channel"].tolist() == [[1, 2]]
    assert result.arrays["value"].tolist() == [[18.0, 4.5]]
    assert result.arrays["position"].tolist() == [[[3, 2], [5, 5]]]
    # 3 x 3 around each unit: top, left, bottom, right
    assert result.arrays["boxes"].tolist() == [[[2, 1, 5, 4], [4, 4, 7, 7]]]
    signal = np.moveaxis(result.array, -1, 2) if nhwc else result.array
    wanted = np.zeros((2, 3, 8, 7))
    kernel = np.arange(1, 10).reshape(3, 3)
    wanted[0, 1, 2:5, 1:4] = kernel
    wanted[1, 2, 4:7, 4:7] = kernel
    np.testing.assert_array_equal(signal[0], wanted)
    assert [row["channel"] for row in result.rows] == [1, 2]
    assert result.rows[0]["position"] == [3, 2]


def test_a_box_is_cut_to_the_image(tmp_path: Path) -> None:
    _, model = planted(tmp_path)
    image = np.zeros((1, 3, 8, 7), np.float32)
    image[0, 0, 0, 0] = -1.0
    image[0, 0, 7, 6] = 1.0  # its strongest unit would lie at 6, 5; leave only the corner's
    image[0, 0, 6, 5] = 5.0
    result = model.run("channels", image, layer="conv1", top=1)
    top, left, bottom, right = result.arrays["boxes"][0, 0]
    row, column = result.arrays["position"][0, 0]
    assert (top, left) == (max(0, row - 1), max(0, column - 1))
    assert (bottom, right) == (min(8, row + 2), min(7, column + 2))


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
@pytest.mark.parametrize("layer", ["relu1", "maxpool1", "conv2", "relu2"])
def test_units_and_signals_equal_the_reference(layer: str, rule: Any, tmp_path: Path) -> None:
    """Units of a rectified layer are read before their rectifier."""
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("channels", images, layer=layer, top=3, rule=rule, batch_size=4)
    part = net.until(layer.replace("relu", "conv"))
    for index, image in enumerate(images):
        trace = deconvnet.forward(part, image)
        for rank, (channel, place, value) in enumerate(plainly.strongest(trace.top, 3)):
            assert result.arrays["channel"][index, rank] == channel
            assert tuple(result.arrays["position"][index, rank]) == place
            assert abs(result.arrays["value"][index, rank] - value) < SINGLE * np.abs(trace.top).max()
            signal = deconvnet.unit(trace.top.shape, (channel, *place))
            wanted = deconvnet.backward(part, trace, signal, rule)
            apart = np.abs(result.array[index, rank] - wanted).max()
            assert apart <= DRIFT * np.abs(wanted).max()


@pytest.mark.parametrize("layer", ["conv1", "maxpool1", "conv2", "relu2"])
def test_no_signal_leaves_its_box(layer: str, tmp_path: Path) -> None:
    net = nets.classifier(3, (3, 21, 18))
    images = nets.pictures(3, 3, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("channels", images, layer=layer, top=4, rule="deconvnet")
    for index, rank in np.ndindex(3, 4):
        top, left, bottom, right = result.arrays["boxes"][index, rank]
        outside = result.array[index, rank].copy()
        outside[:, top:bottom, left:right] = 0
        assert (outside == 0).all()
        assert (bottom - top) * (right - left) < 21 * 18


def test_a_saturated_unit_still_shows_what_excites_it(tmp_path: Path) -> None:
    """Behind a ReLU6 the strongest unit's own gradient is zero; before it, it is the filter."""
    from onnx.helper import make_node

    weight = np.zeros((2, 3, 3, 3), np.float32)
    weight[1, 0] = 5.0
    nodes = [
        make_node("Conv", ["input", "w"], ["conv"]),
        make_node("Clip", ["conv", "low", "high"], ["act"]),
    ]
    stored = {"w": weight, "low": np.asarray(0, np.float32), "high": np.asarray(6, np.float32)}
    proto = nets.model_of(nodes, {"input": ["N", 3, 6, 6]}, ["act"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    image = np.zeros((1, 3, 6, 6), np.float32)
    image[0, 0, 2, 2] = 4.0
    result = model.run("channels", image, layer="act", top=1)
    assert result.arrays["channel"].item() == 1
    assert result.arrays["value"].item() == 6.0
    assert result.arrays["before"].item() == 20.0
    assert result.array.max() == 5.0


def test_more_channels_asked_for_than_there_are(tmp_path: Path) -> None:
    _, model = planted(tmp_path)
    result = model.run("channels", nets.pictures(0, 2, (3, 8, 7)), layer="relu1", top=64)
    assert result.array.shape == (2, 3, 3, 8, 7)
    assert [sorted(row) for row in result.arrays["channel"].tolist()] == [[0, 1, 2]] * 2


def test_of_equal_channels_the_lower_number_comes_first(tmp_path: Path) -> None:
    """Whole numbers, so that equal units are equal to the bit: every third of 60 filters is the same."""
    weight = np.ones((60, 1, 2, 2), np.float32)
    weight[::3] = 2
    net = nets.Net((1, 5, 5), (nets.Conv(weight, np.zeros(60, np.float32)), nets.Relu()))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("channels", np.ones((1, 1, 5, 5), np.float32), layer="relu1", top=24)
    assert result.arrays["channel"][0].tolist() == [*range(0, 60, 3), 1, 2, 4, 5]
    assert (result.arrays["position"] == 0).all()


def test_the_default_layer_sees_less_than_the_image(tmp_path: Path) -> None:
    """Rectifiers see 3, then 3 + 2 (2 - 1) + 2 (3 - 1) 2 ... of the side; a third one sees it all."""
    rng = np.random.default_rng(0)
    layers = (
        nets.conv(rng, 3, 4, 3), nets.Relu(), nets.MaxPool(2, 2),
        nets.conv(rng, 4, 4, 3), nets.Relu(),
        nets.conv(rng, 4, 4, 5), nets.Relu(),
        nets.dense(rng, 4, 3),
    )  # fmt: skip
    net = nets.Net((3, 16, 16), layers)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    # relu2 sees 3 + 1 + 2 * 2 = 8 pixels, relu3 8 + 2 * 4 = 16: the whole side
    result = model.run("channels", nets.pictures(0, 1, net.shape), top=1)
    assert result.rows[0]["layer"] == "relu2"


def test_a_layer_without_places_is_refused(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1)
    images = nets.pictures(0, 1, (3, 11, 9))
    with pytest.raises(LayerError, match="keeps no place"):
        model.run("channels", images, layer="dense1")
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        model.run("channels", images, layer="conv9")


def test_a_fixed_batch(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 3, net.shape)
    free = convlens.load(nets.saved(net.onnx(), tmp_path, "free"), threads=1)
    fixed = convlens.load(nets.saved(net.onnx(batch=1), tmp_path, "fixed"), threads=1)
    one, other = (model.run("channels", images, layer="relu2", top=2) for model in (free, fixed))
    for name, array in one.arrays.items():
        np.testing.assert_allclose(other.arrays[name], array, atol=1e-6 * max(1, np.abs(array).max()))


def test_saturated_channels_are_ranked_by_what_drives_them(tmp_path: Path) -> None:
    """Two channels at a ReLU6's bound are equal after it; the one driven harder comes first."""
    from onnx.helper import make_node

    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0, 0], weight[1, 0] = 2.0, 5.0
    nodes = [make_node("Conv", ["input", "w"], ["conv"]), make_node("Clip", ["conv", "low", "high"], ["act"])]
    stored = {"w": weight, "low": np.asarray(0, np.float32), "high": np.asarray(6, np.float32)}
    proto = nets.model_of(nodes, {"input": ["N", 3, 6, 6]}, ["act"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    image = np.zeros((1, 3, 6, 6), np.float32)
    image[0, 0, 1, 2], image[0, 0, 3, 4] = 4.0, 7.0
    result = model.run("channels", image, layer="act", top=2)
    assert result.arrays["channel"].tolist() == [[1, 0]]
    assert result.arrays["before"].tolist() == [[35.0, 14.0]]
    assert result.arrays["position"].tolist() == [[[3, 4], [3, 4]]]
