"""The three rules on whole networks against explicit loops written from the papers, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from reference import deconvnet, nets
from reference.nets import MaxPool, Net, Relu

DRIFT = 1e-9
"""Of the largest magnitude: float64 on both sides, so only the order of sums differs."""

RULES = ("plain", "guided", "deconvnet")


def strided(seed: int) -> Net:
    """Strides without pooling; a rectifier right after the input layer."""
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 2, 4, 3, stride=2, pad=1), nets.conv(rng, 4, 5, 2, stride=2)
    return Net((2, 12, 10), (first, Relu(), second, Relu(), nets.dense(rng, 5 * 3 * 2, 3)))


def padded(seed: int) -> Net:
    """Generous padding, 5 x 5 kernels, and pooling that leaves a border out."""
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 1, 3, 5, pad=3), nets.conv(rng, 3, 4, 3, pad=2)
    layers = (first, Relu(), MaxPool(3, 3), second, Relu(), MaxPool(2, 2), nets.dense(rng, 4 * 3 * 2, 5))
    return Net((1, 10, 8), layers)


def deep(seed: int) -> Net:
    """Two dense layers with a rectifier between, and a convolution that nothing rectifies."""
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 3, 4, 1), nets.conv(rng, 4, 4, 3)
    hidden, last = nets.dense(rng, 4 * 2 * 2, 6), nets.dense(rng, 6, 3)
    return Net((3, 6, 6), (first, second, Relu(), MaxPool(2, 2), hidden, Relu(), last))


def overlapping(seed: int) -> Net:
    """Pooling windows of 3 with a stride of 2, as AlexNet has them."""
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 3, 5, 3, pad=1), nets.conv(rng, 5, 4, 3, pad=1)
    return Net(
        (3, 9, 11),
        (first, Relu(), MaxPool(3, 2), second, Relu(), MaxPool(2, 1), nets.dense(rng, 4 * 3 * 4, 3)),
    )


BUILDERS = (nets.classifier, strided, padded, deep)


def expected(
    net: Net, images: NDArray[Any], signal: NDArray[Any], rule: Any, overlap: Any = "add"
) -> NDArray[Any]:
    """The reference's signal at the input, image by image."""
    traces = [deconvnet.forward(net, image) for image in images]
    return np.stack([deconvnet.backward(net, trace, signal, rule, overlap) for trace in traces])


def drift(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Largest difference, relative to the largest magnitude that was expected."""
    assert found.dtype == np.float64
    assert found.shape == wanted.shape
    scale = float(np.abs(wanted).max())
    assert scale > 0, "the case is empty: no signal reaches the input"
    return float(np.abs(found - wanted).max()) / scale


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("build", BUILDERS, ids=lambda b: b.__name__)
def test_each_rule_equals_its_reference(build: Any, seed: int, tmp_path: Path) -> None:
    net = build(seed)
    images = nets.pictures(seed, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    classes = len(net.layers[-1].bias)
    for rule in RULES:
        for target in {0, classes - 1}:
            found = model.run("saliency", images, target, rule=rule)
            wanted = expected(net, images, deconvnet.unit((classes,), (target,)), rule)
            assert drift(found.array, wanted) < DRIFT, f"{rule} to class {target}"
            scores = [deconvnet.forward(net, image).top[target] for image in images]
            np.testing.assert_allclose(found.arrays["score"], scores, rtol=DRIFT)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", ["conv2:3@1,1", "conv2:2", "relu2:2@2,1", "maxpool1:4@0,3"])
def test_each_rule_from_a_unit_inside(rule: Any, target: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 3, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    name, _, place = target.partition(":")
    channel, _, at = place.partition("@")
    part = net.until(name)
    shape = deconvnet.forward(part, images[0]).top.shape
    signal = np.zeros(shape)
    if at:
        signal[(int(channel), *map(int, at.split(",")))] = 1.0
    else:
        signal[int(channel)] = 1 / (shape[1] * shape[2])  # a channel is the mean of its units
    found = model.run("saliency", images, target, rule=rule)
    assert drift(found.array, expected(part, images, signal, rule)) < DRIFT


def test_the_rules_differ(tmp_path: Path) -> None:
    net = nets.classifier(5)
    images = nets.pictures(5, 1, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    arrays = [model.run("saliency", images, 1, rule=rule).array for rule in RULES]
    for one in range(3):
        for other in range(one):
            apart = np.abs(arrays[one] - arrays[other]).max() / np.abs(arrays[one]).max()
            assert apart > 0.01, f"{RULES[one]} and {RULES[other]} look the same"


def test_biases_play_no_part_on_the_way_back(tmp_path: Path) -> None:
    """Moving a bias without moving a switch leaves the deconvnet's picture as it is."""
    net = nets.classifier(7)
    images = nets.pictures(7, 1, net.shape)
    pictures = []
    for name, offset in (("as-is", 0.0), ("moved", 1e-4)):
        last = net.layers[-1]
        assert isinstance(last, nets.Dense)
        changed = Net(net.shape, (*net.layers[:-1], nets.Dense(last.weight, last.bias + np.float32(offset))))
        model = convlens.load(nets.saved(changed.onnx(), tmp_path, name), threads=1)
        result = model.run("saliency", images, 0, rule="deconvnet")
        pictures.append((result.array, float(result.arrays["score"][0])))
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    assert pictures[0][1] != pictures[1][1]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_overlapping_pooling_adds(rule: Any, seed: int, tmp_path: Path) -> None:
    net = overlapping(seed)
    images = nets.pictures(seed, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    signal = deconvnet.unit((3,), (1,))
    found = model.run("saliency", images, 1, rule=rule)
    assert drift(found.array, expected(net, images, signal, rule, "add")) < DRIFT
    assert drift(found.array, expected(net, images, signal, rule, "overwrite")) > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_overlap_differs_from_overwriting_only_where_a_maximum_is_shared(seed: int, tmp_path: Path) -> None:
    """Every signal is positive here, so a place that two windows share adds up to more than its last one."""
    rng = np.random.default_rng(seed)
    after = nets.conv(rng, 2, 3, 2)
    net = Net((2, 9, 9), (MaxPool(3, 2), nets.Conv(np.abs(after.weight), after.bias)))
    images = nets.pictures(seed, 1, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    # the channel's mean sends a positive signal to every window
    found = model.run("saliency", images, "conv1:1", rule="deconvnet").array[0]
    trace = deconvnet.forward(net, images[0])
    signal = np.zeros(trace.top.shape)
    signal[1] = 1 / trace.top[1].size
    overwritten = deconvnet.backward(net, trace, signal, "deconvnet", "overwrite")
    shared = deconvnet.shared(trace.switches[0], images[0].shape) > 1
    assert 0 < shared.sum() < shared.size
    differs = np.abs(found - overwritten) > DRIFT * np.abs(overwritten).max()
    np.testing.assert_array_equal(differs, shared)
    assert (found[shared] > overwritten[shared]).all()


def test_without_overlap_adding_and_overwriting_are_the_same() -> None:
    net = nets.classifier(2)
    trace = deconvnet.forward(net, nets.pictures(2, 1, net.shape)[0])
    signal = deconvnet.unit(trace.top.shape, (0,))
    added = deconvnet.backward(net, trace, signal, "deconvnet", "add")
    np.testing.assert_array_equal(added, deconvnet.backward(net, trace, signal, "deconvnet", "overwrite"))


@pytest.mark.parametrize("build", [*BUILDERS, overlapping], ids=lambda b: b.__name__)
def test_the_reference_gradient_is_the_slope_of_the_reference_forward(build: Any) -> None:
    """The reference itself against central differences, so that it can stand in for the papers."""
    net = build(11)
    image = nets.pictures(11, 1, net.shape)[0]
    trace = deconvnet.forward(net, image)
    gradient = deconvnet.backward(net, trace, deconvnet.unit(trace.top.shape, (0,)), "plain")
    rng, step = np.random.default_rng(0), 1e-6
    for _ in range(4):
        direction = rng.normal(size=image.shape)
        above = deconvnet.forward(net, image + step * direction).top[0]
        below = deconvnet.forward(net, image - step * direction).top[0]
        slope = (above - below) / (2 * step)
        # 1e-6 of a step leaves ten digits of float64; kinks are rarely that near
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6, abs=1e-7)
