"""Maps, grids and what is said of them, against numpy, brute force and numbers by hand."""

from __future__ import annotations

import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import convlens
from convlens.errors import UsageError
from convlens.pictures.palette import distinct
from convlens.pictures.scatter import apart, spread
from convlens.recording import again
from convlens.recording.maps import projections
from convlens.registry import Images
from reference import nets

CLOSE = 1e-9
"""Of the largest coordinate: float64."""


@pytest.mark.parametrize("shape", [(30, 6), (8, 40)])
def test_principal_components_are_those_of_numpy_up_to_their_sign(shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(0).standard_normal(shape) * np.linspace(3, 1, shape[1])
    found = projections.principal(vectors, 2, 0)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    expected *= np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.abs(expected).max())


def test_in_large_sets_the_search_is_randomised_and_comes_close(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((200, 90)) * np.linspace(3, 0.1, 90) ** 2
    exact = projections.principal(vectors, 2, 0)
    monkeypatch.setattr(projections, "_EXACT", 0)
    found = projections.principal(vectors, 2, 0)
    np.testing.assert_allclose(np.abs(found), np.abs(exact), rtol=0, atol=1e-2 * np.abs(exact).max())


def test_what_has_fewer_components_lies_on_a_line() -> None:
    found = projections.principal(np.arange(5.0)[:, None], 2, 0)
    np.testing.assert_allclose(np.abs(found), [[2, 0], [1, 0], [0, 0], [1, 0], [2, 0]], atol=CLOSE)


def test_the_same_seed_gives_the_same_map_and_groups_stay_apart() -> None:
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(3), 25)
    vectors = rng.standard_normal((75, 60)).astype(np.float32) + 8 * np.eye(60, dtype=np.float32)[classes]
    first, perplexity = projections.tsne(vectors, 30, 4)
    again_, _ = projections.tsne(vectors, 30, 4)
    assert first.tobytes() == again_.tobytes()
    assert perplexity == pytest.approx(74 / 3)
    assert projections.purity(projections.nearest(first, 10), classes).min() == 1


def test_points_that_are_all_one_lie_on_one_place() -> None:
    found, _ = projections.tsne(np.ones((9, 3), np.float32), 30, 0)
    assert not found.any()


def test_without_umap_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match=r"needs umap-learn .* pip install 'convlens\[umap\]'"):
        projections.umap(np.zeros((5, 3)), 15, 0)


def test_umap_gives_the_same_map_for_the_same_seed() -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed; pip install 'convlens[umap]'")
    vectors = np.random.default_rng(1).standard_normal((40, 5))
    one, neighbours = projections.umap(vectors, 15, 2)
    other, _ = projections.umap(vectors, 15, 2)
    assert neighbours == 15
    assert one.tobytes() == other.tobytes()


def test_purity_and_kept_neighbours_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.1], [3.3], [10.0]])
    nearest = projections.nearest(line, 2)
    assert [sorted(row) for row in nearest.tolist()] == [[1, 2], [0, 2], [1, 3], [1, 2], [2, 3]]
    classes = np.array([0, 0, 1, 1, 1])
    np.testing.assert_array_equal(projections.purity(nearest, classes), [0.5, 0.5, 0.5, 0.5, 1.0])
    other = np.array([[1, 3], [0, 2], [0, 4], [1, 2], [2, 3]])
    assert projections.kept(nearest, other) == pytest.approx((0.5 + 1 + 0 + 1 + 1) / 5)


def test_what_chance_and_small_classes_allow_by_hand() -> None:
    classes = np.array([0, 0, 1, 1, 1])
    assert projections.chance(classes) == pytest.approx((2 * 1 + 3 * 2) / (5 * 4))
    assert projections.possible(classes, 4) == pytest.approx((2 * 1 / 4 + 3 * 2 / 4) / 5)
    assert projections.chance(np.arange(4)) == 0


def test_an_even_draw_takes_one_of_each_stretch() -> None:
    found = projections.even(1000, 100, 5)
    np.testing.assert_array_equal(found // 10, np.arange(100))
    assert not np.array_equal(found, projections.even(1000, 100, 6))
    np.testing.assert_array_equal(projections.even(7, 100, 5), np.arange(7))
    assert len(np.unique(projections.even(1003, 997, 5))) == 997


def test_no_other_grid_moves_the_points_less() -> None:
    place = np.random.default_rng(8).uniform(-3, 5, (6, 2))
    found, (rows, columns) = projections.cells(place)
    assert (rows, columns) == (2, 3)
    assert len({tuple(cell) for cell in found.tolist()}) == 6
    low, high = place.min(axis=0), place.max(axis=0)

    def cost(cells: list[tuple[int, int]]) -> float:
        total = 0.0
        for (x, y), (row, column) in zip((place - low) / (high - low), cells, strict=True):
            total += (x - (column + 0.5) / columns) ** 2 + (y - 1 + (row + 0.5) / rows) ** 2
        return total

    every = [(row, column) for row in range(rows) for column in range(columns)]
    least = min(cost(list(order)) for order in permutations(every))
    assert cost([(row, column) for row, column in found.tolist()]) == pytest.approx(least)


def test_a_grid_keeps_above_and_below() -> None:
    found, grid = projections.cells(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert grid == (2, 2)
    assert found.tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]
    at = spread(np.array([[0.0, 0.0], [1.0, 2.0]]), 100)
    assert at[0, 0] < at[1, 0]
    assert at[0, 1] > at[1, 1]


def test_classes_are_in_the_order_of_people() -> None:
    codes, names = projections.codes(["10", None, "9", "b2", "b10", "9"])
    assert names == ["9", "10", "b2", "b10"]
    assert codes.tolist() == [1, -1, 0, 2, 3, 0]


def test_half_the_squared_distance_of_texts_is_how_many_tokens_differ() -> None:
    tokens = np.random.default_rng(0).integers(0, 5, (12, 7))
    coded = again.one_hot(tokens, 10**6)
    assert coded is not None
    for a in range(12):
        for b in range(12):
            assert ((coded[a] - coded[b]) ** 2).sum() / 2 == (tokens[a] != tokens[b]).sum()
    assert again.one_hot(tokens, 100) is None


def test_large_inputs_are_averaged_over_squares() -> None:
    array = np.random.default_rng(0).standard_normal((2, 3, 7, 10)).astype(np.float32)
    found, side = again.fewer(Images(array, ("a", "b")), (2, 3), 59)
    assert side == 3
    parts = [
        [
            [image[channel, y : y + 3, x : x + 3].mean() for y in range(0, 7, 3) for x in range(0, 10, 3)]
            for channel in range(3)
        ]
        for image in array.astype(np.float64)
    ]
    np.testing.assert_allclose(found, np.array(parts).reshape(2, -1), rtol=0, atol=1e-6)
    same, side = again.fewer(Images(array, ("a", "b")), (2, 3), 210)
    assert side == 1
    np.testing.assert_array_equal(same, array.reshape(2, -1))


def test_photos_that_came_as_arrays_look_as_they_did(tmp_path: Path) -> None:
    path = nets.saved(nets.classifier(0, (3, 12, 10)).onnx(), tmp_path)
    model = convlens.load(path, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], channels="BGR")
    views = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3), np.uint8)
    np.testing.assert_array_equal(again.seen_in(model, model.preprocess.array(views)), views)


def test_small_pictures_do_not_overlap_and_no_more_fit() -> None:
    at = np.random.default_rng(2).uniform(0, 300, (200, 2))
    chosen = apart(at, np.array([10.0, 8.0]), 1000)
    for n, one in enumerate(chosen):
        for other in chosen[:n]:
            gap = np.abs(at[one] - at[other])
            assert gap[0] >= 20 or gap[1] >= 16
    for left in set(range(200)) - set(chosen):
        gaps = np.abs(at[chosen] - at[left])
        assert ((gaps[:, 0] < 20) & (gaps[:, 1] < 16)).any()
    assert len(apart(at, np.array([1.0, 1.0]), 30)) == 30


def test_a_hundred_classes_have_a_hundred_colours() -> None:
    assert len(set(distinct(100))) == 100
