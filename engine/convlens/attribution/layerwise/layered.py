"""At which layer a map of a layer's own places is made: the one asked for, or the last that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from convlens.errors import LayerError, TargetError
from convlens.registry import Field, Finding, Parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.results import Result
    from convlens.targets import Target

_JOINS = frozenset({"Add", "Sum", "Concat"})
_EARLY = 0.4  # of the layers; what comes last in a convolutional network lies far behind


class LayeredParameters(Parameters):
    """What every class activation map can be told."""

    layer: str | None = Field(
        None,
        description="a layer by name or alias whose units have a place; by default the last one on which the "
        "target depends",
    )
    place: Literal["stretch", "field"] = Field(
        "stretch",
        description="how the layer's cells lie over the input: stretched from edge to edge, as the papers "
        "do, or each in the middle of what its unit sees",
    )
    signed: bool = Field(False, description="keep what speaks against the target instead of leaving it out")


def layer_for(model: Model, target: Target, name: str | None) -> Layer:
    """The layer of that name, or the last one whose units have a place and on which ``target`` depends.

    Of a sum every term has to depend on it: a map at a later layer would leave out the others.

    By default it is rectified or a join of branches (a sum of residuals, a concatenation) where there
    is such a one: what comes after them is pooled, or already holds the scores.

    Raises:
        LayerError: the layer keeps no place, or none does.
        TargetError: the target does not lie behind the layer.
    """
    from convlens.graph.layers import shape_text

    read = [set(part.needs(model.graph.outputs)) for part in target.parts]
    needed = set().union(*read)
    before = set.intersection(*(model.graph.ancestors(names) - names for names in read))
    usable = [layer for layer in model.layers if layer.name in before and keeps_place(model, layer)]
    if name is None:
        if usable:
            return _last(model, usable)
        if not any(keeps_place(model, layer) for layer in model.layers):
            raise LayerError("the model has no layer whose units have a place in the input")
        raise TargetError(
            f"no layer between the input and {target.text} keeps a place for its units; choose a target "
            "further back"
        )
    layer: Layer = model.layers.find(name)
    if not keeps_place(model, layer):
        raise LayerError(
            f"layer {layer.alias!r} ({shape_text(layer.shape)}) keeps no place for its units"
            f"{_nearest(model, layer, usable)}"
        )
    if layer.name not in before:
        lies = "lies in" if layer.name in needed else "does not depend on"
        lies = "does not lie behind, with all its terms," if len(read) > 1 else lies
        hint = f"; choose an earlier one, such as {_last(model, usable).alias!r}" if usable else ""
        raise TargetError(f"{target.text} {lies} layer {layer.alias!r} and cannot be explained there{hint}")
    return layer


def keeps_place(model: Model, layer: Layer) -> bool:
    """Whether the layer runs along every spatial axis of the input, in more than one step, images first."""
    if not model.source.spatial or len(layer.spatial_axes) != len(model.source.spatial):
        return False
    if 0 in layer.spatial_axes:
        return False
    return layer.shape is None or any(layer.shape[axis] != 1 for axis in layer.spatial_axes)


def _last(model: Model, usable: Sequence[Layer]) -> Layer:
    """The last of ``usable`` that is rectified or a join and has channels alone beside its places."""
    source, graph = model.source.name, model.graph
    computed = graph.producers
    plain = [layer for layer in usable if _plain(layer)] or list(usable)
    for layer in reversed(plain):
        if layer.kind == "rectifier":
            return layer
        node = computed[layer.name]
        read = [name for name in dict.fromkeys(node.reads) if name in computed or name == source]
        if node.op in _JOINS and len(read) > 1:
            return layer
    return plain[-1]


def _plain(layer: Layer) -> bool:
    """Whether the axes beside batch, channels and space have length one, as far as is known."""
    if layer.shape is None:
        return True
    taken = {0, layer.channel_axis, *layer.spatial_axes}
    return all(dim == 1 for axis, dim in enumerate(layer.shape) if axis not in taken)


def _nearest(model: Model, layer: Layer, usable: Sequence[Layer]) -> str:
    """The layer with places that lies nearest in the order of computation, as a hint."""
    places = {each.name: place for place, each in enumerate(model.layers)}
    if not usable:
        return ""
    from convlens.graph.layers import shape_text

    at = places[layer.name]
    best = min(usable, key=lambda each: (abs(places[each.name] - at), -places[each.name]))
    return f"; the nearest that does is {best.alias!r} ({shape_text(best.shape)})"


def told(result: Result) -> list[Finding]:
    """Findings about a map: where it is zero or below everywhere, and where its layer is an early one."""
    found = []
    place, count = result.how["depth"]
    if result.how["parameters"]["layer"] is None and place < _EARLY * count:
        layer = result.hints["layer"]
        text = f"The map is made at {layer}, an early layer: behind it units keep no place of their own."
        found.append(Finding("note", text, f"it is layer {place} of {count}"))
    for index, row in enumerate(result.rows):
        if row["largest"] is None or not row["largest"] <= 0:  # what is no number is not empty
            continue
        flat = row["smallest"] == 0 == row["largest"]
        why = "the target does not move with it" if flat else "every cell speaks against the target"
        text = f"{row['image']}: the map at {row['layer']} is empty; {why}."
        evidence = f"it runs from {row['smallest']:.3g} to {row['largest']:.3g} before the ReLU"
        found.append(Finding("attention", text, evidence, index))
    return found


def made_at(model: Model, layer: Layer, cells: Sequence[int]) -> dict[str, Any]:
    """Where a map was made: the layer, the lengths of its axes, and its place among how many layers."""
    place = next(place for place, each in enumerate(model.layers, start=1) if each.name == layer.name)
    return {"layer": layer.name, "cells": list(cells), "depth": [place, len(model.layers)]}
