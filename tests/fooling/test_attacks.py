"""Attacks on linear models, where what they should find can be written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convlens
from convlens.model import Model
from convlens.results import Result
from reference import nets
from reference.linear import Linear, pgd

DOUBLE = 1e-6
"""Relative: float64 against weights that are stored in float32."""

BISECTED = 1e-3
"""Relative: the last factor of a smallest change is halved 12 times, after a step of 1.02 over the border."""

DESCENDED = 0.02
"""Relative: what a descent with a fixed number of steps stays above the smallest change there is."""

INPUTS = np.random.default_rng(3).normal(0, 1, (4, 12))


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear(1)


@pytest.fixture(scope="module")
def model(linear: Linear, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = nets.saved(linear.onnx(), tmp_path_factory.mktemp("linear"))
    return convlens.load(path, device="cpu", threads=1)


def run(model: Model, target: Any = None, **settings: Any) -> Result:
    return model.run("fool", INPUTS, target, **settings)


def change(result: Result, row: int) -> np.ndarray[Any, Any]:
    return np.asarray(result.arrays["difference"][row].reshape(-1))


def test_fgsm_is_the_sign_of_the_gradient_written_out_by_hand(tmp_path: Path) -> None:
    """Two numbers, two classes: scores (x0 + 2 x1, 3 x0 - x1), x = (2, 1), so (4, 5) and class 1."""
    by_hand = Linear(0, 2, 2)
    by_hand.weight, by_hand.bias = np.array([[1.0, 2.0], [3.0, -1.0]]), np.zeros(2)
    path = nets.saved(by_hand.onnx(), tmp_path)
    x = np.array([[2.0, 1.0]])
    result = convlens.load(path, threads=1).run("fool", x, attack="fgsm", epsilon=0.5)
    # the loss of class 1 is log(1 + e^(z0 - z1)), z0 - z1 = -2 x0 + 3 x1 = -1; its slope is s * (-2, 3) with
    # s = 1 / (1 + e); the step is 0.5 * (-1, 1); so the linear gain is 0.5 * 5 s, and z0 - z1 becomes 1.5
    s = 1 / (1 + np.e)
    np.testing.assert_allclose(result.array[0, 0], [1.5, 1.5], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.arrays["told"], [2.5 * s], rtol=DOUBLE)
    gained = np.log1p(np.exp(1.5)) - np.log1p(np.exp(-1))
    np.testing.assert_allclose(result.arrays["gained"], [gained], rtol=DOUBLE)
    row = result.rows[0]
    assert (row["before"], row["after"], row["fooled"], row["steps"]) == ("class 1", "class 0", True, 1)
    np.testing.assert_allclose(row["probability before"], 1 / (1 + np.exp(-1)), rtol=1e-6)
    np.testing.assert_allclose(row["probability after"], 1 / (1 + np.exp(-1.5)), rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("toward", [None, 2])
def test_fgsm_and_what_it_would_gain_on_a_linear_model(
    norm: str, toward: int | None, model: Model, linear: Linear
) -> None:
    result = run(model, toward, attack="fgsm", norm=norm, epsilon=0.25)
    for row, x in enumerate(INPUTS):
        own = linear.seen(x)
        if own == toward:
            assert not change(result, row).any()
            continue
        slope = linear.slope(x, own, toward)
        delta = 0.25 * (np.sign(slope) if norm == "linf" else slope / np.sqrt(slope @ slope))
        np.testing.assert_allclose(change(result, row), delta, rtol=0, atol=DOUBLE)
        np.testing.assert_allclose(result.arrays["told"][row], slope @ delta, rtol=DOUBLE)
        gained = linear.loss(x + delta, own, toward) - linear.loss(x, own, toward)
        np.testing.assert_allclose(result.arrays["gained"][row], gained, rtol=DOUBLE, atol=DOUBLE)


def test_the_margin_of_a_linear_model_gains_just_what_is_told(model: Model) -> None:
    result = run(model, 2, attack="fgsm", epsilon=1e-3, loss="margin")
    np.testing.assert_allclose(result.arrays["gained"], result.arrays["told"], rtol=DOUBLE)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("toward", [None, 2])
def test_pgd_goes_the_way_of_the_reference(
    norm: str, toward: int | None, model: Model, linear: Linear
) -> None:
    """The best point on the way: the surest of those that fool, else that of the greatest loss."""
    settings = {"norm": norm, "epsilon": 0.8, "steps": 12, "step_size": 0.11, "until": 1.0}
    result = run(model, toward, **settings)
    for row, x in enumerate(INPUTS):
        own = linear.seen(x)
        if own == toward:
            continue
        points = pgd(linear, x, norm, 0.8, 12, 0.11, toward)
        best = (False, -np.inf, 0)
        for step, point in enumerate(points):
            seen, loss = linear.seen(point), linear.loss(point, own, toward)
            won = seen == toward if toward is not None else seen != own
            sure = -linear.loss(point, max_other(linear, point, own) if toward is None else toward, None)
            best = max(best, (won, sure if won else loss, -step))
        np.testing.assert_allclose(
            result.array[row].reshape(-1), points[-best[2]], rtol=0, atol=DOUBLE, err_msg=str(row)
        )
        assert result.rows[row]["fooled"] == best[0]
        assert result.rows[row]["steps"] == -best[2]


def max_other(linear: Linear, x: np.ndarray[Any, Any], own: int) -> int:
    z = linear.scores(x)
    z[own] = -np.inf
    return int(z.argmax())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_finds_the_nearest_border_of_a_linear_model(norm: str, model: Model, linear: Linear) -> None:
    result = run(model, attack="deepfool", norm=norm)
    assert all(row["fooled"] for row in result.rows)
    for row, x in enumerate(INPUTS):
        length, behind = linear.nearest_border(x, norm)
        delta, w = change(result, row), linear.weight[behind] - linear.weight[linear.seen(x)]
        way = w / np.sqrt(w @ w) if norm == "l2" else np.sign(w)
        assert length * (1 - DOUBLE) <= result.arrays[norm][row] <= length * (1 + BISECTED)
        np.testing.assert_allclose(delta, way * length, rtol=0, atol=2 * BISECTED * length)
        assert result.rows[row]["after"] == f"class {behind}"


def test_deepfool_towards_a_class_reaches_its_border(model: Model, linear: Linear) -> None:
    """No change shorter than that across the border with the class that is seen can do."""
    result = run(model, 2, attack="deepfool")
    for row, x in enumerate(INPUTS):
        if linear.seen(x) == 2:
            continue
        assert result.rows[row]["after"] == "class 2"
        assert result.arrays["l2"][row] >= linear.nearest_border(x, "l2", 2)[0] * (1 - DOUBLE)


def test_carlini_and_wagner_comes_close_to_the_nearest_border(model: Model, linear: Linear) -> None:
    result = run(model, attack="carlini-wagner", steps=80)
    for row, x in enumerate(INPUTS):
        length, _ = linear.nearest_border(x, "l2")
        assert length * (1 - DOUBLE) <= result.arrays["l2"][row] <= length * (1 + DESCENDED)
        assert result.rows[row]["fooled"]


def test_carlini_and_wagner_towards_a_class_is_no_longer_than_deepfool(model: Model) -> None:
    own, other = run(model, 2, attack="carlini-wagner", steps=80), run(model, 2, attack="deepfool")
    assert all(row["after"] == "class 2" for row in own.rows)
    assert (own.arrays["l2"] <= other.arrays["l2"] * (1 + DESCENDED)).all()


@pytest.mark.parametrize("end", ["", "Softmax", "Sigmoid"])
def test_a_model_that_is_sure_to_the_last_bit_is_fooled_all_the_same(end: str, tmp_path: Path) -> None:
    """Scores that are hundreds apart leave the cross-entropy no slope in float32."""
    sure = Linear(1, scale=300.0)
    path = nets.saved(sure.onnx(end), tmp_path)
    x = INPUTS.astype(np.float32)
    result = convlens.load(path, threads=1).run("fool", x, epsilon=3.0)
    assert all(row["fooled"] for row in result.rows)


def test_survivors_are_those_whose_border_lies_farther_away(model: Model, linear: Linear) -> None:
    lengths = np.array([linear.nearest_border(x, "linf")[0] for x in INPUTS])
    epsilons = (0.02, float(np.sort(lengths)[1] * 1.05), float(lengths.max() * 1.05))
    for attack in ("pgd", "deepfool"):
        result = run(model, attack=attack, norm="linf", epsilons=epsilons)
        told = np.array([0.0, *sorted(epsilons)])
        np.testing.assert_array_equal(result.arrays["survives"], (lengths[:, None] > told).astype(float))
        np.testing.assert_array_equal(result.arrays["epsilon"], told)
        assert [picture.index for picture in result.pictures] == [0, 1, 2, 3, None]


def test_a_second_start_finds_what_the_first_did_not(tmp_path: Path) -> None:
    """Where the gradient is flat at the input, it is moved at random; without a signal that is said."""
    from onnx import helper

    nodes = [
        helper.make_node("Add", ["x", "minus"], ["below"]),
        helper.make_node("Relu", ["below"], ["open"]),
        helper.make_node("Gemm", ["open", "w", "b"], ["scores"], transB=1),
    ]
    stored = {
        "minus": np.full(4, -0.05, np.float32),
        "w": np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32),
        "b": np.array([0.1, 0], np.float32),
    }
    path = nets.saved(nets.model_of(nodes, {"x": ["N", 4]}, ["scores"], stored), tmp_path)
    found = convlens.load(path, threads=1).run("fool", np.zeros((2, 4)), epsilon=0.5, step_size=0.2)
    assert [row["fooled"] for row in found.rows] == [True, True]
    single = convlens.load(path, threads=1).run("fool", np.zeros((1, 4)), attack="fgsm", epsilon=0.5)
    assert single.rows[0]["fooled"] is False
    (finding,) = convlens.methods()["fool"].findings(single)
    assert "no signal reaches the input" in finding.text
