"""Against Captum: on the same network written in torch.nn, and on the PyTorch graph itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, Saliency
from numpy.typing import NDArray
from torch import nn

import convlens
from convlens.model import Model
from reference import nets

DRIFT = 1e-5
"""Of the largest magnitude: both run in float32, with sums in another order."""

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
