"""The same network with random weights in some layers (Adebayo et al. 2018).

A map that stays what it was does not tell what the network has learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import ops
from convlens.altered import Altered
from convlens.errors import UnsupportedError
from convlens.graph.replaced import stored_behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph, Node
    from convlens.model import Model
    from convlens.targets import Target

_WEIGHTED = frozenset({"conv", "dense", "recurrent", "attention"})


@dataclass(frozen=True)
class Weighted:
    """A layer with weights.

    Attributes:
        value: the ONNX value that it computes.
        alias: its name for people.
        drawn: stored tensors that are drawn anew.
        dealt: stored tensors of one number a channel (biases, normalisation), which change places.
    """

    value: str
    alias: str
    drawn: tuple[str, ...]
    dealt: tuple[str, ...]


def weighted_layers(model: Model, target: Target | None = None) -> list[Weighted]:
    """The layers that have weights, in the order in which they are computed.

    With a target, those on which it depends.

    A normalisation and a bias that is added behind a layer belong to it. What plain arithmetic adds and
    multiplies elsewhere stays as it is: nothing tells weights from constants there.

    Raises:
        UnsupportedError: there is none.
    """
    graph = model.graph
    needed = graph.ancestors(target.needs(graph.outputs)) if target is not None else None
    computed = _computed(graph)
    taken: set[str] = set()
    found: list[tuple[str, list[str], list[str]]] = []
    for node in graph.nodes:
        if needed is not None and needed.isdisjoint(node.outputs):
            continue
        entry = ops.find(node)
        kind = entry.kind if entry is not None else ""
        stored = [name for name in _stored(graph, node) if name not in taken]
        behind = node.op == "Add" and any(name in computed for name in node.inputs)
        table = node.op == "Gather" and stored_behind(graph, node.input(0)) is not None and bool(stored)
        if not stored or not (kind in _WEIGHTED or kind == "norm" or behind or table):
            continue
        arrays = {name: _array(graph, name) for name in stored}
        drawn = [name for name, array in arrays.items() if array.ndim > 1 and not behind and kind != "norm"]
        dealt = [name for name in stored if name not in drawn]
        if table:
            dealt = []
        if drawn:
            found.append((node.outputs[0], drawn, dealt))
        elif found and dealt:
            found[-1][2].extend(dealt)
        else:
            continue
        taken.update(drawn, dealt)
    if not found:
        what = "the model has" if target is None else f"{target.text} depends on"
        raise UnsupportedError(f"{what} no layer with stored weights, so none can be made random")
    aliases = {layer.name: layer.alias for layer in model.layers}
    return [Weighted(v, aliases.get(v, v), tuple(drawn), tuple(dealt)) for v, drawn, dealt in found]


def randomised(model: Model, layers: Sequence[Weighted], seed: int) -> Altered:
    """``model`` with other weights in ``layers``.

    Weights are drawn from a normal distribution with their own mean and standard deviation, whole
    numbers (of quantised weights) are shuffled; biases and normalisation change places among the channels.
    What a layer is given depends on ``seed`` and the layer alone, not on what else is randomised.
    """
    graph = model.graph
    number = {name: place for place, name in enumerate(graph.ir.graph.initializers)}
    arrays: dict[str, NDArray[Any]] = {}
    for layer in layers:
        for name in layer.drawn:
            arrays[name] = _drawn(_array(graph, name), np.random.default_rng([seed, 3, number[name]]))
        for name in layer.dealt:
            rng = np.random.default_rng([seed, 5, number[layer.drawn[0]]])  # mean and variance move together
            array = _array(graph, name)
            arrays[name] = rng.permutation(array.reshape(-1)).reshape(array.shape)
    return Altered(model, arrays)


def depths(count: int, stages: int) -> list[int]:
    """How many of ``count`` layers are random at each of up to ``stages`` stages, from 1 to all."""
    return (
        np.unique(np.rint(np.linspace(1, count, min(stages, count))).astype(int)).tolist() if stages else []
    )


def cascade(model: Model, target: Target, stages: int, seed: int) -> Iterator[tuple[Weighted, int, Altered]]:
    """Networks that are random from the last layer down, stage by stage.

    Yields the lowest layer that is random, how many are, and the model.
    """
    layers = weighted_layers(model, target)
    for depth in depths(len(layers), stages):
        yield layers[-depth], depth, randomised(model, layers[-depth:], seed)


def apart(model: Model, target: Target, stages: int, seed: int) -> Iterator[tuple[Weighted, Altered]]:
    """Networks in which one layer alone is random, at the depths of :func:`cascade`."""
    layers = weighted_layers(model, target)
    for depth in depths(len(layers), stages):
        yield layers[-depth], randomised(model, [layers[-depth]], seed)


def _drawn(array: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    if array.dtype.kind in "iu" or array.size < 2:
        return rng.permutation(array.reshape(-1)).reshape(array.shape)
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    mean, spread = (float(finite.mean()), float(finite.std())) if finite.size else (0.0, 0.0)
    return rng.normal(mean, spread, array.shape).astype(array.dtype)


def _stored(graph: Graph, node: Node) -> list[str]:
    """Stored tensors of several numbers that the node reads, in this form or another one."""
    names = (stored_behind(graph, name) for name in node.inputs if name)
    return [name for name in dict.fromkeys(names) if name is not None and _array(graph, name).size > 1]


def _array(graph: Graph, name: str) -> NDArray[Any]:
    held = graph.ir.graph.initializers[name].const_value
    assert held is not None
    return np.asarray(held.numpy())


def _computed(graph: Graph) -> set[str]:
    """What layers with weights compute, behind which an addition is their bias."""
    found: set[str] = set()
    for node in graph.nodes:
        entry = ops.find(node)
        if entry is not None and entry.kind in ("conv", "dense"):
            found.update(node.outputs)
    return found
