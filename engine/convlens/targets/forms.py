"""Which outputs of a model are boxes, told from their shapes and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convlens.classes import before_softmax

if TYPE_CHECKING:
    from convlens.graph.graph import Graph, Shape
    from convlens.graph.source import Source

    Labels = tuple[tuple[str, ...], ...]

_NOTHING = ("background", "__background__", "bg", "none", "no object", "n/a", "void")
_COCO = 80  # classes of the one data set whose detectors are told by their width alone
_MASKS = 32  # numbers of a mask that one family of segmenters writes behind the classes of each box


@dataclass(frozen=True)
class Form:
    """How a detector writes what it finds.

    Attributes:
        kind: ``rows`` (boxes and scores of each in one output), ``apart`` (boxes and class scores in two,
            one entry an anchor), ``listed`` (boxes, scores and classes of what was found, best first).
        boxes: ONNX value of the boxes.
        scores: ONNX value that a target reads; before a last softmax or sigmoid where it has one.
        seen: the scores as the model gives them.
        labels: ONNX value with the class of each box, for ``listed``; None where there is none.
        last: of ``rows``, whether the numbers of one box lie along the last axis.
        objectness: of ``rows``, whether a score for any object stands before those of the classes.
        count: how many classes, None where it is not known before the model runs.
        names: of the classes.
        alone: whether rows count boxes and not images.
        rows_first: whether the names are those of a library that writes upper before left.
        softmax: whether the scores of one box are shares of one, so that one class is the background.
    """

    kind: str
    boxes: str
    scores: str
    seen: str
    labels: str | None = None
    last: bool = True
    objectness: bool = False
    count: int | None = None
    names: Labels | None = None
    alone: bool = False
    rows_first: bool = False
    softmax: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that are needed to see what was found."""
        return tuple(dict.fromkeys(n for n in (self.boxes, self.seen, self.scores, self.labels) if n))

    def name(self, index: int, shift: int = 0) -> str:
        """A class for people."""
        known = self.names is not None and 0 <= index - shift < len(self.names)
        return f"class {index} ({self.names[index - shift][0]})" if known and self.names else f"class {index}"


def background(names: Labels | None) -> int | None:
    """The class that stands for nothing, by its name."""
    hits = [i for i, own in enumerate(names or ()) if own[0].lower() in _NOTHING]
    return hits[0] if len(hits) == 1 else None


def find_form(graph: Graph, source: Source, labels: Labels | None) -> Form | None:
    """How the model writes boxes, None where its outputs do not look like boxes or could mean two things."""
    if len(source.spatial) != 2:
        return None
    shapes = {name: graph.value(name).shape or () for name in graph.outputs}
    return _apart(graph, source, shapes, labels) or _rows(graph, shapes, labels)


def _apart(
    graph: Graph, source: Source, shapes: dict[str, tuple[int | str | None, ...]], labels: Labels | None
) -> Form | None:
    """Boxes in an output of their own, four numbers each."""
    real = [name for name in shapes if graph.value(name).floating]
    batch = source.shape[0] if source.shape else None
    boxes = [
        name for name in real if shapes[name][-1:] == (4,) and len(shapes[name]) in (2, 3)
        and not (len(shapes[name]) == 2 and shapes[name][0] == batch)
    ]  # fmt: skip
    named = [name for name in boxes if name.split(":")[0].endswith("detection_boxes")]
    tensorflow = [name for name in named if "raw" not in name]
    boxes = tensorflow or boxes
    if len(boxes) != 1:
        return None
    box, rank = boxes[0], len(shapes[boxes[0]])
    others = [name for name in shapes if name != box]
    if tensorflow:
        scores = [n for n in others if "detection_scores" in n and "raw" not in n and "multi" not in n]
        ids = [n for n in others if "detection_classes" in n]
    else:
        listed = [n for n in others if len(shapes[n]) == rank - 1 and _beside(shapes[n], shapes[box])]
        scores = [n for n in listed if graph.value(n).floating]
        ids = [n for n in listed if not graph.value(n).floating]
        if len(scores) == 2 and not ids:  # classes written as real numbers
            ids = [n for n in scores if any(word in n.lower() for word in ("label", "class", "cls"))]
            scores = [n for n in scores if n not in ids]
    if len(scores) == 1 and len(ids) <= 1:
        found = ids[0] if ids else None
        names = None if tensorflow else labels
        return Form(
            "listed", box, scores[0], scores[0], found, names=names, alone=rank == 2,
            rows_first=bool(tensorflow),
        )  # fmt: skip
    scores = [n for n in others if n in real and len(shapes[n]) == 3 and _beside(shapes[n][:2], shapes[box])]
    if rank != 3 or len(scores) != 1:
        return None
    logits, last = before_softmax(graph, scores[0])
    count = shapes[scores[0]][2]
    known = count if isinstance(count, int) else None
    fits = labels is not None and known is not None and len(labels) in (known, known - 1)
    return Form(
        "apart",
        box,
        logits,
        scores[0],
        count=known,
        names=labels if fits else None,
        softmax=last == "Softmax",
    )


def _beside(one: Sequence[int | str | None], boxes: Sequence[int | str | None]) -> bool:
    """Whether an output can have one entry for each of the boxes."""
    pairs = zip(one, boxes, strict=False)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _rows(
    graph: Graph, shapes: dict[str, tuple[int | str | None, ...]], labels: Labels | None
) -> Form | None:
    """Boxes and scores in one output, N x boxes x numbers or N x numbers x boxes."""
    real = [name for name, shape in shapes.items() if len(shape) == 3 and graph.value(name).floating]
    if len(real) != 1:
        return None
    name = real[0]
    first, second = shapes[name][1:]
    if isinstance(first, int) and isinstance(second, int):
        last = second <= first
    elif isinstance(first, int) or isinstance(second, int):
        last = isinstance(second, int)
    else:
        return None
    width = second if last else first
    assert isinstance(width, int)
    masks = any(len(shape) == 4 and shape[1] == _MASKS for shape in shapes.values())
    told = _classes(width - (_MASKS if masks else 0), last, labels)
    if told is None:
        return None
    count, objectness = told
    if count == 0:
        return Form("listed rows", name, name, name, last=last, names=labels)
    names = labels if labels is not None and len(labels) == count else None
    return Form("rows", name, name, name, last=last, objectness=objectness, count=count, names=names)


def _classes(width: int, last: bool, labels: Labels | None) -> tuple[int, bool] | None:
    """How many of ``width`` numbers are classes, and whether an objectness goes before; None if unclear."""
    if labels is not None:
        if width == 6 and len(labels) not in (1, 2):
            return 0, False  # four corners, score and class of what was found
        extra = width - 4 - len(labels)
        return (len(labels), extra == 1) if extra == 0 or (extra == 1 and last) else None
    if not last:
        return (width - 4, False) if width > 4 else None
    return {4 + _COCO: (_COCO, False), 5 + _COCO: (_COCO, True), 6: (0, False)}.get(width)


def why_unclear(graph: Graph, labels: Shape | Labels | None) -> str:
    """What a person can do where no boxes were recognised."""
    shapes = [graph.value(name).shape or () for name in graph.outputs]
    if labels is None and any(len(shape) == 3 and isinstance(shape[2], int) for shape in shapes):
        return (
            "whether a score for any object stands before those of the classes is told from the number of "
            "labels: give them (in the card or with --labels), or name a cell"
        )
    return "name a cell"
