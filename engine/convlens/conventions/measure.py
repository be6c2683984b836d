"""One convention tried on a model: everything that is measured, photo by photo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.classes import before_softmax
from convlens.conventions.evidence import softmax
from convlens.errors import CardError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.conventions.candidates import Convention
    from convlens.graph.graph import Graph
    from convlens.model import Model

_RECTIFIERS = frozenset({"Relu", "Clip", "PRelu", "LeakyRelu", "HardSwish", "Elu", "Gelu", "Mish", "Swish"})
_LAST = frozenset({"Conv", "FusedConv", "Gemm", "MatMul"})
_TAPS, _BATCHNORMS = 16, 8


@dataclass(frozen=True, slots=True)
class Places:
    """Where a model is looked at.

    Attributes:
        scores: value with one number a class, before the softmax; None where there are no classes.
        features: what the last layer with weights reads.
        taps: what rectifiers read, first to last.
        batchnorms: what each BatchNormalization reads, with the mean and variance that training recorded.
    """

    scores: str | None
    features: str
    taps: tuple[str, ...]
    batchnorms: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


@dataclass
class Measured:
    """What one convention does. P photos, V versions of each (the first unchanged), C channels, K classes.

    Attributes:
        scores: V x P x K, before the softmax; None where there are no classes.
        features: P x F, of the photos as they are.
        active: per tap P x C, the share of positions at which a channel is above zero.
        moments: per BatchNormalization P x C means and P x C mean squares of what it reads.
        whole: whether the small changes were tried, too.
    """

    scores: NDArray[np.float64] | None = None
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    active: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    moments: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    whole: bool = False

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """V x P x K, none where there are no classes."""
        return np.zeros((0, 0, 0)) if self.scores is None else softmax(self.scores)

    @property
    def answer(self) -> NDArray[np.float64]:
        """The scores of the photos as they are, or the features where there are none: P x K."""
        return self.features if self.scores is None else np.asarray(self.scores[0])


def places(model: Model) -> Places:
    """Where to look at ``model``."""
    graph = model.graph
    try:
        classes = model.classes
    except CardError:
        classes = None
    scores = classes.logits if classes is not None else None
    if scores is None:  # a classifier without a dense layer has its two spatial axes left, of length 1
        for name in graph.outputs:
            logits, op = before_softmax(graph, name)
            if op == "Softmax":
                scores = logits
                break
    upstream = graph.ancestors([scores or graph.outputs[0]])
    weighted = [n for n in graph.nodes if n.op in _LAST and n.outputs[0] in upstream]
    computed = [n for n in weighted if n.inputs[0] in graph.producers]
    features = computed[-1].inputs[0] if computed and scores else graph.outputs[0]
    return Places(scores, features, _taps(graph, upstream), _batchnorms(graph, upstream))


def _taps(graph: Graph, upstream: set[str]) -> tuple[str, ...]:
    found = []
    for node in graph.nodes:
        value = node.inputs[0] if node.inputs else ""
        gated = node.op == "Sigmoid" and any(
            value in c.inputs for c in graph.consumers.get(node.outputs[0], ())
        )
        if (node.op in _RECTIFIERS or gated) and value in graph.producers and value in upstream:
            found.append(value)
    found = list(dict.fromkeys(found)) or [
        n.outputs[0] for n in graph.nodes if n.op == "Conv" and n.outputs[0] in upstream
    ]
    step = max(1, -(-len(found) // _TAPS))
    return tuple(found[::-1][::step][::-1])


def _batchnorms(graph: Graph, upstream: set[str]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    found = {}
    for node in graph.nodes:
        if node.op != "BatchNormalization" or node.outputs[0] not in upstream:
            continue
        mean, var = graph.constant(node.inputs[3]), graph.constant(node.inputs[4])
        if mean is not None and var is not None and mean.size > 4 and node.inputs[0] in graph.producers:
            found[node.inputs[0]] = (mean.astype(np.float64), var.astype(np.float64))
    return dict(list(found.items())[:_BATCHNORMS])


class Bench:
    """Tries conventions on a model: views are made once, passes are made per convention."""

    def __init__(
        self,
        model: Model,
        views: NDArray[np.uint8],
        changed: Mapping[str, NDArray[np.uint8]],
        batch_size: int,
    ) -> None:
        """Look where ``model`` is to be measured.

        Args:
            model: the model; only its values are read.
            views: P x height x width x channels, RGB, 0 to 255.
            changed: versions whose prediction should stay.
            batch_size: images in one forward.
        """
        self.model, self.views, self.changed = model, views, changed
        self.batch_size = batch_size
        self.places = places(model)

    def look(self, convention: Convention) -> Measured:
        """Everything about one convention that the photos as they are tell."""
        found = Measured()
        scores, found.features = self._unchanged(convention, found)
        found.scores = None if scores is None else scores[None]
        return found

    def change(self, convention: Convention, looked: Measured) -> Measured:
        """The same with the small changes."""
        if looked.scores is None:
            return replace(looked, whole=True)
        changed = [self.scores(convention, views) for views in self.changed.values()]
        scores = [looked.scores[0], *(s for s in changed if s is not None)]
        return replace(looked, scores=np.stack(scores), whole=True)

    def scores(self, convention: Convention, views: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Scores of other views, P x K, None where there are no classes."""
        parts = [self._read(values) for values in self._stream(convention, views, self._names())]
        return _joined(parts)[0]

    def _names(self) -> list[str]:
        return [name for name in (self.places.scores, self.places.features) if name is not None]

    def _unchanged(
        self, convention: Convention, into: Measured
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
        norms = self.places.batchnorms
        names = list(dict.fromkeys([*self._names(), *self.places.taps, *norms]))
        parts = []
        active: dict[str, list[NDArray[np.float64]]] = {}
        moments: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
        for values in self._stream(convention, self.views, names):
            parts.append(self._read(values))
            for name in self.places.taps:
                if values[name].ndim == 4:
                    active.setdefault(name, []).append((values[name] > 0).mean(axis=(2, 3)))
            for name in norms:
                value = values[name].astype(np.float64)
                axes = tuple(range(2, value.ndim))
                pair = value.mean(axis=axes), np.square(value).mean(axis=axes)
                moments.setdefault(name, []).append(pair)
        into.active = {name: np.concatenate(found) for name, found in active.items()}
        into.moments = {
            name: (np.concatenate([m for m, _ in found]), np.concatenate([s for _, s in found]))
            for name, found in moments.items()
        }
        return _joined(parts)

    def _stream(
        self, convention: Convention, views: NDArray[np.uint8], names: Sequence[str]
    ) -> Iterator[dict[str, NDArray[Any]]]:
        source = self.model.source
        dtype = {"uint8": np.uint8, "float16": np.float16}.get(source.dtype or "", np.float32)

        def feeds() -> Iterator[dict[str, NDArray[Any]]]:
            for start in range(0, len(views), self.batch_size):
                x = convention.array(views[start : start + self.batch_size])
                x = np.moveaxis(x, -1, 1) if source.layout == "NCHW" else x
                yield {source.name: np.ascontiguousarray(x.astype(dtype))}

        with np.errstate(all="ignore"):
            yield from self.model.runner.stream(feeds(), names)

    def _read(
        self, values: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
        features = values[self.places.features].astype(np.float64)
        if features.ndim > 2:
            features = features.mean(axis=tuple(range(2, features.ndim)))
        features = np.nan_to_num(features.reshape(len(features), -1), posinf=1e30, neginf=-1e30)
        if self.places.scores is None:
            return None, features
        scores = values[self.places.scores].astype(np.float64)
        if any(length != 1 for length in scores.shape[2:]):
            return None, features
        scores = np.nan_to_num(scores.reshape(len(scores), -1), posinf=1e30, neginf=-1e30)
        if scores.shape[1] == 1:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        return scores, features


def _joined(
    parts: Sequence[tuple[NDArray[np.float64] | None, NDArray[np.float64]]],
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    scores = [s for s, _ in parts if s is not None]
    return (np.concatenate(scores) if scores else None), np.concatenate([f for _, f in parts])
