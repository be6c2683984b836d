"""Class scores of any output: ``OUTPUT=CLASS``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.classes import before_softmax
from convlens.errors import TargetError, nearest
from convlens.targets.dense import alike, find_label
from convlens.targets.target import Pick, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.graph.layers import Layer

Labels = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Best:
    """The class with the largest score of an output, image by image."""

    value: str
    head: str
    names: Labels | None

    alone = False
    shares = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The scores."""
        return (self.value,)

    def pick(self, values: Mapping[str, NDArray[Any]], extent: tuple[int, ...]) -> Pick:
        """The largest score of one image."""
        del extent
        index = int(values[self.value][0].argmax())
        record: dict[str, Any] = {"class": index}
        if self.names is not None:
            record["label"] = self.names[index][0]
        text = f"the predicted class of {self.head}, {_name(index, self.names)}"
        return Pick(text, np.array([index]), record, index)

    def score(self, values: Mapping[str, Any], picks: Sequence[Pick]) -> Any:
        """Not asked for: the cell is read by the target itself."""
        raise NotImplementedError


def _name(index: int, names: Labels | None) -> str:
    return f"class {index}" if names is None else f"class {index} ({names[index][0]})"


def head_target(
    graph: Graph, value: str, head: str, what: str, labels: Labels | None, layer: Layer | None
) -> Target | None:
    """A class of an output N x classes, its score before a last softmax or sigmoid; None for other shapes.

    Args:
        graph: the normalised graph.
        value: ONNX name of the output.
        head: what it was called.
        what: index or label of the class, or ``predicted``.
        labels: class names, used where they are as many as the output has classes.
        layer: the layer that the output is.

    Raises:
        TargetError: it has no such class.
    """
    shape = graph.value(value).shape
    if shape is None or len(shape) < 2 or any(dim != 1 for dim in shape[2:]) or layer is None:
        return None
    logits, _ = before_softmax(graph, value)
    logits = logits if alike(graph.value(logits).shape, shape) else value
    count = shape[1] if isinstance(shape[1], int) else None
    names = labels if labels is not None and count == len(labels) else None
    if what == "predicted":
        look = Best(logits, head, names)
        return Target(
            "picked", logits, f"the predicted class of {head}", layer=layer, look=look, reduction="mean"
        )
    index = int(what) if what.isdecimal() else find_label(what, names)
    if index is None:
        options = [name for own in names or () for name in own]
        hint = nearest(what, options) if options else f"; {head} has no labels, type an index"
        raise TargetError(f"{head} has no class called {what!r}{hint}")
    if count is not None and index >= count:
        raise TargetError(f"no class {index}; {head} has classes 0 to {count - 1}")
    text = f"{_name(index, names)} of {head}"
    return Target("cells", logits, text, selector=(index,), layer=layer)
