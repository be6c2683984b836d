"""Many vectors as points on a plane, and how well the plane keeps what belongs together.

Everything runs in one thread: sums that several threads share round differently from run to run, and the
same seed must give the same map to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST = 50
"""Dimensions to which vectors are brought before t-SNE (van der Maaten & Hinton 2008, section 4.2)."""

FEWEST = 3
"""Images without which a map says nothing."""

_EXACT = 5e9  # multiplications of a full decomposition; above it a randomised one finds the first axes


def even(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` numbers, one drawn from each of as many equal stretches."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, most + 1).astype(np.int64)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])


def principal(vectors: NDArray[Any], count: int, seed: int) -> NDArray[np.float64]:
    """The first ``count`` principal components, N x count; zeros where there are fewer.

    Args:
        vectors: N x D.
        count: of components.
        seed: of the randomised search in large sets.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    kept = min(count, *vectors.shape)
    work = float(vectors.size) * min(vectors.shape)
    large = work > _EXACT
    given = vectors.astype(np.float32 if large else np.float64, copy=False)
    search = PCA(kept, svd_solver="randomized" if large else "full", iterated_power=7, random_state=seed)
    with threadpool_limits(1), np.errstate(divide="ignore", invalid="ignore"):
        found = search.fit_transform(given)
    return np.pad(np.asarray(found, np.float64), ((0, 0), (0, count - kept)))


def tsne(vectors: NDArray[Any], perplexity: float, seed: int) -> tuple[NDArray[np.float64], float]:
    """t-SNE (van der Maaten & Hinton 2008; van der Maaten 2014), from the first two principal components.

    Args:
        vectors: N x D.
        perplexity: about how many neighbours each point keeps an eye on.
        seed: of whatever is random.

    Returns:
        N x 2, and the perplexity, which is at most a third of the other points.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    fitting = max(1.0, min(perplexity, (len(vectors) - 1) / 3))
    before = principal(vectors, FIRST, seed) if vectors.shape[1] > FIRST else vectors
    start = principal(vectors, 2, seed)
    spread = start[:, 0].std()
    if not spread > 0:
        return np.zeros((len(vectors), 2)), fitting  # all points are one
    start = (start / spread * 1e-4).astype(np.float32)
    search = TSNE(2, perplexity=fitting, init=start, learning_rate="auto", random_state=seed, n_jobs=1)
    with threadpool_limits(1):
        found = search.fit_transform(before.astype(np.float32))
    return np.asarray(found, np.float64), fitting


def umap(vectors: NDArray[Any], neighbours: int, seed: int) -> tuple[NDArray[np.float64], int]:
    """UMAP (McInnes, Healy & Melville 2018).

    Args:
        vectors: N x D.
        neighbours: of each point in the graph that is laid out.
        seed: of whatever is random.

    Returns:
        N x 2, and the number of neighbours, which is less than that of the points.

    Raises:
        UsageError: the package is not installed.
    """
    import warnings

    from threadpoolctl import threadpool_limits

    try:
        import umap as package
    except ImportError as error:
        raise UsageError(
            f"way is 'umap', which needs umap-learn ({error.name} is not installed); "
            "pip install 'convlens[umap]', or take tsne or pca"
        ) from error
    fitting = max(2, min(neighbours, len(vectors) - 1))
    start = "spectral" if len(vectors) > 10 else "random"
    search = package.UMAP(n_neighbors=fitting, init=start, random_state=seed, n_jobs=1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba and small graphs
        found = search.fit_transform(vectors.astype(np.float32))
    return np.asarray(found, np.float64), fitting


def nearest(vectors: NDArray[Any], k: int) -> NDArray[np.int64]:
    """The ``k`` nearest others of each vector by Euclidean distance, N x k, the nearest first."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(vectors)
        return np.asarray(found.kneighbors(return_distance=False), np.int64)


def purity(neighbours: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """The share of each point's neighbours that are of its class, N.

    Args:
        neighbours: N x k, as :func:`nearest` gives them.
        classes: N, anything that can be compared.
    """
    return np.asarray((classes[neighbours] == classes[:, None]).mean(axis=1), np.float64)


def kept(before: NDArray[Any], after: NDArray[Any]) -> float:
    """The share of neighbours ``before`` (N x k) that still are neighbours ``after`` (N x k)."""
    both = [len(np.intersect1d(a, b)) for a, b in zip(before, after, strict=True)]
    return float(np.mean(both) / before.shape[1])


def cells(place: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Each point in a cell of its own of a grid, so that they move least in all.

    The grid lies over the points' bounding box, and the sum of squared distances from each point to its
    cell's centre, both as shares of the box, is the least there is (Jonker & Volgenant 1987).

    Args:
        place: N x 2, x to the right and y upwards.

    Returns:
        Row from the top and column of each, N x 2, and how many rows and columns there are.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    count = len(place)
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    low, high = place.min(axis=0), place.max(axis=0)
    shares = (place - low) / np.where(high > low, high - low, 1.0)
    row, column = np.divmod(np.arange(rows * columns), columns)
    centres = np.stack([(column + 0.5) / columns, 1 - (row + 0.5) / rows], axis=1)
    _, chosen = linear_sum_assignment(cdist(shares, centres, "sqeuclidean"))
    return np.stack([row[chosen], column[chosen]], axis=1).astype(np.int64), (rows, columns)


def chance(classes: NDArray[Any]) -> float:
    """The purity of neighbours that are drawn blindly from the others."""
    _, counts = np.unique(classes, return_counts=True)
    total = counts.sum()
    return float((counts * (counts - 1)).sum() / (total * (total - 1))) if total > 1 else 0.0


def possible(classes: NDArray[Any], k: int) -> float:
    """The largest purity of ``k`` neighbours that there can be, since small classes have fewer members."""
    _, at, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return float(np.minimum(counts[at] - 1, k).mean() / k) if len(classes) else 0.0


def codes(texts: Sequence[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Texts as numbers in the order of :func:`ordered`, -1 for None; and the texts."""
    names = ordered({str(text) for text in texts if text is not None})
    number = {name: index for index, name in enumerate(names)}
    return np.array([-1 if text is None else number[str(text)] for text in texts], np.int64), names


def ordered(names: set[str]) -> list[str]:
    """As people order them: 2 before 10."""
    return sorted(names, key=lambda name: ([_part(part) for part in _parts(name.casefold())], name))


def _parts(name: str) -> list[str]:
    return re.findall(r"\d+|\D+", name)


def _part(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)
