"""Which output holds class scores, and what its numbers and classes are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens.cards import Card
from convlens.errors import CardError
from convlens.graph.graph import Dim, Graph, Shape
from convlens.graph.source import counts_inputs

_NO_CLASSES = frozenset({"features", "embedding", "detection", "segmentation"})
_FOUND = frozenset({"NonMaxSuppression", "NonZero", "Compress", "Unique"})  # as many rows as there were hits
_PASSED_ON = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast"})


@dataclass(frozen=True)
class Classes:
    """The output that holds class scores.

    Attributes:
        name: ONNX value name of the output.
        logits: the value before the last softmax or sigmoid, the output itself where there is none.
        count: how many classes.
        scores: ``logits``, ``probabilities`` or ``sigmoid``: what the output itself holds.
        labels: class names, each with its synonyms; None where nobody says them.
    """

    name: str
    logits: str
    count: int
    scores: str
    labels: tuple[tuple[str, ...], ...] | None

    def label(self, index: int) -> str:
        """Class name, or ``class 12`` where there are none."""
        return self.labels[index][0] if self.labels is not None else f"class {index}"

    def probabilities(self, output: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The output (N x ...) as probabilities, N x count, in float64."""
        flat = output.reshape(len(output), -1).astype(np.float64)
        if self.scores == "logits":
            shifted = np.exp(flat - flat.max(axis=1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
        return flat


def find_classes(graph: Graph, card: Card, taken: Shape = None) -> Classes | None:
    """The output that holds class scores, None where the model has none.

    It is the one that the card names; else the only one that ends in a softmax; else the first, as
    far as it has the shape of scores (N x classes). A card whose task is not classification says
    that there are none, and so does a first axis that does not count inputs: the boxes that a detector
    keeps are as many as it found.

    Args:
        graph: the normalised graph.
        card: what is known of the output.
        taken: the shape of the input that is explained.

    Raises:
        CardError: the card names an output or a number of labels that does not fit.
    """
    if card.model.task in _NO_CLASSES:
        return None
    name = card.output.name or _score_output(graph)
    if name not in graph.outputs:
        raise CardError(f"no output {name!r}; the model has {', '.join(graph.outputs)}")
    shape = graph.value(name).shape
    if shape is None or len(shape) < 2 or any(dim != 1 for dim in shape[2:]):
        return None
    if not (counts_inputs(shape[0], taken) and _all_kept(graph, name, shape[0], taken)):
        return None
    count = shape[1]
    logits, op = before_softmax(graph, name)
    if not isinstance(count, int) or (count < 2 and op is None):
        return None
    by_op = {"Softmax": "probabilities", "Sigmoid": "sigmoid"}
    scores = card.output.scores or by_op.get(op or "", "logits")
    labels = card.labels_for(graph)
    if labels is not None and len(labels) != count:
        whose = "the file's metadata" if card.output.labels is None else "the card"
        raise CardError(
            f"{whose} has {len(labels)} labels, output {name!r} has {count} scores; they must match - "
            "give labels for this output in the card or with --labels"
        )
    return Classes(name, logits, count, scores, labels)


def _all_kept(graph: Graph, name: str, rows: Dim, taken: Shape) -> bool:
    """Whether there are as many rows as inputs, and not as many as were chosen."""
    if isinstance(rows, int) or (rows is not None and taken and rows == taken[0]):
        return True
    seen, open_ = {name}, [name]
    while open_:
        node = graph.producers.get(open_.pop())
        if node is None:
            continue
        if node.op in _FOUND:
            return False
        fresh = [value for value in node.inputs if value and value not in seen]
        seen.update(fresh)
        open_.extend(fresh)
    return True


def before_softmax(graph: Graph, name: str) -> tuple[str, str | None]:
    """The value that a final softmax or sigmoid reads, and which of the two it is."""
    value = name
    while (node := graph.producers.get(value)) is not None:
        if node.op in ("Softmax", "Sigmoid"):
            return node.inputs[0], node.op
        if node.op not in _PASSED_ON:
            break
        value = node.inputs[0]
    return name, None


def _score_output(graph: Graph) -> str:
    soft = [name for name in graph.outputs if before_softmax(graph, name)[1] == "Softmax"]
    return soft[0] if len(soft) == 1 else graph.outputs[0]
