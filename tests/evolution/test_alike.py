"""Likeness of features against its definitions, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.evolution.alike import Gram, debiased_cka, linear_cka, settled
from convlens.evolution.weights import change, cosine
from reference import cka

EXACT = 1e-12
"""Float64 sums in another order."""


def gram(features: NDArray[np.float64], block: int = 3) -> Gram:
    found = Gram(len(features))
    for start in range(0, features.shape[1], block):
        found.add(features[:, start : start + block])
    return found


def features(seed: int, images: int, numbers: int, mean: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(mean, 1, (images, numbers))


@pytest.mark.parametrize(("one", "two"), [(7, 5), (20, 3), (1, 40)])
def test_it_is_that_of_the_paper(one: int, two: int) -> None:
    x = features(1, 12, one, mean=3.0)
    y = features(2, 12, two, mean=-1.0) + x[:, :1]
    found = linear_cka(gram(x), gram(y))
    assert found == pytest.approx(cka.cka(x, y), abs=EXACT)
    assert found == pytest.approx(cka.cka_of_features(x, y), abs=EXACT)
    assert 0 < found < 1


def test_the_unbiased_one_is_the_mean_over_different_images() -> None:
    x = features(3, 8, 9, mean=2.0)
    y = features(4, 8, 4) + x[:, :4]
    assert debiased_cka(gram(x), gram(y)) == pytest.approx(cka.debiased_cka(x, y), abs=1e-10)


def test_turning_stretching_and_shifting_features_leave_it_at_one() -> None:
    x = features(5, 30, 8)
    turned, _ = np.linalg.qr(features(6, 8, 8))
    for other in (x @ turned, 17.0 * x, x + 5.0, x[:, ::-1], np.hstack([x, x])):
        assert linear_cka(gram(x), gram(other)) == pytest.approx(1.0, abs=EXACT)
        assert debiased_cka(gram(x), gram(other)) == pytest.approx(1.0, abs=1e-10)
    bent = x @ np.diag([10.0, *[1.0] * 7])  # not every linear map: that would be CCA
    assert linear_cka(gram(x), gram(bent)) < 0.8


def test_independent_features_are_unlike_and_few_images_hide_that() -> None:
    assert linear_cka(gram(features(7, 400, 5)), gram(features(8, 400, 5))) < 0.05
    few = gram(features(9, 20, 2000), 500), gram(features(10, 20, 2000), 500)
    assert linear_cka(*few) > 0.9
    assert abs(debiased_cka(*few)) < 0.1


def test_the_order_and_size_of_blocks_do_not_matter() -> None:
    x = features(11, 10, 24)
    for block in (1, 7, 24):
        assert np.allclose(gram(x, block).matrix, gram(x[:, ::-1], 5).matrix, rtol=0, atol=1e-12)


def test_what_tells_no_images_apart_has_no_cka() -> None:
    x, same = features(12, 9, 4), np.full((9, 4), 0.3)
    for flat in (same, np.zeros((9, 4)), np.full((9, 4), np.nan), np.full((9, 4), np.inf)):
        assert np.isnan(linear_cka(gram(x), gram(flat)))
        assert np.isnan(debiased_cka(gram(flat), gram(x)))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.2, 0.96, 0.97, 1.0], 1),
        ([0.96, 0.5, 0.97, 1.0], 2),
        ([0.95, 0.95, 0.95, 1.0], 0),
        ([0.1, 0.2, 0.3, 1.0], 3),
        ([0.99, np.nan, 0.99, 1.0], 2),
        ([0.99, 0.99, 0.99, np.nan], 0),
    ],
)
def test_a_layer_settles_where_it_stays_alike(row: list[float], expected: int) -> None:
    assert settled(np.array(row), 0.95) == expected


def test_the_change_of_filters_by_hand() -> None:
    before = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
    after = np.array([[0.0, 5.0], [0.0, 12.0]], np.float32)
    # (3, 0) - (0, 5) and (0, 4) - (0, 12): 9 + 25 + 64 = 98; the later ones: 25 + 144 = 169
    assert change(before, after) == pytest.approx(98**0.5 / 13)
    assert cosine(before, after) == pytest.approx((0 + 1) / 2)
    assert change(after, after) == 0
    assert np.isnan(change(before, np.zeros((2, 2), np.float32)))
    dead = np.array([[0.0, 0.0], [0.0, 1.0]], np.float32)
    assert cosine(before, dead) == pytest.approx(1.0)
    assert np.isnan(cosine(before, np.zeros((2, 2), np.float32)))
