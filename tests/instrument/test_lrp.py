"""Relevance on whole networks: against matrices and shares written from the papers, and against Captum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from torch import nn

import convlens
from convlens.model import Model
from reference import deconvnet, lrp, nets
from reference.nets import Conv, MaxPool, Net, Relu

DRIFT = 1e-9
"""Of the largest magnitude: float64 on both sides, so only the order of sums differs."""

SINGLE = 1e-5
"""Of the largest magnitude: both run in float32, with sums in another order."""

node = helper.make_node


def loaded(net: Net, folder: Path, **card: Any) -> Model:
    return convlens.load(nets.saved(net.onnx(), folder), threads=1, **card)


def drift(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    assert np.abs(wanted).max() > 0
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def box_of(images: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each channel's own bounds, as one number an input."""
    low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    return tuple(np.broadcast_to(end[:, None, None], images.shape).reshape(-1) for end in (low, high))


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "epsilon-plus": ({}, lambda _x: (lrp.epsilon(1e-6), lrp.alpha_beta(1), None)),
    "without biases": (
        {"without_bias": True},
        lambda _x: (lrp.epsilon(1e-6), lrp.alpha_beta(1, bias=False), None),
    ),
    "epsilon-plus-flat": (
        {"composite": "epsilon-plus-flat", "epsilon": 0.3},
        lambda _x: (lrp.epsilon(0.3), lrp.alpha_beta(1), lrp.flat),
    ),
    "epsilon-gamma-box": (
        {"composite": "epsilon-gamma-box", "gamma": 0.4},
        lambda x: (lrp.epsilon(1e-6), lrp.gamma(0.4), lrp.box(*box_of(x))),
    ),
    "epsilon-alpha2-beta1-flat": (
        {"composite": "epsilon-alpha2-beta1-flat"},
        lambda _x: (lrp.epsilon(1e-6), lrp.alpha_beta(2), lrp.flat),
    ),
    "epsilon": ({"composite": "epsilon", "epsilon": 0.1}, lambda _x: (lrp.epsilon(0.1),) * 2 + (None,)),
    "epsilon of nothing": (
        {"composite": "epsilon", "epsilon": 0},
        lambda _x: (lrp.epsilon(0),) * 2 + (None,),
    ),
    "gamma": ({"composite": "gamma"}, lambda _x: (lrp.gamma(0.25),) * 2 + (None,)),
    "alpha-beta": (
        {"composite": "alpha-beta", "alpha": 1.5, "input_rule": "w-square"},
        lambda _x: (lrp.alpha_beta(1.5),) * 2 + (lrp.w_square,),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", [0, 2])
def test_each_composite_equals_the_papers(case: str, target: int, tmp_path: Path) -> None:
    net = nets.classifier(3, (2, 7, 6))
    images = nets.pictures(3, 2, net.shape)
    options, rules = CASES[case]
    found = loaded(net, tmp_path).run("lrp", images, target, batch_size=1, **options)
    for image, array in zip(images, found.array, strict=True):
        scores = deconvnet.forward(net, image).top
        top = np.where(np.arange(len(scores)) == target, scores, 0.0)
        dense, conv, first = rules(image)
        assert drift(array, lrp.propagate(net, image, top, dense, conv, first)) < DRIFT


def test_conservation_is_the_sum_by_the_score(tmp_path: Path) -> None:
    net = nets.classifier(3, (2, 7, 6))
    images = nets.pictures(3, 2, net.shape)
    result = loaded(net, tmp_path).run("lrp", images, 1)
    for image, kept, row in zip(images, result.arrays["conservation"], result.rows, strict=True):
        scores = deconvnet.forward(net, image).top
        top = np.where(np.arange(len(scores)) == 1, scores, 0.0)
        total = lrp.propagate(net, image, top, lrp.epsilon(1e-6), lrp.alpha_beta(1)).sum()
        assert kept == pytest.approx(total / scores[1], rel=1e-9)
        assert row["lost to biases and stabilisers"] == pytest.approx(1 - kept)


TARGETS = {
    "conv2:1": lambda z: _only(z, (1,)) / z[1].size,
    "conv2:1@0,1": lambda z: _only(z, (1, 0, 1)),
    "conv2": lambda z: z * z / np.sqrt((z * z).sum()),
    "conv2[0,1,:,1].max": lambda z: _only(z, (1, int(z[1, :, 1].argmax()), 1)),
    "conv2[0,4,1,:].sum": lambda z: _only(z, (4, 1)),
}


def _only(z: NDArray[Any], index: tuple[int, ...]) -> NDArray[Any]:
    found = np.zeros_like(z)
    found[index] = z[index]
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_relevance_starts_as_the_score(target: str, tmp_path: Path) -> None:
    """A linear layer that is the target itself is shared by the rule for dense layers: it has a sign."""
    net = nets.classifier(3, (2, 7, 6))
    image = nets.pictures(3, 1, net.shape)
    result = loaded(net, tmp_path).run("lrp", image, target)
    part = net.until("conv2")
    top = TARGETS[target](deconvnet.forward(part, image[0]).top)
    assert result.arrays["score"][0] == pytest.approx(top.sum())
    below = part.until("maxpool1")
    trace = deconvnet.forward(below, image[0])
    layer = part.layers[-1]
    assert isinstance(layer, Conv)
    middle = lrp.epsilon(1e-6)(trace.top.reshape(-1), *lrp.matrix(layer, trace.top.shape), top.reshape(-1))
    wanted = lrp.propagate(below, image[0], middle.reshape(trace.top.shape), lrp.flat, lrp.alpha_beta(1))
    assert drift(result.array[0], wanted) < DRIFT


def bare(seed: int, positive: bool = False, biased: bool = False) -> Net:
    """Like the classifier, without biases (or with positive ones), of pooling that leaves nothing out."""
    rng = np.random.default_rng(seed)
    first, second = nets.conv(rng, 2, 4, 3, pad=1), nets.conv(rng, 4, 5, 3, stride=2, pad=1)
    last = nets.dense(rng, 5 * 2 * 2, 3)
    layers = (first, Relu(), MaxPool(2, 2), second, Relu(), last)
    for layer in layers:
        if not isinstance(layer, Relu | MaxPool):
            layer.bias[:] = np.abs(layer.bias) if biased else 0
            if positive:
                layer.weight[:] = np.abs(layer.weight)
    return Net((2, 8, 6), layers)


@given(seed=st.integers(0, 10_000), composite=st.sampled_from(["epsilon", "gamma", "epsilon-plus-flat"]))
@settings(max_examples=12, deadline=None)
def test_without_biases_and_epsilon_nothing_is_lost(
    seed: int, composite: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = loaded(bare(seed), tmp_path_factory.mktemp("bare"))
    images = nets.pictures(seed, 2, (2, 8, 6))
    result = model.run("lrp", images, seed % 3, composite=composite, epsilon=0)
    some = result.arrays["score"] != 0
    np.testing.assert_allclose(result.arrays["conservation"][some], 1, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning:captum")
@pytest.mark.parametrize(
    ("composite", "rule"),
    [
        ({"composite": "epsilon", "epsilon": 0.01}, lambda: EpsilonRule(0.01)),
        ({"composite": "gamma", "gamma": 0.3}, lambda: GammaRule(0.3)),
        ({"composite": "alpha-beta", "alpha": 1}, Alpha1_Beta0_Rule),
    ],
    ids=["epsilon", "gamma", "alpha1-beta0"],
)
def test_captum_says_the_same_where_the_rules_coincide(composite: Any, rule: Any, tmp_path: Path) -> None:
    """Captum's gamma and alpha1-beta0 are for inputs from 0, positive outputs and biases from 0.

    Its gamma favours no positive biases, as the paper's does.
    """
    net = bare(4, biased="gamma" not in composite)
    images = np.abs(nets.pictures(4, 3, net.shape, np.float32))
    scores = [deconvnet.forward(net, image).top for image in images]
    target = int(np.stack(scores).min(axis=0).argmax())
    assert min(float(each[target]) for each in scores) > 0
    module = twin(net)
    for layer in module:
        if not isinstance(layer, nn.ReLU):
            layer.rule = rule() if isinstance(layer, nn.Conv2d | nn.Linear) else EpsilonRule()
    wanted = LRP(module).attribute(torch.from_numpy(images).requires_grad_(), target=target)
    found = loaded(net, tmp_path).run("lrp", images, target, **composite)
    assert drift(found.array, wanted.detach().numpy()) < SINGLE


def twin(net: Net) -> nn.Sequential:
    """The same layers with the same weights as a person would write them in torch."""
    modules: list[nn.Module] = []
    for layer in net.layers:
        if isinstance(layer, Conv):
            outputs, inputs, height, width = layer.weight.shape
            module: Any = nn.Conv2d(inputs, outputs, (height, width), layer.stride, layer.pad)
        elif isinstance(layer, Relu):
            modules.append(nn.ReLU())
            continue
        elif isinstance(layer, MaxPool):
            modules.append(nn.MaxPool2d(layer.kernel, layer.stride))
            continue
        else:
            modules.append(nn.Flatten())
            module = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        weights = {"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)}
        module.load_state_dict(weights)
        modules.append(module)
    return nn.Sequential(*modules).eval()


def test_pixels_of_photos_have_the_bounds_of_the_card(tmp_path: Path) -> None:
    """z-B between what black and white become, channel by channel."""
    net = nets.classifier(5, (3, 8, 6))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    model = loaded(net, tmp_path, mean=mean, std=std, size=[8, 6])
    raw = np.random.default_rng(0).uniform(0, 1, (1, 3, 8, 6))
    norm = [np.array(numbers)[:, None, None] for numbers in (mean, std)]
    images = (raw - norm[0]) / norm[1]
    result = model.run("lrp", images, 0, composite="epsilon-gamma-box")
    assert result.how["box"] == "as the card has it"
    ends = [np.broadcast_to((end - norm[0]) / norm[1], images[0].shape).reshape(-1) for end in (0.0, 1.0)]
    scores = deconvnet.forward(net, images[0]).top
    top = np.where(np.arange(len(scores)) == 0, scores, 0.0)
    share = lrp.box(*ends)
    wanted = lrp.propagate(net, images[0], top, lrp.epsilon(1e-6), lrp.gamma(0.25), share)
    assert drift(result.array[0], wanted) < DRIFT


def test_a_reader_is_told_what_does_not_add_up(tmp_path: Path) -> None:
    net = bare(1, biased=True)
    net.layers[-1].bias[:] = 50
    images = nets.pictures(1, 1, net.shape, np.float32)
    result = loaded(net, tmp_path).run("lrp", images, 0)
    (finding,) = convlens.methods()["lrp"].findings(result)
    assert "biases have the rest" in finding.text
    assert finding.evidence == f"conservation {result.arrays['conservation'][0]:.2f}"
