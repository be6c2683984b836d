"""In which precision PyTorch's passes are done: float32, or less where a method can do with less.

Precision is lowered by autocast: sums of products (convolutions, products of matrices) take numbers of 16
bits, what is sensitive to rounding stays in float32. onnxruntime, and with it every value that is no
gradient's, computes as the file says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph

FULL = "float32"
PRECISIONS = (FULL, "float16", "bfloat16")
_BITS = {"float16": 11, "bfloat16": 8}
"""Significant bits, the leading one that is not stored included."""
_ALIKE = 0.99  # cosine from which on two gradients draw the same picture


def check_graph(precision: str, graph: Graph) -> None:
    """Look whether a model can be differentiated in ``precision``.

    Raises:
        ParameterError: it computes on codes, which need every bit, or in half precision of its own.
    """
    from convlens.ops.quantcodes import quantised

    if precision == FULL:
        return
    if quantised(graph):
        why = "the model is quantised, and sums of its codes need every bit of float32"
    else:
        names = (*graph.producers, *(value.name for value in graph.inputs))
        own = next((kind for kind in (graph.value(n).dtype for n in names) if kind in _BITS), None)
        if own is None:
            return
        why = f"the file computes in {own} itself, and is followed in that"
    raise ParameterError(f"precision is {precision!r}, but {why}; leave it at {FULL}")


@dataclass
class Taken:
    """How gradients are taken in some run: the precision, and how far off float32 they were found to be.

    ``found`` holds for each way that a gradient goes the cosine between the two gradients of the first row,
    and the length of their difference as a share of float32's.
    """

    precision: str = FULL
    found: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)

    def lowered(self, array: NDArray[Any]) -> str:
        """The precision for ``array``: arrays in float64 are computed in that throughout."""
        return FULL if array.dtype == np.float64 else self.precision

    def compare(self, way: tuple[str, ...], low: NDArray[Any], full: NDArray[Any]) -> None:
        """Hold a gradient against the same one in float32."""
        one, other = low.astype(np.float64).ravel(), full.astype(np.float64).ravel()
        length = float(np.linalg.norm(other))
        off = float(np.linalg.norm(one - other))
        if off == 0:
            self.found[way] = (1.0, 0.0)
            return
        both = float(np.linalg.norm(one)) * length
        self.found[way] = (float(one @ other) / both if both else 0.0, off / length if length else np.inf)

    @property
    def worst(self) -> tuple[float, float] | None:
        """The cosine and the share where they are furthest apart, None where nothing was compared."""
        return max(self.found.values(), key=lambda pair: pair[1]) if self.found else None

    def words(self) -> str:
        """What the gradients are, for people."""
        bits = _BITS[self.precision]
        said = (
            f"taken in {self.precision} by autocast, as are the scores beside them: what convolutions and "
            f"products of matrices read and write is rounded to {bits} bits, and units next to their "
            "threshold may switch"
        )
        if self.worst is not None:
            said += f"; off float32's by {self.worst[1]:.1%} on the first image (cosine {self.worst[0]:.4f})"
        if self.precision == "float16":
            said += "; rows that leave its range are taken in float32"
        return f"{said}; the certificate is of float32"

    def warning(self) -> str | None:
        """What a person should know of gradients that are far off, None of others."""
        if self.worst is None or self.worst[0] >= _ALIKE:
            return None
        return (
            f"gradients in {self.precision} point elsewhere than in float32 (cosine {self.worst[0]:.3f} on "
            "the first image); take them in float32"
        )


_TAKEN: ContextVar[Taken | None] = ContextVar("convlens_precision", default=None)


@contextmanager
def taken(precision: str) -> Iterator[Taken]:
    """Gradients of a method's run are taken in ``precision`` inside the block; everywhere else in float32."""
    run = Taken(precision)
    token = _TAKEN.set(run)
    try:
        yield run
    finally:
        _TAKEN.reset(token)


def in_use() -> Taken:
    """What holds here."""
    return _TAKEN.get() or Taken()
