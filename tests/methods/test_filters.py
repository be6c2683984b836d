"""``filters`` against sums over a dense Fourier transform, and on filters planted to be found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.helper import make_node, make_opsetid

import convlens
from convlens import registry
from convlens.errors import LayerError
from convlens.methods.filters import high_share
from reference import filters, nets

POINTS = 4096
"""Frequencies along the only axis of a one-dimensional kernel."""

POINTS_2D = 512
"""The same along each of two axes."""

EXACT = 1e-12
"""Between the share and its closed form, both float64."""

ONE = 1e-6
"""Of the share by POINTS frequencies: the sum's error falls with their square, to 1e-7 and less."""

TWO = 1e-4
"""Of the share by POINTS_2D frequencies along each axis: eight times as coarse, so 64 times the error."""


def model_with(weight: NDArray[np.float32], folder: Path, stride: int = 1) -> convlens.Model:
    spatial = weight.ndim - 2
    nodes = [make_node("Conv", ["input", "w"], ["conv"], strides=[stride] * spatial)]
    dims = ["N", weight.shape[1], *[max(12, *weight.shape[2:])] * spatial]
    proto = nets.model_of(nodes, {"input": dims}, ["conv"], {"w": weight})
    return convlens.load(nets.saved(proto, folder), threads=1)


@pytest.mark.parametrize("cutoff", [1 / 4, 1 / 6, 1 / 8])
@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_the_share_along_one_axis(size: int, cutoff: float) -> None:
    kernels = np.random.default_rng(size).normal(size=(4, 3, size))
    found = high_share(kernels, cutoff)
    for kernel, share in zip(kernels, found, strict=True):
        assert share == pytest.approx(filters.high_share(kernel, cutoff, POINTS), abs=ONE)


@pytest.mark.parametrize("cutoff", [1 / 4, 1 / 6, 1 / 8])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 2), (7, 7)])
def test_the_share_in_the_plane(shape: tuple[int, int], cutoff: float) -> None:
    kernels = np.random.default_rng(1).normal(size=(2, 3, *shape))
    found = high_share(kernels, cutoff)
    for kernel, share in zip(kernels, found, strict=True):
        assert share == pytest.approx(filters.high_share(kernel, cutoff, POINTS_2D), abs=TWO)


def test_the_sum_converges_to_the_share() -> None:
    """Twice the frequencies leave a quarter of the difference: what is left is the sum's own error."""
    kernel = np.random.default_rng(3).normal(size=(2, 5, 5))
    share = float(high_share(kernel[None], 1 / 6)[0])
    apart = [abs(filters.high_share(kernel, 1 / 6, points) - share) for points in (60, 120, 240)]
    assert apart[0] < 1e-2
    assert apart[1] < 0.3 * apart[0]
    assert apart[2] < 0.3 * apart[1]


def test_one_tap_has_every_frequency_alike() -> None:
    """The spectrum is flat, so the share is the area outside the square of side 2 / (2 s)."""
    tap = np.zeros((1, 2, 5, 5))
    tap[0, 0, 1, 3] = -0.7
    for stride in (2, 3, 4):
        assert high_share(tap, 1 / (2 * stride))[0] == pytest.approx(1 - 1 / stride**2, abs=EXACT)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_white_noise_in_the_mean(stride: int, tmp_path: Path) -> None:
    """1 - 1 / s^2, with s the stride but 2 at least; 512 kernels leave an error of half a percent."""
    weight = np.random.default_rng(0).normal(size=(512, 3, 5, 5)).astype(np.float32)
    result = model_with(weight, tmp_path, stride).run("filters")
    wanted = 1 - 1 / max(2, stride) ** 2
    assert result.arrays["high"].mean() == pytest.approx(wanted, abs=0.01)
    assert result.hints["noise"] == pytest.approx(wanted)
    assert result.hints["cutoff"] == pytest.approx(1 / (2 * max(2, stride)))


@pytest.mark.parametrize("spatial", [1, 3])
def test_white_noise_along_another_number_of_axes(spatial: int, tmp_path: Path) -> None:
    """Outside the cube of frequencies lies 1 - 1 / s^d of them."""
    weight = np.random.default_rng(0).normal(size=(512, 3, *[4] * spatial)).astype(np.float32)
    result = model_with(weight, tmp_path).run("filters")
    assert result.arrays["high"].mean() == pytest.approx(1 - 1 / 2**spatial, abs=0.01)
    assert result.hints["noise"] == pytest.approx(1 - 1 / 2**spatial)


def planted() -> NDArray[np.float32]:
    """Forty ordinary filters; 3 is dead, 5 nearly dead, 7 loud, 9 a checkerboard, 11 smooth, 13 all zero."""
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(40, 3, 7, 7))
    rows, columns = np.mgrid[:7, :7]
    weight[3] *= 0.009
    weight[5] *= 0.02
    weight[7] *= 5
    weight[9] = (-1.0) ** (rows + columns) * np.hanning(9)[1:-1, None] * np.hanning(9)[1:-1]
    weight[11] = np.exp(-((rows - 3) ** 2 + (columns - 3) ** 2) / 6)
    weight[13] = 0
    return weight.astype(np.float32)


def test_planted_filters_are_told_apart(tmp_path: Path) -> None:
    weight = planted()
    result = model_with(weight, tmp_path).run("filters")
    np.testing.assert_array_equal(result.array, weight)
    rms = [filters.rms(kernel) for kernel in weight]
    np.testing.assert_allclose(result.arrays["rms"], rms, rtol=1e-12)
    assert [row["filter"] for row in result.rows if row["dead"]] == [3, 13]
    assert [row["filter"] for row in result.rows if row["loud"]] == [7]
    for index, row in enumerate(result.rows):
        assert row["dead"] == (rms[index] < 0.01 * np.median(rms))
        assert row["loud"] == (rms[index] > 4 * np.median(rms))
        assert row["rms"] == result.arrays["rms"][index]
        assert row["high"] == result.arrays["high"][index]
    high = result.arrays["high"]
    assert high[9] > 0.99
    assert high[11] < 0.01
    assert high[13] == 0


def test_findings_name_the_planted_ones(tmp_path: Path) -> None:
    method = registry.methods()["filters"]
    found = method.findings(model_with(planted(), tmp_path).run("filters"))
    dead, loud = (next(f for f in found if word in f.text) for word in ("dead", "dominate"))
    assert dead.level == loud.level == "attention"
    assert dead.text.startswith("2 of 40 filters of conv")
    assert re.findall(r"\d+", dead.evidence)[:2] == ["3", "13"]
    assert re.findall(r"\d+", loud.evidence)[0] == "7"


def test_findings_warn_of_aliasing_and_praise_what_is_healthy(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:5, :5]
    smooth = np.exp(-((rows - 2) ** 2 + (columns - 2) ** 2) / 4)
    method = registry.methods()["filters"]
    healthy = np.tile(smooth, (8, 3, 1, 1)).astype(np.float32)
    found = method.findings(model_with(healthy, tmp_path).run("filters"))
    assert [f.level for f in found] == ["good"]
    rough = healthy * (-1.0) ** (rows + columns).astype(np.float32)
    found = method.findings(model_with(rough.astype(np.float32), tmp_path).run("filters"))
    assert found[-1].level == "attention"
    assert "8 of 8 filters" in found[-1].text


@pytest.mark.parametrize("stride", [1, 3])
def test_one_by_one_kernels_are_not_called_rough(stride: int, tmp_path: Path) -> None:
    """Their spectrum is flat, which is what noise has in the mean; rounding must not tip the scales."""
    weight = np.random.default_rng(0).normal(size=(64, 16, 1, 1)).astype(np.float32)
    method = registry.methods()["filters"]
    found = method.findings(model_with(weight, tmp_path, stride).run("filters"))
    assert [f.level for f in found] == ["good"]


def test_layers_are_taken_by_name_and_the_first_by_default(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    first, second = net.layers[0], net.layers[3]
    assert isinstance(first, nets.Conv)
    assert isinstance(second, nets.Conv)
    np.testing.assert_array_equal(model.run("filters").array, first.weight)
    np.testing.assert_array_equal(model.run("filters", layer="conv2").array, second.weight)
    with pytest.raises(LayerError, match="is Relu and has no filters; expected a convolution"):
        model.run("filters", layer="relu1")


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolutions_filters_are_its_outputs(group: int, tmp_path: Path) -> None:
    """ONNX stores its weight inputs first: inputs x outputs a group x height x width."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    weight[:2, 1] = 0  # output 1 of the first group; without groups, part of output 1
    weight[2:, 1] = 0 if group == 1 else weight[2:, 1]
    nodes = [make_node("ConvTranspose", ["input", "w"], ["up"], strides=[2, 2], group=group)]
    proto = nets.model_of(nodes, {"input": ["N", 4, 6, 6]}, ["up"], {"w": weight})
    result = convlens.load(nets.saved(proto, tmp_path), threads=1).run("filters")
    assert result.array.shape == (3 * group, 4 // group, 2, 2)
    assert [row["filter"] for row in result.rows if row["dead"]] == [1]
    for output in range(3 * group):
        which, own = divmod(output, 3)
        inputs = range(which * 4 // group, (which + 1) * 4 // group)
        np.testing.assert_array_equal(result.array[output], weight[list(inputs), own])


def test_a_model_without_convolutions_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nets.Net((3, 4, 4), (nets.dense(rng, 48, 3),))
    with pytest.raises(LayerError, match="no convolution with constant weights"):
        convlens.load(nets.saved(net.onnx(), tmp_path), threads=1).run("filters")


CODES = np.random.default_rng(7).integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
SCALES = np.linspace(0.01, 0.06, 6).astype(np.float32)
ZERO = np.full(6, 3, np.int8)


def wanted(scales: NDArray[np.float32], zero: int) -> NDArray[np.float64]:
    """What the codes stand for, by the formula of the ONNX specification."""
    each = np.broadcast_to(scales, 6)
    return np.stack([(CODES[k].astype(np.float64) - zero) * float(each[k]) for k in range(6)])


def coded(which: str) -> tuple[onnx.ModelProto, NDArray[np.float64]]:
    """A convolution whose weights are stored as codes, and their numbers."""
    dims = {"input": ["N", 3, 8, 8]}
    one = {
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(128),
        "y_scale": np.float32(0.2),
        "y_zero": np.uint8(9),
    }
    stored = {name: np.array(value) for name, value in one.items()} | {
        "codes": CODES,
        "zero": np.array(3, np.int8),
    }
    if which == "QLinearConv":
        stored |= {"scales": SCALES, "zeros": np.zeros(6, np.int8)}
        reads = ["q", "x_scale", "x_zero", "codes", "scales", "zeros", "y_scale", "y_zero"]
        nodes = [
            make_node("QuantizeLinear", ["input", "x_scale", "x_zero"], ["q"]),
            make_node("QLinearConv", reads, ["y"]),
            make_node("DequantizeLinear", ["y", "y_scale", "y_zero"], ["out"]),
        ]
        return nets.model_of(nodes, dims, ["out"], stored), wanted(SCALES, 0)
    if which == "ConvInteger":
        nodes = [
            make_node("QuantizeLinear", ["input", "x_scale", "x_zero"], ["q"]),
            make_node("ConvInteger", ["q", "codes", "x_zero", "zero"], ["sums"]),
            make_node("Cast", ["sums"], ["out"], to=1),
        ]
        return nets.model_of(nodes, dims, ["out"], stored), wanted(np.float32([1]), 3)
    single = which == "one scale"
    stored |= {"scales": SCALES[:1].reshape(()) if single else SCALES}
    stored |= {"zeros": np.array(3, np.int8) if single else ZERO}
    how = {} if single else {"axis": 0}
    nodes = [
        make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], **how),
        make_node("Conv", ["input", "w"], ["out"]),
    ]
    return nets.model_of(nodes, dims, ["out"], stored), wanted(SCALES[:1] if single else SCALES, 3)


@pytest.mark.parametrize(
    "which", ["one scale", "a scale a filter", "onnxruntime's own", "QLinearConv", "ConvInteger"]
)
def test_weights_stored_as_codes_are_the_numbers_they_stand_for(which: str, tmp_path: Path) -> None:
    proto, numbers = coded(which)
    if which == "onnxruntime's own":
        proto.graph.node[0].domain = "com.microsoft"
        proto.opset_import.append(make_opsetid("com.microsoft", 1))
    model = convlens.load(nets.saved(proto, tmp_path), mean=0.5, std=0.25, threads=1)
    result = model.run("filters")
    np.testing.assert_allclose(result.array, numbers, rtol=1e-6)
    np.testing.assert_allclose(result.arrays["rms"], [filters.rms(kernel) for kernel in numbers], rtol=1e-6)
    assert result.hints["first"]
    if which in ("one scale", "a scale a filter", "onnxruntime's own"):
        plain = nets.model_of(
            [make_node("Conv", ["input", "w"], ["out"])],
            {"input": ["N", 3, 8, 8]},
            ["out"],
            {"w": numbers.astype(np.float32)},
        )
        x = nets.pictures(0, 1, (3, 8, 8), np.float32)
        same = convlens.load(nets.saved(plain, tmp_path, "plain"), threads=1)
        outs = [m.runner.run({"input": x}, m.graph.outputs)["out"] for m in (model, same)]
        np.testing.assert_allclose(outs[0], outs[1], rtol=1e-4, atol=1e-4)


def test_bands_are_those_of_the_sums(tmp_path: Path) -> None:
    weight = planted()[:4]
    result = model_with(weight, tmp_path).run("filters")
    for kernel, low, middle in zip(weight, result.arrays["low"], result.arrays["middle"], strict=True):
        below, above = (filters.high_share(kernel, cutoff, POINTS_2D) for cutoff in (1 / 6, 1 / 3))
        assert low == pytest.approx(1 - below, abs=TWO)
        assert middle == pytest.approx(below - above, abs=TWO)


def first_layer(kind: str, size: int) -> NDArray[np.float32]:
    """Sixteen filters of one kind, or half of them smooth and half rough."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:size, :size]
    smooth = np.exp(-((rows - size // 2) ** 2 + (columns - size // 2) ** 2) / (size / 2) ** 2)
    found = np.stack([smooth * rng.uniform(0.8, 1.2) for _ in range(16)])[:, None].repeat(3, 1)
    if kind in ("rough", "ends"):
        found[:: 1 if kind == "rough" else 2] *= (-1.0) ** (rows + columns)
    if kind == "dead":
        found[:5] *= 1e-4
    if kind == "loud":
        found[0] *= 30
    return np.asarray(found * 0.1, np.float32)


def found_in(kind: str, size: int, stride: int, folder: Path, **card: Any) -> list[registry.Finding]:
    nodes = [make_node("Conv", ["input", "w"], ["conv"], strides=[stride] * 2)]
    stored = {"w": first_layer(kind, size)}
    proto = nets.model_of(nodes, {"input": ["N", 3, 32, 32]}, ["conv"], stored)
    model = convlens.load(nets.saved(proto, folder), threads=1, **card)
    method = registry.methods()["filters"]
    return list(method.findings(model.run("filters")))


@pytest.mark.parametrize("kind", ["rough", "dead", "ends"])
def test_the_papers_remedy_is_given_where_the_layer_is_as_coarse(kind: str, tmp_path: Path) -> None:
    coarse = [f for f in found_in(kind, 11, 4, tmp_path) if f.level == "attention"]
    assert coarse
    assert all("kernels of 11 and a stride of 4, and less of it with 7 and 2" in f.text for f in coarse)
    assert all("here they are 11 and 4." in f.text for f in coarse)
    fine = [f for f in found_in(kind, 7, 2, tmp_path) if f.level == "attention"]
    assert fine
    assert not any("Zeiler" in f.text for f in fine)


def test_a_layer_without_a_middle_is_told_of(tmp_path: Path) -> None:
    (found,) = [f for f in found_in("ends", 7, 1, tmp_path) if "either smooth or rough" in f.text]
    assert "mostly below 1/6 cycles per pixel: 8, up to 1/3: 0, above: 8, of 16" in found.evidence
    assert not any("either smooth" in f.text for f in found_in("ends", 3, 1, tmp_path))
    assert not any("either smooth" in f.text for f in found_in("smooth", 7, 1, tmp_path))


def test_the_radius_is_that_of_the_numbers_that_go_in(tmp_path: Path) -> None:
    """0.1 for pixels of -128 to 128 is 6.4 for numbers of -2 to 2, where the loud filter stays below it."""
    whole = {"range": (0, 255), "mean": 128, "std": 1}
    (bytes_,) = [f for f in found_in("loud", 7, 2, tmp_path, **whole) if "dominates" in f.text]
    assert "for the numbers up to 128 that go in here it is 0.1, which 1 exceeds." in bytes_.text
    (small,) = [f for f in found_in("loud", 7, 2, tmp_path, mean=0.5, std=0.25) if "dominates" in f.text]
    assert small.text == "1 filter dominates the other filters of conv."
    (medium,) = [f for f in found_in("loud", 7, 2, tmp_path, mean=0.5, std=0.01) if "dominates" in f.text]
    assert "for the numbers up to 50 that go in here it is 0.26, which 1 exceeds." in medium.text
    (unknown,) = [f for f in found_in("loud", 7, 2, tmp_path) if "dominates" in f.text]
    assert unknown.text.endswith("fixed radius while training.")
