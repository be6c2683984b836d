"""Balls, steepest steps and whole changes, against slow ways of finding the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from convlens.fooling.norms import NORMS

EXACT = 1e-9
"""Of float64: both ways add up a few dozen numbers."""


def deltas(seed: int, rows: int = 4, size: int = 30, scale: float = 1.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, scale, (rows, 2, size // 2)))


def nearest_in_l2(delta: np.ndarray, radius: float) -> np.ndarray:
    """The point of the ball nearest to ``delta``, by bisection of the multiplier of its constraint."""
    if math.sqrt(sum(float(v) ** 2 for v in delta)) <= radius:
        return delta
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        inside = math.sqrt(sum((float(v) / (1 + middle)) ** 2 for v in delta)) <= radius
        low, high = (low, middle) if inside else (middle, high)
    return np.array([float(v) / (1 + high) for v in delta])


def test_the_l2_projection_is_the_nearest_point_of_the_ball() -> None:
    delta, radius = deltas(0), torch.tensor([0.5, 3.0, 100.0, 5.0], dtype=torch.float64)
    found = NORMS["l2"].projected(delta, radius).flatten(1).numpy()
    for row, own in enumerate(delta.flatten(1).numpy()):
        np.testing.assert_allclose(found[row], nearest_in_l2(own, float(radius[row])), rtol=0, atol=EXACT)


def test_the_linf_projection_is_the_nearest_point_of_the_ball() -> None:
    delta, radius = deltas(1), torch.tensor([0.5, 0.1, 100.0, 2.0], dtype=torch.float64)
    found = NORMS["linf"].projected(delta, radius).flatten(1)
    for row, own in enumerate(delta.flatten(1).tolist()):
        limit = float(radius[row])
        assert found[row].tolist() == [max(-limit, min(limit, v)) for v in own]


@pytest.mark.parametrize("name", NORMS)
def test_no_other_change_of_length_one_gains_more_than_the_steepest(name: str) -> None:
    norm, slope = NORMS[name], deltas(2)
    steepest = norm.steepest(slope)
    np.testing.assert_allclose(norm.length(steepest).numpy(), 1, rtol=EXACT)
    gain = (steepest * slope).flatten(1).sum(dim=1)
    np.testing.assert_allclose(gain.numpy(), norm.dual(slope).numpy(), rtol=EXACT)
    for seed in range(200):
        other = deltas(1000 + seed)
        other = other / norm.length(other).view(-1, 1, 1)
        assert bool(((other * slope).flatten(1).sum(dim=1) <= gain + EXACT).all())


@pytest.mark.parametrize("name", NORMS)
def test_where_there_is_no_slope_nothing_is_steepest(name: str) -> None:
    assert not NORMS[name].steepest(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_slopes_of_any_magnitude_have_a_direction_in_float32(scale: float) -> None:
    slope = (deltas(3).float() * scale).float()
    np.testing.assert_allclose(NORMS["l2"].length(NORMS["l2"].steepest(slope)).numpy(), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("radius", [1.0, 2.5, 6.0])
def test_a_whole_change_is_as_long_as_the_ball_and_the_change_allow(scale: float, radius: float) -> None:
    delta = deltas(4, rows=8, size=200, scale=scale)
    found = NORMS["l2"].whole(delta, torch.full((8,), radius, dtype=torch.float64)).flatten(1).numpy()
    assert (found == np.rint(found)).all()
    for row, own in enumerate(delta.flatten(1).numpy()):
        limit = min(radius, math.sqrt(float(own @ own)))
        length = math.sqrt(float(found[row] @ found[row]))
        assert length <= limit * (1 + 1e-5)
        fitting = [np.rint(own * s) for s in np.geomspace(0.25, 400, 4000)]
        longest = max((math.sqrt(float(q @ q)) for q in fitting if q @ q <= limit**2), default=0.0)
        assert length >= longest - EXACT  # as good as the best of a fine grid of scales
        order = np.argsort(np.abs(own))
        assert (np.diff(np.abs(found[row])[order]) >= 0).all()  # the largest numbers get the steps


def test_a_whole_change_in_linf_stays_inside_a_ball_of_no_whole_radius() -> None:
    found = NORMS["linf"].whole(deltas(5, scale=4.0), torch.full((4,), 2.7, dtype=torch.float64))
    assert found.abs().max() == 2
    assert bool((found == found.round()).all())


@pytest.mark.parametrize("name", NORMS)
def test_random_changes_lie_in_the_ball_and_come_again_with_their_seed(name: str) -> None:
    drawn = [NORMS[name].drawn((2, 9), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert all(float(NORMS[name].length(each[None])[0]) <= 1 for each in drawn)
