"""``activations`` against the reference's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx.helper import make_node

import convlens
from convlens import registry
from convlens.errors import LayerError
from reference import deconvnet, nets, plainly

SINGLE = 1e-5
"""Of the largest activation: onnxruntime computes in float32, the reference in float64."""


@pytest.mark.parametrize("layer", ["conv1", "relu1", "maxpool1", "conv2", "relu2", "dense1"])
def test_values_and_what_is_taken_over_space(layer: str, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 3, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("activations", images, layer=layer, batch_size=2)
    for index, image in enumerate(images):
        value = deconvnet.forward(net.until(layer), image).top
        close = SINGLE * np.abs(value).max()
        np.testing.assert_allclose(result.array[index], value, atol=close)
        largest, means = plainly.over_space(value.reshape(len(value), -1))
        np.testing.assert_allclose(result.arrays["maximum"][index], largest, atol=close)
        np.testing.assert_allclose(result.arrays["mean"][index], means, atol=close)


def test_the_default_is_the_last_that_keeps_its_place(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    assert model.run("activations", nets.pictures(0, 1, net.shape)).hints["layer"] == "relu2"


def test_without_rectifiers_the_last_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nets.Net((3, 6, 6), (nets.conv(rng, 3, 4, 3), nets.conv(rng, 4, 4, 3), nets.dense(rng, 16, 3)))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    assert model.run("activations", nets.pictures(0, 1, net.shape)).hints["layer"] == "conv2"


def test_rows_list_the_strongest(tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("activations", images, layer="conv2")
    for index, image in enumerate(images):
        largest, means = plainly.over_space(deconvnet.forward(net.until("conv2"), image).top)
        rows = [row for row in result.rows if row["image"] == f"input {index}"]
        assert [row["channel"] for row in rows] == plainly.ranking(largest, 5)
        for row in rows:
            assert row["maximum"] == pytest.approx(largest[row["channel"]], rel=1e-4)
            assert row["mean"] == pytest.approx(means[row["channel"]], rel=1e-3, abs=1e-5)


def test_channels_come_first_whatever_the_layout(tmp_path: Path) -> None:
    """A model that turns its axes at both ends: its layers outside have their channels last."""
    rng = np.random.default_rng(0)
    layer = nets.conv(rng, 3, 5, 3)
    nodes = [
        make_node("Transpose", ["input"], ["turned"], perm=[0, 3, 1, 2]),
        make_node("Conv", ["turned", "w", "b"], ["conv"]),
        make_node("Transpose", ["conv"], ["back"], perm=[0, 2, 3, 1]),
        make_node("Relu", ["back"], ["relu"]),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 8, 7, 3]}, ["relu"], {"w": layer.weight, "b": layer.bias})
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    net = nets.Net((3, 8, 7), (layer, nets.Relu()))
    images = nets.pictures(0, 2, (8, 7, 3))
    assert model["relu"].channel_axis == 3
    for name in ("conv", "relu"):
        result = model.run("activations", images, layer=name)
        for index, image in enumerate(images):
            part = nets.Net(net.shape, net.layers[: 1 if name == "conv" else 2])
            value = deconvnet.forward(part, np.moveaxis(image, -1, 0)).top
            np.testing.assert_allclose(result.array[index], value, atol=SINGLE * np.abs(value).max())
            assert result.arrays["maximum"].shape == (2, 5)


def test_a_fixed_batch(tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 3, net.shape)
    model = convlens.load(nets.saved(net.onnx(batch=2), tmp_path), threads=1)
    result = model.run("activations", images, layer="relu1")
    assert result.array.shape == (3, 5, 11, 9)
    value = deconvnet.forward(net.until("relu1"), images[2]).top
    np.testing.assert_allclose(result.array[2], value, atol=SINGLE * np.abs(value).max())


def test_an_unknown_layer_names_the_nearest(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1)
    with pytest.raises(LayerError, match=r"no layer 'relu9'; nearest: .*'relu"):
        model.run("activations", nets.pictures(0, 1, (3, 11, 9)), layer="relu9")


def test_findings_count_silent_channels(tmp_path: Path) -> None:
    """Two of four filters are held down by their bias on every photo."""
    rng = np.random.default_rng(0)
    layer = nets.conv(rng, 3, 4, 3)
    held = nets.Conv(layer.weight, np.array([0, -1000, 0, -1000], np.float32))
    net = nets.Net((3, 6, 6), (held, nets.Relu()))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    method = registry.methods()["activations"]
    (found,) = method.findings(model.run("activations", nets.pictures(0, 3, net.shape)))
    assert found.text.startswith("2 of 4 channels of relu1 stay silent on all 3 photos")
    assert found.evidence.endswith("1, 3")
    assert method.findings(model.run("activations", nets.pictures(0, 1, net.shape))) == ()
