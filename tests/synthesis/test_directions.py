"""Directions, pictures kept apart, and sums of goals, against plain loops over numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.errors import ImageError, LayerError, ParameterError, UsageError
from convlens.graph.layers import Layer
from convlens.model import Model
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.directions import added, along, apart, direction_of, diverse
from convlens.synthesis.loop import Stage, optimise
from convlens.synthesis.objectives import Goal, goal_of
from convlens.synthesis.recipes import Recipe
from graph.nets import refused
from reference import nets

SHAPE = (3, 16, 12)
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(nets.classifier(0, SHAPE).onnx(), tmp_path_factory.mktemp("net")), **CARD)


def read(goal: Goal, **values: NDArray[Any]) -> NDArray[np.float64]:
    return goal.objective({name: torch.from_numpy(value) for name, value in values.items()}).numpy()


def layer_of(model: Model, name: str) -> Layer:
    layer: Layer = model.layers.find(name)
    return layer


def driven(value: NDArray[Any], vector: NDArray[Any], power: float) -> list[float]:
    """Image by image and place by place, from the definition."""
    found = []
    for image in value:
        places = [np.array([channel.flat[p] for channel in image]) for p in range(image[0].size)]
        numbers = []
        for here in places:
            dot = sum(a * b for a, b in zip(here, vector, strict=True)) / np.sqrt((vector**2).sum())
            size = np.sqrt((here**2).sum())
            cosine = dot / size if size else 0.0
            numbers.append(dot * max(cosine, 0.1) ** power)
        found.append(float(np.mean(numbers)))
    return found


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("name", ["conv2", "dense1"])
def test_along_a_direction(model: Model, name: str, power: float) -> None:
    rng = np.random.default_rng(0)
    layer = layer_of(model, name)
    assert layer.channels is not None
    value = rng.standard_normal((3, layer.channels, *((4, 3) if name == "conv2" else ())))
    value[1] = 0
    vector = rng.standard_normal(layer.channels)
    found = read(along(layer, vector, power), **{layer.name: value})
    np.testing.assert_allclose(found, driven(value, vector, power), rtol=1e-9, atol=1e-12)
    longer = read(along(layer, 3 * vector, power), **{layer.name: value})
    np.testing.assert_allclose(longer, found, rtol=1e-9, atol=1e-12)


def test_the_slope_along_a_direction(model: Model) -> None:
    """Against differences, at places on both sides of the floor, and finite where a layer is silent."""
    layer = layer_of(model, "conv2")
    goal = along(layer, np.arange(6.0) - 2, 2.0)
    value = torch.randn(2, 6, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: goal.objective({layer.name: v}), value)
    silent = torch.zeros(1, 6, 2, 2, requires_grad=True)
    goal.objective({layer.name: silent}).sum().backward()
    assert silent.grad is not None
    assert torch.isfinite(silent.grad).all()
    assert silent.grad.abs().max() > 0


def likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Cosine of two Gram matrices."""
    grams = []
    for image in (one, other):
        channels = [channel.ravel() for channel in image]
        grams.append(np.array([[float(np.dot(a, b)) for b in channels] for a in channels]).ravel())
    first, second = grams
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def test_pictures_apart(model: Model) -> None:
    layer = layer_of(model, "relu2")
    value = np.maximum(np.random.default_rng(0).standard_normal((4, 6, 4, 3)), 0)
    value[3] *= 1e-12  # the size does not matter
    found = read(apart(layer), **{layer.name: value})
    for row in range(4):
        expected = -np.mean([likeness(value[row], value[other]) for other in range(4) if other != row])
        assert found[row] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(read(apart(layer), relu2=value[[1, 1]]), [-1, -1], rtol=1e-12)
    assert read(apart(layer), relu2=value[:1]).tolist() == [0.0]
    single = value.astype(np.float32)
    np.testing.assert_allclose(read(apart(layer), relu2=single), found, rtol=1e-4)  # float32 sums


def test_a_silent_picture_has_a_finite_slope(model: Model) -> None:
    value = torch.zeros(2, 6, 4, 3)
    value[1] = 1
    value.requires_grad_()
    apart(layer_of(model, "relu2")).objective({"relu2": value}).sum().backward()
    assert value.grad is not None
    assert torch.isfinite(value.grad).all()


def test_sums_of_goals(model: Model) -> None:
    whole = added((0.5, goal_of(model, model.target("conv2:1"))), (-2.0, goal_of(model, model.target("3"))))
    value, logits = np.random.default_rng(0).standard_normal((2, 6, 4, 3)), np.arange(8.0).reshape(2, 4)
    assert set(whole.names) == {"conv2", "dense1"}
    expected = 0.5 * value[:, 1].mean(axis=(1, 2)) - 2 * logits[:, 3]
    np.testing.assert_allclose(read(whole, conv2=value, dense1=logits), expected, rtol=1e-9)
    assert whole.text == "0.5 x channel 1 of conv2 - 2 x class 3"


def test_a_goal_with_pictures_apart(model: Model) -> None:
    """Each picture loses the share of its score that its likeness to the others says."""
    layer = layer_of(model, "relu2")
    value = np.maximum(np.random.default_rng(0).standard_normal((3, 6, 4, 3)), 0)
    logits = np.arange(12.0).reshape(3, 4) - 5
    whole = diverse(goal_of(model, model.target("3")), layer, 0.2)
    assert set(whole.names) == {"relu2", "dense1"}
    expected = logits[:, 3] + 0.2 * np.abs(logits[:, 3]) * read(apart(layer), relu2=value)
    np.testing.assert_allclose(read(whole, relu2=value, dense1=logits), expected, rtol=1e-12)
    given = torch.from_numpy(logits).requires_grad_()
    whole.objective({"relu2": torch.from_numpy(value), "dense1": given}).sum().backward()
    assert given.grad is not None
    np.testing.assert_array_equal(given.grad.numpy(), [[0, 0, 0, 1]] * 3)
    with refused(ParameterError, "-0.5", "0 or more"):
        diverse(whole, layer, -0.5)


def test_a_vector_from_a_file(model: Model, tmp_path: Path) -> None:
    layer = layer_of(model, "conv2")
    path = tmp_path / "way.npy"
    np.save(path, np.arange(6))
    np.testing.assert_array_equal(direction_of(model, layer, path), np.arange(6))
    wrong: dict[str, tuple[NDArray[Any], list[str]]] = {
        "short": (np.ones(5), ["5 numbers", "'conv2' takes 6 numbers, one a channel"]),
        "square": (np.ones((6, 1)), ["6 x 1 numbers"]),
        "words": (np.array(["a"] * 6), ["an array of"]),
        "zero": (np.zeros(6), ["all 6 numbers are zero", "points nowhere"]),
        "nan": (np.array([1, 2, 3, 4, 5, np.nan]), ["not every number is finite"]),
    }
    for name, (array, words) in wrong.items():
        np.save(tmp_path / f"{name}.npy", array)
        with refused(ParameterError, f"{name}.npy", *words):
            direction_of(model, layer, tmp_path / f"{name}.npy")
    (tmp_path / "text.npy").write_text("hello")
    with refused(ParameterError, "text.npy", "could be read"):
        direction_of(model, layer, tmp_path / "text.npy")
    with refused(ParameterError, "none.npy", "could be read"):
        direction_of(model, layer, tmp_path / "none.npy")
    with refused(ParameterError, "direction of 5", "6 channels"):
        along(layer, np.ones(5))
    with refused(ParameterError, "-1", "0 or more"):
        along(layer, np.ones(6), -1)


def test_a_vector_from_a_photo(model: Model, tmp_path: Path) -> None:
    """The mean over places of what onnxruntime computes for the photo as the card has it."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ready = (pixels / 255 - CARD["mean"]) / CARD["std"]
    given = ready.transpose(2, 0, 1)[None].astype(np.float32)
    value = model.runner.run({"input": given}, ["conv2"])["conv2"]
    expected = [float(channel.mean(dtype=np.float64)) for channel in value[0]]
    found = direction_of(model, layer_of(model, "conv2"), tmp_path / "photo.png")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32 pixels
    with refused(UsageError, "none.png", "no such file"):
        direction_of(model, layer_of(model, "conv2"), tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with refused(ImageError, "text.png"):
        direction_of(model, layer_of(model, "conv2"), tmp_path / "text.png")


def test_a_layer_without_channels(model: Model) -> None:
    layer = replace(layer_of(model, "conv2"), channel_axis=None)
    for make in (apart, lambda one: along(one, np.ones(6)), lambda one: direction_of(model, one, "a.npy")):
        with refused(LayerError, "'conv2'", "no channel axis"):
            make(layer)


def test_a_direction_is_climbed(model: Model) -> None:
    """What the layer makes of the picture turns to the vector, the more so by the cosine's power."""
    layer = layer_of(model, "conv2")
    vector = np.random.default_rng(0).standard_normal(6)
    canvas = canvas_for(model)
    start = 0.5 + 0.01 * torch.randn(1, 3, 16, 12, generator=torch.Generator().manual_seed(0))

    def cosine(pictures: torch.Tensor) -> float:
        feed = canvas.feed(pictures).numpy()
        value = model.runner.run({"input": feed}, ["conv2"])["conv2"][0].reshape(6, -1).mean(axis=1)
        return float(value @ vector / np.linalg.norm(value) / np.linalg.norm(vector))

    reached = []
    for power in (0.0, 4.0):
        goal, way = along(layer, vector, power), Recipe("pixels", rate=0.05)
        made = optimise(model, canvas, goal, start, [Stage((16, 12), 40)], way)
        assert made.scores[0] > made.history[0, 0]
        reached.append(cosine(made.pictures))
    assert cosine(start) < 0 < reached[0] < reached[1]


def test_pictures_are_driven_apart(model: Model) -> None:
    """Of one target two pictures come out less alike with the term than without, and both still rise."""
    layer, canvas = layer_of(model, "relu2"), canvas_for(model)
    start = 0.5 + 0.05 * torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    target = goal_of(model, model.target("3"))
    goals = {"alone": target, "apart": diverse(target, layer, 1.0)}
    alike = {}
    for name, goal in goals.items():
        made = optimise(model, canvas, goal, start, [Stage((16, 12), 40)], Recipe("pixels", rate=0.03))
        values = model.runner.run({"input": canvas.feed(made.pictures).numpy()}, ["relu2", "dense1"])
        alike[name] = likeness(*values["relu2"].astype(np.float64))
        first = model.runner.run({"input": canvas.feed(start).numpy()}, ["dense1"])["dense1"][:, 3]
        assert (values["dense1"][:, 3] > first).all()
    assert alike["apart"] < alike["alone"] - 0.1
