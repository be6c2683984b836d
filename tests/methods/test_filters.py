"""``filters`` against sums over a dense Fourier transform, and on filters planted to be found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.helper import make_node

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
