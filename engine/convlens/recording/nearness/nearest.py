"""The nearest of very many vectors to a few: chunk by chunk, so that memory does not grow with how many.

Chunks are searched by scikit-learn or by faiss, both exactly; the distances of what they find are computed
anew in float64, so that both, and any size of chunk, give the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from convlens.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metric: TypeAlias = Literal["cosine", "l2", "hamming"]
"""1 less the cosine of the angle; Euclidean distance; share of places that differ."""

Search: TypeAlias = Literal["exact", "faiss"]

CHUNK = 1 << 23
"""Numbers that are searched at once."""

MANY = 100_000
"""Vectors from which on faiss is asked where it is installed."""

UNITS = {
    "cosine": "cosine distance, 1 less the cosine of the angle",
    "l2": "Euclidean distance",
    "hamming": "share of places that differ",
}

_SPARE = 4  # candidates of a chunk beyond k, since float32 may order what is nearly alike the other way


class Nearest:
    """The ``k`` nearest vectors so far to each of some queries; of equal distances the lower number first."""

    def __init__(self, queries: NDArray[Any], k: int, metric: Metric, search: Search = "exact") -> None:
        """Nothing found yet.

        Args:
            queries: Q x D.
            k: how many for each.
            metric: what distance is.
            search: who searches a chunk.
        """
        self.metric = metric
        self.search = search
        self.k = k
        self._queries = self._given(queries)
        self.number = np.full((len(queries), k), -1, np.int64)
        self.distance = np.full((len(queries), k), np.inf)

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        """Search a chunk: vectors n x D and the number of each; those that are not finite are left out."""
        sound = np.isfinite(vectors).all(axis=1)
        if not sound.all():
            numbers, vectors = numbers[sound], vectors[sound]
        if not len(numbers):
            return
        own = self._given(vectors)
        chosen = self._candidates(own, min(self.k + _SPARE, len(own)))
        found = np.stack(
            [self._distances(query, own[at]) for query, at in zip(self._queries, chosen, strict=True)]
        )
        number = np.concatenate([self.number, numbers[chosen]], axis=1)
        distance = np.concatenate([self.distance, found], axis=1)
        last = np.where(number < 0, np.iinfo(np.int64).max, number)
        order = np.lexsort((last, distance), axis=1)[:, : self.k]
        self.number = np.take_along_axis(number, order, axis=1)
        self.distance = np.take_along_axis(distance, order, axis=1)

    def _given(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """As they are searched: for cosines of length 1, those without length on an axis of their own."""
        found = np.asarray(vectors, np.float32).reshape(len(vectors), -1)
        if self.metric != "cosine":
            return found
        length = np.sqrt(np.square(found, dtype=np.float64).sum(axis=1))
        none = length == 0
        scaled = found / np.where(none, 1.0, length)[:, None]
        return np.concatenate([scaled, none[:, None]], axis=1).astype(np.float32)

    def _candidates(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Rows of ``vectors`` that are nearest to each query, Q x count."""
        if self.search == "faiss" and self.metric != "hamming":
            faiss = package()
            index = faiss.IndexFlatL2(vectors.shape[1])
            index.add(np.ascontiguousarray(vectors))
            return np.asarray(index.search(np.ascontiguousarray(self._queries), count)[1], np.int64)
        from sklearn.neighbors import NearestNeighbors

        metric = "hamming" if self.metric == "hamming" else "euclidean"
        search = NearestNeighbors(n_neighbors=count, algorithm="brute", metric=metric).fit(vectors)
        return np.asarray(search.kneighbors(self._queries, return_distance=False), np.int64)

    def _distances(self, query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        if self.metric == "hamming":
            return np.asarray((vectors != query).mean(axis=1), np.float64)
        square = np.square(vectors.astype(np.float64) - query).sum(axis=1)
        # of two vectors of length 1, half the squared distance is 1 less their cosine
        return np.asarray(square / 2 if self.metric == "cosine" else np.sqrt(square), np.float64)


def chunks(
    pieces: Iterable[tuple[NDArray[np.int64], NDArray[Any]]], size: int = CHUNK
) -> Iterable[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Pieces put together until they hold about ``size`` numbers."""
    numbers: list[NDArray[np.int64]] = []
    vectors: list[NDArray[Any]] = []
    for number, vector in pieces:
        numbers.append(number)
        vectors.append(vector)
        if sum(one.size for one in vectors) >= size:
            yield np.concatenate(numbers), np.concatenate(vectors)
            numbers, vectors = [], []
    if numbers:
        yield np.concatenate(numbers), np.concatenate(vectors)


def chosen(search: str, count: int) -> Search:
    """Who searches ``count`` vectors where ``auto``, ``exact`` or ``faiss`` was asked for.

    Raises:
        UsageError: faiss was asked for and is not installed.
    """
    if search == "faiss":
        package()
        return "faiss"
    if search == "auto" and count > MANY:
        try:
            package()
            return "faiss"
        except UsageError:
            return "exact"
    return "exact"


def package() -> Any:
    """faiss.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UsageError(
            f"search is 'faiss', which needs faiss-cpu ({error.name} is not installed); "
            "pip install 'convlens[ann]', or take exact"
        ) from error
    return faiss
