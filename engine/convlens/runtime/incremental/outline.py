"""What is known of the values of one image before it goes forward: how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.graph.dependence import dependent
from convlens.graph.graph import Graph
from convlens.runtime.incremental.parts import sized
from convlens.runtime.shared import numpy_dtype


def outlined(
    graph: Graph, names: Sequence[str], source: str, image: NDArray[Any]
) -> dict[str, NDArray[Any]] | None:
    """Every value that ``names`` are computed of, as long as it will be and without its numbers.

    None where the file does not tell all lengths, or sizes of the input are computed with.

    Args:
        graph: the normalised graph.
        names: values that are asked for.
        source: the input.
        image: one of it with its batch axis of one.
    """
    needed = graph.ancestors(names)
    if not needed.isdisjoint(sized(graph, frozenset(dependent(graph, (source,))))):
        return None
    taken = graph.value(source).shape
    if taken is None or len(taken) != image.ndim:
        return None
    lengths = {dim: length for dim, length in zip(taken, image.shape, strict=True) if isinstance(dim, str)}
    found: dict[str, NDArray[Any]] = {}
    for name in needed - graph.constants.keys():
        value = graph.value(name)
        dims = value.shape if value.shape is not None else (None,)
        shape = [dim if isinstance(dim, int) else lengths.get(dim or "", -1) for dim in dims]
        if value.dtype is None or -1 in shape:
            return None
        found[name] = np.broadcast_to(np.zeros((), numpy_dtype(value.dtype)), shape)
    return {**found, source: image} if found[source].shape == image.shape else None
