"""Several gradients from one forward: what they are, what they cost, and that nothing waits for the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import convlens
from convlens.instrument import several
from convlens.instrument.build import TorchGraph
from convlens.instrument.gradients import input_gradient, unit_gradients
from convlens.instrument.several import input_gradients
from convlens.model import Model
from reference import nets

EXACT = 1e-12
"""Relative, float64: the same steps, in batches of another size."""

SINGLE = 1e-5
"""Relative, float32 against torch's own gradient."""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1, device="cpu")


@pytest.mark.parametrize("rule", ["plain", "deconvnet", "guided"])
@pytest.mark.parametrize(("images", "batch_size"), [(1, 1), (1, 8), (3, 2)])
def test_each_target_gets_its_own_gradient(model: Model, rule: str, images: int, batch_size: int) -> None:
    x = nets.pictures(0, images, (3, 11, 9), np.float64)
    targets = [model.target(spec) for spec in [0, 1, "conv2:1", *[2] * 30, "relu1"]]
    found, scores = input_gradients(model, x, targets, rule, batch_size)
    assert found.shape == (len(targets), *x.shape)
    for number in (0, 1, 2, 3, 17, 32, 33):
        signal, score = input_gradient(model, x, targets[number], rule, 8)
        np.testing.assert_allclose(found[number], signal, rtol=0, atol=EXACT * np.abs(signal).max())
        np.testing.assert_allclose(scores[number], score, rtol=EXACT)


def test_units_of_one_image_are_those_of_its_copies(model: Model) -> None:
    x = nets.pictures(1, 2, (3, 11, 9), np.float64)
    layer, rng = model["conv2"], np.random.default_rng(0)
    assert layer.shape is not None
    units = np.stack([rng.integers(0, 4, 25), rng.integers(0, 3, 25), rng.integers(0, 2, 25)], axis=1)
    images = rng.integers(0, 2, 25)
    found = unit_gradients(model, x, layer, units, "guided", 4, images=images)
    apart = unit_gradients(model, x[images], layer, units, "guided", 4)
    np.testing.assert_allclose(found, apart, rtol=0, atol=EXACT * np.abs(apart).max())


def test_an_image_goes_forward_once_for_all_targets(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = []
    run = TorchGraph._run

    def counted(self: TorchGraph, feeds: Any, *rest: Any) -> Any:
        forwards.append(len(next(iter(feeds.values()))))
        return run(self, feeds, *rest)

    monkeypatch.setattr(TorchGraph, "_run", counted)
    x = nets.pictures(0, 2, (3, 11, 9), np.float32)
    input_gradients(model, x, [model.target(i % 3) for i in range(7)], "plain", 8)
    assert forwards == [2]
    forwards.clear()
    input_gradients(model, x[:1], [model.target(i % 3) for i in range(100)], "plain", 8)
    assert forwards == [several._COPIES]


def test_nothing_asks_the_host_inside_of_a_batch(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read once, behind the backward; on a GPU each further question would stop it."""
    x = nets.pictures(0, 2, (3, 11, 9), np.float32)
    target, asked = model.target(1), []
    input_gradient(model, x, target, "plain", 2)  # what is made once is there by now

    def noted(name: str) -> Callable[..., Any]:
        own = getattr(Tensor, name)

        def method(self: Tensor, *given: Any, **named: Any) -> Any:
            asked.append(name)
            return own(self, *given, **named)

        return method

    for name in ("item", "cpu", "numpy", "tolist", "__bool__", "__float__", "__int__", "nonzero"):
        monkeypatch.setattr(Tensor, name, noted(name))
    for rule in ("plain", "deconvnet", "guided"):
        asked.clear()
        input_gradient(model, x, target, rule, 2)
        assert sorted(asked) == ["cpu"] * 3 + ["numpy"] * 3, rule  # value, signal and score


def net(parts: list[onnx.NodeProto], stored: dict[str, NDArray[Any]], folder: Path) -> Model:
    arrays = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(parts, "net", [start], [end], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return convlens.load(nets.saved(proto, folder), threads=1, device="cpu")


@pytest.mark.parametrize("count", [1, 2])
def test_gradients_are_those_of_torch(tmp_path: Path, count: int) -> None:
    """In float32, where convolutions lie channels last and the first one goes back in its own way."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.Conv2d(8, 6, 3, padding=1)
    norm = nn.BatchNorm2d(8).eval()
    norm.running_mean, norm.running_var = torch.randn(8), torch.rand(8) + 0.5
    native = nn.Sequential(first, norm, nn.Softplus(), nn.AvgPool2d(2), last, nn.Tanh()).requires_grad_(False)
    stored = {
        "w": first.weight, "b": first.bias, "s": norm.weight, "t": norm.bias, "m": norm.running_mean,
        "v": norm.running_var, "w2": last.weight, "b2": last.bias,
    }  # fmt: skip
    parts = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[2, 2, 2, 2]),
        helper.make_node("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"]),
        helper.make_node("Softplus", ["n"], ["a"]),
        helper.make_node("AveragePool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "w2", "b2"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    model = net(parts, {name: value.detach().numpy() for name, value in stored.items()}, tmp_path)
    assert model.torch.module("d").weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr, operator]
    given = torch.randn(count, 3, 16, 16, requires_grad=True)
    (wanted,) = torch.autograd.grad(native(given)[:, 2].sum(), given)
    with model.session() as session:
        found = session.run(given, ["y"])["y"]
        (signal,) = torch.autograd.grad(found[:, 2].sum(), session.input)  # type: ignore[arg-type]
    assert (signal - wanted).abs().max() < SINGLE * wanted.abs().max()


def test_normalising_an_image_alone_in_any_layout(tmp_path: Path) -> None:
    """Axes permuted, then viewed: torch's own backward takes the two orders of memory for one."""
    rng = np.random.default_rng(0)
    stored = {name: (rng.random(3) + 0.5).astype(np.float32) for name in "stmv"}
    stored["shape"] = np.array([1, 3, 16, 16])
    parts = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "s", "t", "m", "v"], ["y"]),
    ]
    model = net(parts, stored, tmp_path)
    weight = torch.randn(1, 3, 16, 16)
    factor = torch.from_numpy(stored["s"] / np.sqrt(stored["v"] + 1e-5)).view(1, -1, 1, 1)
    for kind in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(1, 3, 16, 16).contiguous(memory_format=kind).requires_grad_()
        (found,) = torch.autograd.grad(model.torch(x), x, weight)
        assert (found - weight * factor).abs().max() < SINGLE * weight.abs().max()
