"""Against Captum: on the same network written in torch.nn, and on the PyTorch graph itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from numpy.typing import NDArray
from torch import nn

import convlens
from convlens.model import Model
from reference import nets

DRIFT = 1e-5
"""Of the largest magnitude: both run in float32, with sums in another order."""

PLACES = 1e-9
"""Of the largest magnitude, in float64."""

PAIRS = {"plain": Saliency, "guided": GuidedBackprop, "deconvnet": Deconvolution}

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning:captum")


def twin(net: nets.Net) -> nn.Sequential:
    """The same layers with the same weights as a person would write them in torch."""
    modules: list[nn.Module] = []
    for layer in net.layers:
        if isinstance(layer, nets.Conv):
            outputs, inputs, height, width = layer.weight.shape
            conv = nn.Conv2d(inputs, outputs, (height, width), layer.stride, layer.pad)
            modules.append(_weighted(conv, layer.weight, layer.bias))
        elif isinstance(layer, nets.Relu):
            modules.append(nn.ReLU(inplace=False))
        elif isinstance(layer, nets.MaxPool):
            modules.append(nn.MaxPool2d(layer.kernel, layer.stride))
        else:
            dense = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
            modules += [nn.Flatten(), _weighted(dense, layer.weight, layer.bias)]
    return nn.Sequential(*modules).eval()


def _weighted(module: Any, weight: NDArray[Any], bias: NDArray[Any]) -> nn.Module:
    module.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return module


def overlapping(seed: int) -> nets.Net:
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 3, 6, 3, pad=1), nets.conv(rng, 6, 6, 3)
    layers = (first, nets.Relu(), nets.MaxPool(3, 2), second, nets.Relu(), nets.dense(rng, 6 * 3 * 2, 4))
    return nets.Net((3, 12, 10), layers)


def loaded(net: nets.Net, folder: Path) -> Model:
    return convlens.load(nets.saved(net.onnx(), folder), threads=1)


def drift(found: NDArray[Any], wanted: torch.Tensor) -> float:
    expected = wanted.detach().numpy()
    assert np.abs(expected).max() > 0
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("build", [nets.classifier, overlapping], ids=["classifier", "overlapping"])
@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("target", [0, 3])
def test_each_rule_equals_captums(rule: str, target: int, build: Any, tmp_path: Path) -> None:
    net = build(1)
    images = nets.pictures(1, 3, net.shape, np.float32)
    options = {"abs": False} if rule == "plain" else {}
    given = torch.from_numpy(images).requires_grad_()
    wanted = PAIRS[rule](twin(net)).attribute(given, target=target, **options)
    found = loaded(net, tmp_path).run("saliency", images, target, rule=rule, batch_size=2)
    assert drift(found.array, wanted) < DRIFT


@pytest.mark.parametrize("rule", PAIRS)
def test_captum_runs_on_the_graph_itself(rule: str, tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape, np.float32)
    model = loaded(net, tmp_path)
    options = {"abs": False} if rule == "plain" else {}
    given = torch.from_numpy(images).requires_grad_()
    wanted = PAIRS[rule](model.torch).attribute(given, target=2, **options)
    found = model.run("saliency", images, 2, rule=rule)
    assert drift(found.array, wanted) < DRIFT


def test_captum_leaves_the_graph_as_it_was(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 2, net.shape, np.float32)
    model = loaded(net, tmp_path)
    before = model.run("saliency", images, 1, rule="guided").array
    GuidedBackprop(model.torch).attribute(torch.from_numpy(images).requires_grad_(), target=2)
    np.testing.assert_array_equal(model.run("saliency", images, 1, rule="guided").array, before)


def test_each_image_has_its_own_target(tmp_path: Path) -> None:
    """No target means the predicted class, image by image."""
    net = nets.classifier(6)
    images = nets.pictures(6, 6, net.shape, np.float32)
    module = twin(net)
    given = torch.from_numpy(images).requires_grad_()
    predicted = module(given).argmax(dim=1)
    assert len(set(predicted.tolist())) > 1
    wanted = Saliency(module).attribute(given, target=predicted, abs=False)
    found = loaded(net, tmp_path).run("saliency", images, batch_size=4)
    assert drift(found.array, wanted) < DRIFT
    assert found.how["target"]["index"] == predicted.tolist()


QUADRATURES = {
    "midpoint": ("riemann_middle", 1.0, PLACES),
    # Captum's trapezoid divides by its 16 places, where 15 intervals make up the way
    "trapezoid": ("riemann_trapezoid", 16 / 15, PLACES),
    "gauss-legendre": ("gausslegendre", 1.0, DRIFT),
}
"""Captum's name, what its weights have to be multiplied by, and how near the two come.

Captum rounds weights to float32; those of 16 even steps are exact in it.
"""


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("build", [nets.classifier, overlapping], ids=["classifier", "overlapping"])
def test_integrated_gradients_equal_captums(quadrature: str, build: Any, tmp_path: Path) -> None:
    """In float64: between two steps a rectifier may switch, and float32 lets either side see it first."""
    (theirs, factor, tolerance), steps = QUADRATURES[quadrature], 16
    net = build(1)
    images = nets.pictures(1, 3, net.shape)
    baseline = torch.full(images.shape, 0.25, dtype=torch.float64)
    method = IntegratedGradients(twin(net).double())
    given = torch.from_numpy(images)
    wanted = method.attribute(given, baseline, target=2, n_steps=steps, method=theirs)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, kind="image")
    settings = {"quadrature": quadrature, "steps": steps, "baseline": "0.25"}
    found = model.run("integrated-gradients", images, 2, batch_size=7, **settings)
    assert drift(found.array, factor * wanted) < tolerance
    if factor == 1.0:
        rise = found.arrays["score"] - found.arrays["start"]
        delta = method.compute_convergence_delta(wanted, baseline, given, target=2).numpy()
        np.testing.assert_allclose(found.arrays["completeness"], 1 + delta / rise, rtol=DRIFT)


@pytest.mark.parametrize("build", [nets.classifier, overlapping], ids=["classifier", "overlapping"])
def test_input_x_gradient_equals_captums(build: Any, tmp_path: Path) -> None:
    net = build(3)
    images = nets.pictures(3, 3, net.shape, np.float32)
    given = torch.from_numpy(images).requires_grad_()
    wanted = InputXGradient(twin(net)).attribute(given, target=1)
    assert drift(loaded(net, tmp_path).run("input-x-gradient", images, 1).array, wanted) < DRIFT


@pytest.mark.parametrize(
    ("statistic", "theirs"), [("mean", "smoothgrad"), ("variance", "vargrad"), ("square", "smoothgrad_sq")]
)
@pytest.mark.parametrize("rule", PAIRS)
def test_smoothgrad_equals_captums_noise_tunnel(
    statistic: str, theirs: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captum draws its copies by one function; it is given the very copies that ours are."""
    net, samples = nets.classifier(1), 6
    images = nets.pictures(1, 2, net.shape)
    draws = [np.random.default_rng([4, number]).standard_normal(net.shape) for number in range(samples)]
    spread = [0.1 * (image.max() - image.min()) for image in images]
    copies = np.stack([image + s * d for image, s in zip(images, spread, strict=True) for d in draws])

    def same(given: torch.Tensor, _stdev: float, count: int) -> torch.Tensor:
        assert (len(given), count) == (len(images), samples)
        return torch.from_numpy(copies)

    monkeypatch.setattr(NoiseTunnel, "_add_noise_to_input", staticmethod(same))
    options = {"abs": False} if rule == "plain" else {}
    tunnel = NoiseTunnel(PAIRS[rule](twin(net).double()))
    given = torch.from_numpy(images).requires_grad_()
    wanted = tunnel.attribute(given, nt_type=theirs, nt_samples=samples, target=2, **options)
    settings = {"statistic": statistic, "samples": samples, "noise": 0.1, "rule": rule}
    found = loaded(net, tmp_path).run("smoothgrad", images, 2, seed=4, **settings)
    assert drift(found.array, wanted) < PLACES
