"""Class activation maps against Captum, and against twins made of what it reads off a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum._utils.gradient import compute_layer_gradients_and_eval
from captum.attr import (
    GuidedGradCam,
    LayerActivation,
    LayerAttribution,
    LayerGradCam,
    LayerGradientXActivation,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import convlens
from convlens.model import Model
from reference import nets

DRIFT = 1e-5
"""Of the largest magnitude: both run in float32, with sums in another order."""

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning:captum")

TARGET = 2
LAYERS = {"relu1": 1, "maxpool1": 2, "conv2": 3, "relu2": 4}
"""Their places in the module."""


def twin(net: nets.Net) -> nn.Sequential:
    """``nets.classifier`` as a person would write it in torch."""
    first, _, _, second, _, last = net.layers
    assert isinstance(first, nets.Conv)
    assert isinstance(second, nets.Conv)
    assert isinstance(last, nets.Dense)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(5, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(last.weight.shape[1], 4),
    )  # fmt: skip
    for place, layer in ((0, first), (3, second), (6, last)):
        weights = {"weight": torch.from_numpy(layer.weight), "bias": torch.from_numpy(layer.bias)}
        module[place].load_state_dict(weights)
    return module.eval()


@pytest.fixture
def net() -> nets.Net:
    return nets.classifier(7, (3, 18, 14))


@pytest.fixture
def images(net: nets.Net) -> NDArray[np.float32]:
    return nets.pictures(7, 3, net.shape, np.float32)


@pytest.fixture
def model(net: nets.Net, tmp_path: Path) -> Model:
    return convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)


def alike(found: NDArray[Any], wanted: Tensor) -> None:
    expected = wanted.detach().numpy()
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.abs(found - expected).max() <= DRIFT * scale


def over_input(coarse: Tensor, images: NDArray[Any]) -> Tensor:
    size = (images.shape[2], images.shape[3])
    found = LayerAttribution.interpolate(coarse, size, interpolate_mode="bilinear")
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_grad_cam_equals_captums(layer: str, net: nets.Net, images: NDArray[Any], model: Model) -> None:
    module = twin(net)
    found = model.run("grad-cam", images, TARGET, layer=layer, batch_size=2)
    method = LayerGradCam(module, module[LAYERS[layer]])
    given = torch.from_numpy(images)
    alike(found.arrays["signed"], method.attribute(given, target=TARGET)[:, 0])
    coarse = method.attribute(given, target=TARGET, relu_attributions=True)
    alike(found.arrays["coarse"], coarse[:, 0])
    alike(found.array, over_input(coarse, images)[:, 0])


def test_captums_grad_cam_on_the_graph_itself(images: NDArray[Any], model: Model) -> None:
    named = dict(model.torch.named_modules())
    place = next(name for name in named if name.endswith("relu2"))
    wanted = LayerGradCam(model.torch, named[place]).attribute(torch.from_numpy(images), target=TARGET)
    alike(model.run("grad-cam", images, TARGET, layer="relu2").arrays["signed"], wanted[:, 0])


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_guided_grad_cam_equals_captums(
    layer: str, net: nets.Net, images: NDArray[Any], model: Model
) -> None:
    module = twin(net)
    method = GuidedGradCam(module, module[LAYERS[layer]])
    given = torch.from_numpy(images).requires_grad_()
    wanted = method.attribute(given, target=TARGET, interpolate_mode="bilinear")
    alike(model.run("guided-grad-cam", images, TARGET, layer=layer).array, wanted)


@pytest.mark.parametrize("layer", ["relu1", "maxpool1", "relu2"])
def test_layer_cam_is_the_positive_part_of_gradient_times_activation(
    layer: str, net: nets.Net, images: NDArray[Any], model: Model
) -> None:
    """The two are the same where no activation is negative."""
    module = twin(net)
    method = LayerGradientXActivation(module, module[LAYERS[layer]])
    wanted = functional.relu(method.attribute(torch.from_numpy(images), target=TARGET)).sum(dim=1)
    alike(model.run("layer-cam", images, TARGET, layer=layer).arrays["coarse"], wanted)


@pytest.mark.parametrize("layer", ["relu1", "maxpool1", "relu2"])
def test_grad_cam_plus_plus_from_the_layer_and_its_gradient(
    layer: str, net: nets.Net, images: NDArray[Any], model: Model
) -> None:
    module = twin(net)
    (gradient,), (value,) = compute_layer_gradients_and_eval(
        module, module[LAYERS[layer]], torch.from_numpy(images), TARGET
    )
    below = 2 * gradient**2 + value.sum(dim=(2, 3), keepdim=True) * gradient**3
    alpha = torch.where(gradient != 0, gradient**2 / below, torch.zeros(()))
    weights = (alpha * functional.relu(gradient)).sum(dim=(2, 3), keepdim=True)
    wanted = functional.relu((weights * value).sum(dim=1))
    alike(model.run("grad-cam-plus-plus", images, TARGET, layer=layer).arrays["coarse"], wanted)


@pytest.mark.parametrize("layer", LAYERS)
def test_eigen_cam_from_the_layer(layer: str, net: nets.Net, images: NDArray[Any], model: Model) -> None:
    module = twin(net)
    value = LayerActivation(module, module[LAYERS[layer]]).attribute(torch.from_numpy(images))
    assert isinstance(value, Tensor)
    places = value.flatten(2).transpose(1, 2).double()
    (left, strength, _) = torch.linalg.svd(places, full_matrices=False)
    component = (left[:, :, 0] * strength[:, :1]).reshape(len(value), *value.shape[2:])
    component = component * component.sum(dim=(1, 2), keepdim=True).sign()
    alike(model.run("eigen-cam", images, TARGET, layer=layer).arrays["signed"], component)


@pytest.mark.parametrize("layer", ["maxpool1", "relu2"])
def test_score_cam_from_the_layer(layer: str, net: nets.Net, images: NDArray[Any], model: Model) -> None:
    module = twin(net)
    given = torch.from_numpy(images)
    value = LayerActivation(module, module[LAYERS[layer]]).attribute(given)
    assert isinstance(value, Tensor)
    mask = over_input(value, images)
    low, high = mask.amin(dim=(2, 3), keepdim=True), mask.amax(dim=(2, 3), keepdim=True)
    mask = torch.where(high > low, (mask - low) / (high - low), torch.zeros(()))
    with torch.no_grad():
        empty = module(torch.zeros_like(given)).softmax(dim=1)[:, TARGET]
        weights = torch.stack(
            [
                module(given * mask[:, k : k + 1]).softmax(dim=1)[:, TARGET] - empty
                for k in range(len(mask[0]))
            ],
            dim=1,
        )
    weights = weights * (high > low)[:, :, 0, 0]
    found = model.run("score-cam", images, TARGET, layer=layer)
    alike(found.arrays["weights"], weights)
    alike(found.arrays["signed"], (weights[:, :, None, None] * value).sum(dim=1))
