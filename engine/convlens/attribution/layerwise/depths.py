"""A few layers from the first to the top: the ones asked for, or ones spread over the depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convlens.errors import LayerError, ParameterError

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model

_WEIGHED = ("conv", "dense")
_SAME = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""The same numbers, laid out otherwise."""


def chosen_layers(model: Model, names: str | None, count: int) -> list[Layer]:
    """The layers named with commas between; without names up to ``count`` from the first to the top.

    The first is the first one rectified, the top the features from which the last convolution or dense
    layer makes the scores. Those between are rectified ones, evenly spread.

    Raises:
        LayerError: there is no such layer.
        ParameterError: a text without a name.
    """
    if names is not None:
        parts = [part.strip() for part in names.split(",") if part.strip()]
        if not parts:
            raise ParameterError(f"layers is {names!r}; expected names of layers with commas between them")
        return list(dict.fromkeys(model.layers.find(part) for part in parts))
    rows = model.source.shape[0] if model.source.shape else None
    usable = [layer for layer in model.layers if layer.shape is None or layer.shape[:1] == (rows,)]
    if not usable:
        raise LayerError("the model has no layer with one row an input; name the layers to be read")
    top = _top(model, usable)
    until = usable[: usable.index(top) + 1]
    for kinds in (("rectifier",), _WEIGHED):
        found = [layer for layer in until if layer.kind in kinds]
        if found:
            break
    ladder = [*(layer for layer in found if layer != top), top]
    if len(ladder) <= count:
        return ladder
    if count == 1:
        return [top]
    places = [round(step * (len(ladder) - 1) / (count - 1)) for step in range(count)]
    return [ladder[place] for place in places]


def _top(model: Model, usable: list[Layer]) -> Layer:
    """What the last layer with weights reads, among ``usable``; their last where there is none."""
    graph, classes = model.graph, model.classes
    open_ = [classes.logits if classes is not None else graph.outputs[0]]
    seen = set(open_)
    known = {layer.name: layer for layer in usable}
    while open_:
        name = open_.pop(0)
        node = graph.producers.get(name)
        if node is None:
            continue
        layer = model.layers.get(name)
        if layer is not None and layer.kind in _WEIGHED:
            read = node.input(0)
            while (before := graph.producers.get(read)) is not None and before.op in _SAME:
                read = before.input(0)
            if read in known:
                return known[read]
        fresh = [value for value in node.inputs if value and value not in seen]
        seen.update(fresh)
        open_.extend(fresh)
    return usable[-1]
