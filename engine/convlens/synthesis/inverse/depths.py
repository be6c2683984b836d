"""Where along its depth a model is looked at: the ends of its stages, told from the graph.

A stage is a stretch of layers of one resolution. Of each the last value counts through which everything
that goes on has to pass; where the next stage begins with a pooling, that pooling counts instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from convlens.graph.dependence import dependent
from convlens.graph.shapes import infer

if TYPE_CHECKING:
    from convlens.graph.graph import Graph
    from convlens.graph.layers import Layer
    from convlens.model import Model

_ROWS = 7  # a number of images that no axis of another meaning is likely to have
_FEW, _SPREAD, _MOST = 3, 5, 8
_JOINS = frozenset({"Add", "Sum", "Concat"})
_COMPUTES = frozenset({"conv", "rectifier", "activation", "pool", "dense", "norm"})


def depths(model: Model, shape: Sequence[int]) -> list[Layer]:
    """The layers at the ends of the stages, in order, and the last layer of all that outputs share.

    Where a model keeps one resolution or has no places, layers spread evenly over its depth. Eight at most.

    Args:
        model: the model.
        shape: of one input, without the batch axis.
    """
    sizes = _sizes(model, shape)
    passed = [layer for layer in _passed(model) if layer.name in sizes and _counts(model, layer)]
    placed = [layer for layer in passed if sizes[layer.name]]
    chosen = list(dict.fromkeys([*_ends(placed, sizes), *passed[-1:]]))
    if len(chosen) < _FEW:
        plain = [layer for layer in passed if layer.kind == "rectifier"] or passed
        chosen = list(dict.fromkeys([*_spread(plain, _SPREAD), *passed[-1:]]))
    return _spread(chosen, _MOST)


def _sizes(model: Model, shape: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
    """Lengths along the places of every layer that counts images along its first axis; () without places."""
    batch = model.runner.fixed_batch or _ROWS
    known = infer(model.graph.ir, {model.source.name: (batch, *shape)})
    found: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        value = known.get(layer.name)
        if value is None or value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
            continue
        numbers = [int(dim) for dim in value.shape if isinstance(dim, int)]
        if not numbers or numbers[0] != batch:
            continue
        places = tuple(numbers[axis] for axis in layer.spatial_axes)
        whole = len(places) == len(model.source.spatial) and max(places, default=1) > 1
        found[layer.name] = places if whole else ()
    return found


def _passed(model: Model) -> list[Layer]:
    """The layers through which everything that is computed from the input has to pass."""
    graph = model.graph
    moving = dependent(graph, [model.source.name])
    live, readers = {model.source.name}, _readers(graph)
    cuts: set[str] = set()
    ended: set[str] = set()
    for node in graph.nodes:
        made = [n for n in node.outputs if n in moving and (readers.get(n) or n in graph.outputs)]
        for name in set(node.reads) & live:
            readers[name] -= 1
            if not readers[name]:
                live.discard(name)
        if len(made) == 1 and not live and ended <= graph.ancestors(made):
            cuts.add(made[0])
        live |= {name for name in made if readers.get(name)}
        ended |= {name for name in made if name in graph.outputs}
    return [layer for layer in model.layers if layer.name in cuts]


def _readers(graph: Graph) -> dict[str, int]:
    """By how many nodes that lead to an output each value is read."""
    needed = graph.ancestors(graph.outputs) | set(graph.outputs)
    found: dict[str, int] = {}
    for node in graph.nodes:
        if needed & set(node.outputs):
            for name in set(node.reads):
                found[name] = found.get(name, 0) + 1
    return found


def _counts(model: Model, layer: Layer) -> bool:
    """Whether the layer computes something, and does not only arrange it or squash scores."""
    node = model.graph.producers[layer.name]
    return (layer.kind in _COMPUTES or node.op in _JOINS) and node.op not in ("Softmax", "LogSoftmax")


def _ends(placed: Sequence[Layer], sizes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    """The last layer of each resolution, or the pooling after it, and the last of all."""
    found = []
    for layer, after in pairwise(placed):
        if sizes[layer.name] != sizes[after.name]:
            found.append(after if after.kind == "pool" else layer)
    return list(dict.fromkeys([*found, *placed[-1:]]))


def _spread(layers: Sequence[Layer], count: int) -> list[Layer]:
    """At most ``count`` of them, evenly over their order, the last one always."""
    total = len(layers)
    if total <= count:
        return list(layers)
    return [layers[-(-total * (place + 1) // count) - 1] for place in range(count)]
