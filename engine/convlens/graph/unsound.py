"""Weights that hold NaN or infinity: no executor refuses them, and a person should know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.graph.graph import Graph
from convlens.graph.nested import branches

_BLOCK = 1 << 20  # numbers looked at in one go, so that no copy of a large weight is made
_BOUNDS = frozenset({"Clip", "Equal", "Greater", "Less", "Max", "Min", "Pad", "Where"})
"""Operators for which an infinite constant is ordinary: a bound, a mask, a fill."""


@dataclass(frozen=True, slots=True)
class Unsound:
    """One weight, how many of its numbers are no finite ones, and the nodes that read it."""

    name: str
    nan: int
    infinite: int
    size: int
    readers: tuple[str, ...]

    def words(self) -> str:
        """One sentence part, such as ``w1 (Conv conv1): 3 of 108 numbers are NaN``."""
        found = [f"{n:,} {what}" for n, what in ((self.nan, "NaN"), (self.infinite, "infinite")) if n]
        readers = f" (read by {', '.join(self.readers)})" if self.readers else ""
        return f"{self.name}{readers}: {' and '.join(found)} of {self.size:,} numbers"


def unsound_weights(graph: Graph) -> tuple[Unsound, ...]:
    """Every constant that some node reads and that is not finite; infinite bounds and masks left out."""
    found: list[Unsound] = []
    for name, array in graph.constants.items():
        readers = graph.consumers.get(name, ())
        if not readers or "float" not in array.dtype.name:
            continue
        nan, infinite = _count(array)
        if not nan and (not infinite or all(node.op in _BOUNDS for node in readers)):
            continue
        said = tuple(f"{node.full_op} {node.name or node.outputs[0]}" for node in readers[:3])
        found.append(Unsound(name, nan, infinite, array.size, said))
    for branch in (branch for node in graph.nodes for branch in branches(node, graph)):
        found += [one for one in unsound_weights(branch) if one.name not in graph.constants]
    return tuple(found)


def unsound_words(graph: Graph) -> str | None:
    """All of them in one sentence, None where every weight is finite."""
    found = unsound_weights(graph)
    if not found:
        return None
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return f"weights that are not finite: {'; '.join(each.words() for each in found[:3])}{more}"


def _count(array: NDArray[Any]) -> tuple[int, int]:
    """How many numbers are NaN and how many infinite."""
    flat = array.reshape(-1)
    nan = infinite = 0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        if np.isfinite(block).all():
            continue
        nan += int(np.isnan(block).sum())
        infinite += int(np.isinf(block).sum())
    return nan, infinite
