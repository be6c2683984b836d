"""Inversion against closed forms: where the layer is linear, what is found is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.helper import make_node

import convlens
from convlens.model import Model
from convlens.synthesis import regularise
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.inverse.inversion import Code, relative_error
from convlens.synthesis.loop import Stage, optimise
from convlens.synthesis.recipes import Recipe
from reference import nets

EXACT = 1e-6
"""Float64, after as many steps as the least curved direction takes."""

SIZE, SEEN = 24, 9
GIVEN = np.random.default_rng(3).standard_normal((3, 1, SIZE))
WEIGHT = np.random.default_rng(4).standard_normal((SIZE, SEEN)).astype(np.float32)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Nine sums of the 24 samples of a signal."""
    nodes = [make_node("Flatten", ["x"], ["flat"]), make_node("MatMul", ["flat", "w"], ["y"])]
    proto = nets.model_of(nodes, {"x": ["N", 1, SIZE]}, ["y"], {"w": WEIGHT})
    return convlens.load(nets.saved(proto, tmp_path_factory.mktemp("linear")), threads=1, kind="signal")


def test_from_zero_the_shortest_of_all_solutions_is_found(linear: Model) -> None:
    result = linear.run(
        "invert", GIVEN, layer=["y"], start="grey", parametrisation="pixels", steps=60, batch_size=2
    )
    matrix = WEIGHT.astype(np.float64).T
    for row, given in enumerate(GIVEN):
        expected = np.linalg.pinv(matrix) @ (matrix @ given[0])
        np.testing.assert_allclose(result.array[row, 0, 0], expected, rtol=0, atol=EXACT)
    assert result.array.shape == (3, 1, 1, SIZE)


def test_what_the_layer_does_not_see_stays_as_it_was_at_the_start(linear: Model) -> None:
    settings = {"layer": ["y"], "parametrisation": "pixels"}
    result = linear.run("invert", GIVEN[:1], steps=60, seed=5, **settings)
    start = torch.randn(1, 1, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    matrix = WEIGHT.astype(np.float64).T
    seen = np.linalg.pinv(matrix) @ matrix
    expected = seen @ GIVEN[0, 0] + (np.eye(SIZE) - seen) @ (0.01 * start.numpy()[0, 0])
    np.testing.assert_allclose(result.array[0, 0, 0], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("form", ["pixels", "fourier"])
@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_under_total_variation_the_solution_is_that_of_the_normal_equations(
    weight: float, form: str, linear: Model
) -> None:
    settings = {"layer": ["y"], "parametrisation": form, "tv": weight, "beta": 2}
    result = linear.run("invert", GIVEN, steps=300, **settings)
    matrix = WEIGHT.astype(np.float64).T
    slope = np.diff(np.eye(SIZE), axis=0)
    for row, given in enumerate(GIVEN):
        code = matrix @ given[0]
        size = code @ code
        normal = matrix.T @ matrix / size + weight * slope.T @ slope / SIZE
        expected = np.linalg.solve(normal, matrix.T @ code / size)
        np.testing.assert_allclose(result.array[row, 0, 0], expected, rtol=0, atol=1e-5)
        away = matrix @ expected - code
        assert result.arrays["error"][row, 0] == pytest.approx(
            np.linalg.norm(away) / np.linalg.norm(code), rel=1e-3
        )


def test_a_penalty_pulls_as_far_as_the_closed_form_says(linear: Model) -> None:
    canvas = canvas_for(linear, (SIZE,), "float64")
    matrix = WEIGHT.astype(np.float64).T
    codes = GIVEN[:, 0] @ matrix.T
    goal = Code.of(linear, linear["y"]).goal(torch.from_numpy(codes))
    recipe = Recipe("pixels", "lbfgs", 1.0, penalties={"l2": 0.1})
    start = torch.zeros(3, 1, SIZE, dtype=torch.float64)
    found = optimise(linear, canvas, goal, start, [Stage((SIZE,), 60)], recipe)
    for row, code in enumerate(codes):
        size = code @ code
        normal = matrix.T @ matrix / size + 0.1 * np.eye(SIZE) / SIZE
        expected = np.linalg.solve(normal, matrix.T @ code / size)
        np.testing.assert_allclose(found.pictures[row, 0].numpy(), expected, rtol=0, atol=1e-5)
        away = matrix @ expected - code
        assert found.scores[row] == pytest.approx(-(away @ away) / size, rel=1e-4)


def test_the_total_variation_with_exponent_two_by_hand() -> None:
    offset = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    for row in range(2):
        total = 0.0
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    value = offset[row, c, y, x]
                    down = offset[row, c, y + 1, x] - value if y < 3 else 0.0
                    right = offset[row, c, y, x + 1] - value if x < 4 else 0.0
                    total += (down**2 + right**2) / offset[row].size
        assert float(regularise.tv2(torch.from_numpy(offset))[row]) == pytest.approx(total, rel=1e-12)


def test_the_relative_error_by_hand() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, -2.0]])
    found = np.array([[3.0, 4.5], [1.0, -2.0]])
    np.testing.assert_allclose(relative_error(found, wanted), [0.1, 0.5])
    half = partial(np.asarray, dtype=np.float16)
    np.testing.assert_allclose(relative_error(half(found), half(wanted)), [0.1, 0.5])


def closed(path: Path, high: float | None) -> Model:
    """Sums of the samples of a signal, clipped at zero and, where it is given, at ``high``."""
    clip = make_node("Relu", ["z"], ["y"])
    stored = {"w": WEIGHT}
    if high is not None:
        clip = make_node("Clip", ["z", "low", "high"], ["y"])
        stored |= {"low": np.array(0, np.float32), "high": np.array(high, np.float32)}
    nodes = [make_node("Flatten", ["x"], ["flat"]), make_node("MatMul", ["flat", "w"], ["z"]), clip]
    proto = nets.model_of(nodes, {"x": ["N", 1, SIZE]}, ["y"], stored)
    return convlens.load(nets.saved(proto, path), threads=1, kind="signal")


@pytest.mark.parametrize("high", [None, 1.5], ids=["relu", "clip"])
def test_units_that_are_clipped_though_they_should_not_be_count_unclipped(
    high: float | None, tmp_path: Path
) -> None:
    code = Code.of(model := closed(tmp_path, high), model["y"])
    assert code.before == "z"
    most = np.inf if high is None else high
    rng = np.random.default_rng(7)
    z = rng.normal(0, 2, (4, SEEN))
    wanted = np.clip(rng.normal(0, 2, (4, SEEN)), 0, most)
    found = np.clip(z, 0, most)
    values = {"z": torch.from_numpy(z), "y": torch.from_numpy(found)}
    scores = code.goal(torch.from_numpy(wanted)).objective(values).numpy()
    for row in range(4):
        total = 0.0
        for own, clipped, aim in zip(z[row], found[row], wanted[row], strict=True):
            right = (own <= 0 and aim == 0) or (own >= most and aim == most)
            total += 0.0 if right else (own - aim) ** 2 if own != clipped else (clipped - aim) ** 2
        assert scores[row] == pytest.approx(-total / (wanted[row] ** 2).sum())


@pytest.mark.parametrize("high", [None, 1.5], ids=["relu", "clip"])
def test_no_unit_is_closed_for_good(high: float | None, tmp_path: Path) -> None:
    """From any start the code of a clipped linear layer is reached."""
    model = closed(tmp_path, high)
    settings = {"layer": ["y"], "parametrisation": "pixels", "steps": 80}
    for seed in range(3):
        errors = model.run("invert", GIVEN, seed=seed, **settings).arrays["error"]
        assert (errors < 1e-4).all()
