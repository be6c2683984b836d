"""The loop of optimisation: known optima, dead starts, numbers that break, rows apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

import convlens
from convlens.errors import TargetError
from convlens.model import Model
from convlens.pictures.panels import strip
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.loop import Stage, optimise
from convlens.synthesis.objectives import channels_of, goal_of
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.regularise import Repairs
from convlens.synthesis.robust import Robustness
from convlens.watch import FRAMES, Watch
from reference import nets

SIZE = (6, 7)


def made(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], path: Path) -> Model:
    start = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, *SIZE])
    end = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    arrays = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in stored.items()]
    graph = helper.make_graph(nodes, "net", [start], [end], arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return convlens.load(nets.saved(proto, path), threads=1, mean=[0.0], std=[1.0], range=[0.0, 1.0])


def linear(path: Path, scale: float = 1.0) -> tuple[Model, np.ndarray]:
    weight = np.random.default_rng(0).standard_normal((3 * SIZE[0] * SIZE[1], 2)) * scale
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    return made(nodes, {"w": weight}, path), weight.T.reshape(2, 3, *SIZE)


@pytest.mark.parametrize(("optimiser", "rate", "steps"), [("adam", 0.01, 400), ("lbfgs", 0.5, 40)])
def test_the_optimum_of_a_linear_score_under_l2_is_known(
    optimiser: str, rate: float, steps: int, tmp_path: Path
) -> None:
    model, weight = linear(tmp_path, 0.002)
    canvas = canvas_for(model, dtype="float64")
    goal = goal_of(model, model.target("y[1]"))
    start = torch.full((1, 3, *SIZE), 0.5, dtype=torch.float64)
    recipe = Recipe("pixels", optimiser, rate, penalties={"l2": 1.0})
    found = optimise(model, canvas, goal, start, [Stage(SIZE, steps)], recipe)
    expected = 0.5 + weight[1] * weight[1].size / 2
    assert np.all((expected > 0) & (expected < 1))
    np.testing.assert_allclose(found.pictures[0].numpy(), expected, rtol=0, atol=1e-3)
    assert found.scores[0] == pytest.approx((expected * weight[1]).sum(), rel=1e-3)
    assert found.history.shape == (1, steps)
    assert not found.dead[0]


@pytest.mark.parametrize("form", ["pixels", "fourier", "laplacian"])
def test_every_parametrisation_climbs(form: str, tmp_path: Path) -> None:
    model, weight = linear(tmp_path)
    goal = goal_of(model, model.target("y[0]"))
    start = torch.full((1, 3, *SIZE), 0.5)
    found = optimise(model, canvas_for(model), goal, start, [Stage(SIZE, 60)], Recipe(form, rate=0.1))
    most = np.where(weight[0] > 0, weight[0], 0).sum()  # white where it counts, black where it hurts
    least = float((0.5 * weight[0]).sum())
    assert found.scores[0] > least + 0.5 * (most - least)
    assert float(found.pictures.min()) >= 0
    assert float(found.pictures.max()) <= 1


def test_rows_do_not_meet(tmp_path: Path) -> None:
    model = convlens.load(
        nets.saved(nets.classifier(0, (3, 16, 16)).onnx(), tmp_path), threads=1, mean=[0.5], std=[0.25]
    )
    canvas = canvas_for(model)
    layer = model["relu1"]
    start = torch.full((1, 3, 16, 16), 0.5) + 0.01 * torch.randn(
        1, 3, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    recipe = Recipe("fourier", rate=0.1, robustness=Robustness(2, 0.1, 5))
    both = optimise(
        model,
        canvas,
        goal_of(model, channels_of(layer, [0, 1])),
        start.repeat(2, 1, 1, 1),
        [Stage((16, 16), 5)],
        recipe,
    )
    for row in (0, 1):
        goal = goal_of(model, channels_of(layer, [row]))
        alone = optimise(model, canvas, goal, start, [Stage((16, 16), 5)], recipe)
        np.testing.assert_allclose(alone.pictures[0], both.pictures[row], rtol=0, atol=1e-5)


def closed(path: Path) -> Model:
    """A unit that is far below zero at grey: mean of relu(w x - 100)."""
    _, weight = linear(path)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["drive"]),
        helper.make_node("Add", ["drive", "b"], ["before"]),
        helper.make_node("Relu", ["before"], ["y"]),
    ]
    flat = weight.reshape(2, -1)
    bias = -np.array([(0.5 * row).sum() + 0.1 * np.abs(row).sum() for row in flat])
    return made(nodes, {"w": flat.T, "b": bias}, path)


def test_a_unit_that_is_shut_at_the_start_is_opened(tmp_path: Path) -> None:
    model = closed(tmp_path)
    goal = goal_of(model, model.target("y[0]"))
    start = torch.full((1, 3, *SIZE), 0.5)
    found = optimise(model, canvas_for(model), goal, start, [Stage(SIZE, 40)], Recipe("pixels", rate=0.05))
    assert found.relaxed.tolist() == [True]
    assert found.history[0, 0] == 0
    assert found.scores[0] > 1
    assert found.dead.tolist() == [False]


def test_a_unit_that_never_opens_is_said_to_be_dead(tmp_path: Path) -> None:
    model, weight = linear(tmp_path)
    flat = weight.reshape(2, -1)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["drive"]),
        helper.make_node("Add", ["drive", "b"], ["before"]),
        helper.make_node("Relu", ["before"], ["y"]),
    ]
    bias = np.array([-np.abs(row).sum() - 1 for row in flat])
    model = made(nodes, {"w": flat.T, "b": bias}, tmp_path)
    goal = goal_of(model, model.target("y[0]"))
    start = torch.full((1, 3, *SIZE), 0.5)
    found = optimise(model, canvas_for(model), goal, start, [Stage(SIZE, 40)], Recipe("pixels", rate=0.05))
    assert found.dead.tolist() == [True]
    assert found.scores[0] == 0


def test_it_stops_at_the_first_number_that_is_none(tmp_path: Path) -> None:
    _, weight = linear(tmp_path)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["drive"]),
        helper.make_node("Sub", ["limit", "drive"], ["left"]),
        helper.make_node("Log", ["left"], ["log"]),
        helper.make_node("Neg", ["log"], ["y"]),
    ]
    flat = weight.reshape(2, -1)
    limit = np.array([(0.5 * row).sum() + 0.05 * np.abs(row).sum() for row in flat])
    model = made(nodes, {"w": flat.T, "limit": limit}, tmp_path)
    goal = goal_of(model, model.target("y[0]"))
    start = torch.full((1, 3, *SIZE), 0.5)
    found = optimise(model, canvas_for(model), goal, start, [Stage(SIZE, 100)], Recipe("pixels", rate=0.02))
    assert found.stopped is not None
    assert 1 <= found.stopped < 100
    assert bool(torch.isfinite(found.pictures).all())
    assert found.history.shape[1] == found.stopped


def test_octaves_grow_to_the_full_size_and_frames_have_it_from_the_start(tmp_path: Path) -> None:
    model = convlens.load(
        nets.saved(nets.classifier(0, (3, 16, 16)).onnx(), tmp_path), threads=1, mean=[0.5], std=[0.25]
    )
    stages = [Stage((8, 8), 3), Stage((12, 12), 3, 0.7), Stage((16, 16), 3, 0.7)]
    goal = goal_of(model, model.target("relu1:0"))
    watch = Watch(tmp_path / "made", frames=3, draw=partial(strip, photo=True, info=None))
    watch.begin({})
    found = optimise(
        model,
        canvas_for(model),
        goal,
        torch.full((1, 3, 16, 16), 0.5),
        stages,
        Recipe("pixels", repairs=Repairs(decay=0.01, blur=0.5)),
        watch=watch,
    )
    assert found.pictures.shape == (1, 3, 16, 16)
    frames = sorted((tmp_path / "made" / FRAMES).iterdir())
    assert [path.name for path in frames] == ["0-00001.png", "0-00002.png", "0-00003.png"]
    drawn = []
    for path in frames:
        with Image.open(path) as frame:
            drawn.append(np.asarray(frame))
    assert [frame.shape for frame in drawn] == [(16, 16, 3)] * 3
    last = np.rint(found.pictures[0].clamp(0, 1).numpy() * 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(drawn[-1], last)
    assert found.history.shape == (1, 9)


def test_what_has_no_gradient_is_refused(tmp_path: Path) -> None:
    model, _ = linear(tmp_path)
    _, weight = linear(tmp_path)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=1),
        helper.make_node("Cast", ["best"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    model = made(nodes, {"w": weight.reshape(2, -1).T}, tmp_path)
    goal = goal_of(model, model.target("y[0]"))
    with pytest.raises(TargetError, match="no gradient"):
        optimise(
            model, canvas_for(model), goal, torch.full((1, 3, *SIZE), 0.5), [Stage(SIZE, 3)], Recipe("pixels")
        )
