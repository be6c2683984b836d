"""``deconvnet``: the units it picks over all images, and what arrives at the input from each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convlens
from convlens import registry
from convlens.errors import LayerError, ParameterError
from reference import deconvnet, nets, plainly

DRIFT = 1e-9
"""Of the largest signal, per activation: float64 on both sides."""

SINGLE = 1e-5
"""Of the largest activation: onnxruntime computes in float32."""


def loaded(net: nets.Net, folder: Path, **how: Any) -> convlens.Model:
    return convlens.load(nets.saved(net.onnx(**how), folder), threads=1)


@pytest.mark.parametrize("layer", ["relu1", "maxpool1", "relu2"])
def test_units_and_reconstructions_equal_the_reference(layer: str, tmp_path: Path) -> None:
    """One unit of a channel an image: the activation itself is sent back, everything else is zero."""
    net = nets.classifier(2)
    images = nets.pictures(2, 3, net.shape)
    result = loaded(net, tmp_path).run("deconvnet", images, layer=layer, top=4, units=3, batch_size=4)
    part = net.until(layer)
    traces = [deconvnet.forward(part, image) for image in images]
    best = np.stack([trace.top.max(axis=(1, 2)) for trace in traces])
    channels = sorted(range(best.shape[1]), key=lambda c: (-best[:, c].max(), c))[:4]
    assert result.arrays["channel"].tolist() == channels
    np.testing.assert_allclose(result.arrays["peak"], best[:, channels], rtol=1e-5, atol=1e-6)
    for k, channel in enumerate(channels):
        order = [i for i in np.argsort(-best[:, channel], kind="stable").tolist() if best[i, channel] > 0]
        assert result.arrays["image"][k].tolist() == order + [-1] * (3 - len(order))
        for u, image in enumerate(order):
            trace = traces[image]
            _, place, value = next(unit for unit in plainly.strongest(trace.top, 99) if unit[0] == channel)
            assert tuple(result.arrays["position"][k, u]) == place
            strength = result.arrays["activation"][k, u]
            assert abs(strength - value) < SINGLE * best.max()
            signal = strength * deconvnet.unit(trace.top.shape, (channel, *place))
            wanted = deconvnet.backward(part, trace, signal.astype(np.float64), "deconvnet")
            apart = np.abs(result.array[k, u] - wanted).max()
            assert apart <= DRIFT * np.abs(wanted).max()
        assert not result.array[k, len(order) :].any()


def test_the_row_of_a_unit_says_what_the_arrays_say(tmp_path: Path) -> None:
    net = nets.classifier(2)
    result = loaded(net, tmp_path).run("deconvnet", nets.pictures(2, 3, net.shape), layer="relu2", top=2)
    fires = result.arrays["image"] >= 0
    assert len(result.rows) == fires.sum()
    row = result.rows[0]
    assert row["channel"] == result.arrays["channel"][0]
    assert row["image"] == result.images[result.arrays["image"][0, 0]]
    assert row["activation"] == result.arrays["activation"][0, 0]
    assert (np.diff(result.arrays["activation"], axis=1) <= 0).all()


def dots(tmp_path: Path) -> convlens.Model:
    """A filter that reads one pixel of red, so that each unit sees 1 x 1, then one that sees 3 x 3."""
    one, three = np.zeros((2, 3, 1, 1), np.float32), np.zeros((2, 2, 3, 3), np.float32)
    one[0, 0], three[0, 0, 1, 1] = 2.0, 1.0
    none = np.zeros(2, np.float32)
    layers = (nets.Conv(one, none), nets.Relu(), nets.Conv(three, none, pad=1), nets.Relu())
    return loaded(nets.Net((3, 6, 7), layers), tmp_path)


def test_several_units_of_one_image_lie_apart(tmp_path: Path) -> None:
    """Red at (1, 1), weaker right beside it, weaker still far away: the neighbour is passed over."""
    image = np.zeros((1, 3, 6, 7), np.float32)
    image[0, 0, 1, 1], image[0, 0, 1, 2], image[0, 0, 4, 5] = 3.0, 2.0, 1.0
    result = dots(tmp_path).run("deconvnet", image, layer="relu2", channel="0", units=3)
    assert result.arrays["image"].tolist() == [[0, 0, -1]]
    assert result.arrays["position"][0, :2].tolist() == [[1, 1], [4, 5]]
    assert result.arrays["activation"].tolist() == [[6.0, 2.0, 0.0]]
    assert result.arrays["boxes"][0, :2].tolist() == [[0, 0, 3, 3], [3, 4, 6, 7]]
    # 6 through the weights 1 and 2
    assert result.array[0, 0, 0, 1, 1] == 12.0
    assert np.count_nonzero(result.array[0, 0]) == 1
    near = dots(tmp_path).run("deconvnet", image, layer="relu1", channel="0", units=3)
    assert near.arrays["position"][0].tolist() == [[1, 1], [1, 2], [4, 5]]


def test_a_silent_channel_is_said_and_drawn(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 6, 7), np.float32)
    image[0, 0, 1, 1] = 1.0
    result = dots(tmp_path).run("deconvnet", image, layer="relu2", channel=[1, 0], units=4)
    assert result.arrays["channel"].tolist() == [1, 0]
    assert result.arrays["image"].tolist() == [[-1] * 4, [0, -1, -1, -1]]
    (finding,) = registry.method("deconvnet").findings(result)
    assert finding.text.startswith("1 of the channels of relu2 has no unit")
    assert finding.evidence == "number 1; images: 1"
    (picture,) = result.pictures
    assert "channel 1: silent; channel 0: 2" in picture.alt


def test_channels_that_are_all_silent_are_refused(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 6, 7), np.float32)
    image[0, 0, 1, 1] = 1.0
    with pytest.raises(
        LayerError, match="channel 1 of relu2 never fires on these images, so there is nothing"
    ):
        dots(tmp_path).run("deconvnet", image, layer="relu2", channel="1", units=4)


def test_all_channels_and_ranges_of_them(tmp_path: Path) -> None:
    """Each equals what the reference agrees with: the strongest, as many as there are."""
    net = nets.classifier(2)
    model, images = loaded(net, tmp_path), nets.pictures(2, 2, net.shape)
    count = deconvnet.forward(net.until("relu1"), images[0]).top.shape[0]
    known = model.run("deconvnet", images, layer="relu1", top=count, units=2)
    for given, numbers in (("all", [*range(count)]), ("2,0-1", [2, 0, 1])):
        result = model.run("deconvnet", images, layer="relu1", channel=given, units=2)
        assert result.arrays["channel"].tolist() == numbers
        rows = [known.arrays["channel"].tolist().index(number) for number in numbers]
        assert result.arrays["image"].tolist() == known.arrays["image"][rows].tolist()
        np.testing.assert_allclose(result.array, known.array[rows], rtol=0, atol=DRIFT)


def test_channels_that_there_are_not_are_refused(tmp_path: Path) -> None:
    model = dots(tmp_path)
    image = np.ones((1, 3, 6, 7), np.float32)
    with pytest.raises(LayerError, match="no channel 2; it has channels 0 to 1"):
        model.run("deconvnet", image, layer="relu2", channel="1-9")
    with pytest.raises(LayerError, match="no channel 2; it has channels 0 to 1"):
        model.run("deconvnet", image, layer="relu2", channel="0,2")
    for wrong in ("", "a", "1,1", "-1", [True, None]):
        with pytest.raises(ParameterError, match="channel"):
            model.run("deconvnet", image, layer="relu2", channel=wrong)
    with pytest.raises(LayerError, match="keeps no place"):
        loaded(nets.classifier(0), tmp_path).run("deconvnet", nets.pictures(0, 1, (3, 11, 9)), layer="dense1")


def test_nine_channels_make_a_sheet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nets.Net((3, 12, 12), (nets.conv(rng, 3, 12, 3), nets.Relu()))
    pictures = rng.integers(0, 256, (3, 12, 12, 3), np.uint8)
    from PIL import Image

    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, mean=[0.5] * 3, std=[0.2] * 3)
    photos = [Image.fromarray(each) for each in pictures]
    result = model.run("deconvnet", photos, layer="relu1", top=12)
    assert result.array.shape == (12, 9, 3, 12, 12)
    assert [picture.name for picture in result.pictures] == ["relu1", "relu1-2"]
    assert all(picture.index is None and picture.wide for picture in result.pictures)


def overlapping(seed: int) -> nets.Net:
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 3, 5, 3, pad=1), nets.conv(rng, 5, 4, 3, pad=1)
    layers = (first, nets.Relu(), nets.MaxPool(3, 2), second, nets.Relu(), nets.MaxPool(2, 1))
    return nets.Net((3, 11, 9), layers)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("unpool", "overlap"), [("add", "add"), ("last", "overwrite")])
def test_what_overlapping_windows_share(unpool: Any, overlap: Any, seed: int, tmp_path: Path) -> None:
    net = overlapping(seed)
    images = nets.pictures(seed, 2, net.shape)
    model = loaded(net, tmp_path)
    result = model.run("deconvnet", images, layer="maxpool2", top=3, units=2, unpool=unpool, batch_size=2)
    traces = [deconvnet.forward(net, image) for image in images]
    differs = False
    for k, u in zip(*(result.arrays["image"] >= 0).nonzero(), strict=True):
        trace = traces[result.arrays["image"][k, u]]
        at = (result.arrays["channel"][k], *result.arrays["position"][k, u])
        signal = result.arrays["activation"][k, u] * deconvnet.unit(trace.top.shape, at)
        wanted, other = (
            deconvnet.backward(net, trace, signal.astype(np.float64), "deconvnet", how)
            for how in (overlap, {"add": "overwrite", "overwrite": "add"}[overlap])
        )
        assert np.abs(result.array[k, u] - wanted).max() <= DRIFT * np.abs(wanted).max()
        differs |= bool(np.abs(other - wanted).max() > 1e-3 * np.abs(wanted).max())
    assert differs


def test_the_last_of_windows_with_padding_and_a_remainder(tmp_path: Path) -> None:
    """Pooling as torch's own cannot do it: padding on one side, and a window that reaches over the edge."""
    from onnx.helper import make_node

    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}
    weight = np.ones((1, 1, 3, 3), np.float32)
    nodes = [
        make_node("MaxPool", ["input"], ["pooled"], **window),
        make_node("Conv", ["pooled", "w"], ["sum"], pads=[1, 1, 1, 1]),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 1, 6, 7]}, ["sum"], {"w": weight})
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    image = np.abs(nets.pictures(1, 1, (1, 6, 7)))
    found = {
        unpool: model.run("deconvnet", image, layer="sum", channel=[0], units=1, unpool=unpool)
        for unpool in ("add", "last")
    }
    strength = found["add"].arrays["activation"].item()
    row, column = found["add"].arrays["position"][0, 0].tolist()
    wanted = {"add": np.zeros((6, 7)), "last": np.zeros((6, 7))}
    for i in range(max(0, row - 1), min(4, row + 2)):  # rows -1..1, 1..3, 3..5, 5..7 of the input
        for j in range(max(0, column - 1), min(4, column + 2)):  # columns 0..2, 2..4, 4..6, 6..8
            top, left = max(0, 2 * i - 1), 2 * j
            if left >= 7 or top >= 6:
                continue
            part = image[0, 0, top : 2 * i + 2, left : 2 * j + 3]
            at = np.unravel_index(part.argmax(), part.shape)
            place = top + at[0], left + at[1]
            wanted["add"][place] += strength
            wanted["last"][place] = strength
    assert not np.array_equal(wanted["add"], wanted["last"])
    for unpool, result in found.items():
        np.testing.assert_allclose(result.array[0, 0, 0], wanted[unpool], rtol=1e-6)


def test_a_net_without_max_pooling_is_told_of(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 6, 7), np.float32)
    image[0, 0, 1, 1] = image[0, 0, 4, 5] = 1.0
    method = registry.method("deconvnet")
    (finding,) = method.findings(dots(tmp_path).run("deconvnet", image, layer="relu2", channel=0))
    assert finding.text.startswith("No max pooling lies before relu2")
    net = nets.classifier(2)
    images = nets.pictures(2, 3, net.shape)
    for layer, told in (("relu1", True), ("relu2", False)):
        found = method.findings(loaded(net, tmp_path).run("deconvnet", images, layer=layer, top=1))
        assert [each.text.startswith("No max pooling") for each in found] == [True] * told
