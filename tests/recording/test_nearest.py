"""The nearest of many vectors against loops in float64."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.errors import UsageError
from convlens.recording.nearness.nearest import MANY, Nearest, chosen, chunks

CLOSE = 1e-6
"""Of a distance: vectors of length 1 are kept in float32."""


def slow(query: NDArray[Any], vector: NDArray[Any], metric: str) -> float:
    """A distance from its definition, number by number."""
    pairs = [(float(a), float(b)) for a, b in zip(query, vector, strict=True)]
    if metric == "l2":
        return sum((a - b) ** 2 for a, b in pairs) ** 0.5
    if metric == "hamming":
        return sum(a != b for a, b in pairs) / len(pairs)
    one, other = (sum(v * v for v in side) ** 0.5 for side in zip(*pairs, strict=True))
    if one == 0 or other == 0:
        return float(one != other)
    return 1 - sum(a * b for a, b in pairs) / (one * other)


def expected(
    queries: NDArray[Any], vectors: NDArray[Any], k: int, metric: str
) -> list[list[tuple[float, int]]]:
    return [
        sorted((slow(query, vector, metric), number) for number, vector in enumerate(vectors))[:k]
        for query in queries
    ]


def found(
    queries: NDArray[Any], vectors: NDArray[Any], k: int, metric: Any, size: int, search: Any = "exact"
) -> Nearest:
    nearest = Nearest(queries, k, metric, search)
    pieces = [(np.arange(i, min(i + 7, len(vectors))), vectors[i : i + 7]) for i in range(0, len(vectors), 7)]
    for numbers, part in chunks(pieces, size):
        nearest.add(numbers, part)
    return nearest


def data(metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(3)
    if metric == "hamming":
        vectors = rng.integers(0, 4, (60, 9)).astype(np.float32)
    else:
        vectors = np.maximum(rng.standard_normal((60, 9)), 0).astype(np.float32)
    return vectors[[4, 20]] + (0 if metric == "hamming" else np.float32(0.01)), vectors


@pytest.mark.parametrize("metric", ["cosine", "l2", "hamming"])
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_they_are_those_of_a_search_by_hand_in_chunks_of_any_size(metric: str, size: int) -> None:
    queries, vectors = data(metric)
    nearest = found(queries, vectors, 5, metric, size)
    for row, told in enumerate(expected(queries, vectors, 5, metric)):
        np.testing.assert_allclose(nearest.distance[row], [d for d, _ in told], rtol=0, atol=CLOSE)
        if metric != "hamming":  # which has ties
            assert nearest.number[row].tolist() == [n for _, n in told]


def test_of_equal_ones_the_first_come_first_and_each_once() -> None:
    vectors = np.tile(np.float32([[1, 0], [0, 1]]), (3, 1))
    nearest = found(np.float32([[1, 0]]), vectors, 4, "l2", 1)
    assert nearest.number.tolist() == [[0, 2, 4, 1]]


def test_vectors_without_length_are_alike_and_far_from_all_others() -> None:
    vectors = np.float32([[1, 0], [0, 0], [0, 3]])
    nearest = found(np.float32([[0, 0], [2, 0]]), vectors, 3, "cosine", 100)
    assert nearest.number.tolist() == [[1, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(nearest.distance, [[0, 1, 1], [0, 1, 1]], atol=CLOSE)


def test_what_is_no_number_is_left_out_and_what_is_missing_is_marked() -> None:
    vectors = np.float32([[1, 0], [np.nan, 0], [3, 0]])
    nearest = found(np.float32([[1, 0]]), vectors, 3, "l2", 100)
    assert nearest.number.tolist() == [[0, 2, -1]]
    assert nearest.distance[0, 2] == np.inf


def test_faiss_finds_the_same() -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed; pip install 'convlens[ann]'")
    for metric in ("cosine", "l2"):
        queries, vectors = data(metric)
        own, other = (found(queries, vectors, 5, metric, 100, search) for search in ("exact", "faiss"))
        np.testing.assert_array_equal(own.number, other.number)
        np.testing.assert_array_equal(own.distance, other.distance)


def test_without_faiss_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"needs faiss-cpu .* pip install 'convlens\[ann\]', or take exact"):
        chosen("faiss", 10)
    assert chosen("auto", 10 * MANY) == "exact"


def test_few_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", sys)
    assert chosen("auto", MANY) == "exact"
    assert chosen("auto", MANY + 1) == "faiss"
    assert chosen("exact", MANY + 1) == "exact"
