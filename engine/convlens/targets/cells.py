"""Cells of outputs and layers, as they are typed: ``layer:channel@row,column`` and ``name[0,4,:].max``."""

from __future__ import annotations

import re

from convlens.errors import LayerError, TargetError, nearest
from convlens.graph.graph import Graph
from convlens.graph.layers import Layer, Layers, shape_text
from convlens.targets.target import Target

REDUCTIONS = ("max", "min", "mean", "sum", "norm")
SELECTOR = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<index>[^\]]*)\](\.(?P<how>\w+))?$")
CHANNEL = re.compile(r"^(?P<name>.+):(?P<channel>-?\d+)(@(?P<at>[\d,\s-]+))?$")


def by_channel(match: re.Match[str], layers: Layers, text: str) -> Target:
    """A channel of a layer, or one neuron of it, from a match of :data:`CHANNEL`.

    Raises:
        LayerError: there is no such layer, channel or position.
        TargetError: the position has another number of axes.
    """
    layer: Layer = layers.find(match["name"])
    channel = int(match["channel"])
    if layer.channel_axis is None:
        raise LayerError(f"layer {layer.alias!r} ({shape_text(layer.shape)}) has no channel axis")
    if channel < 0 or (layer.channels is not None and channel >= layer.channels):
        count = f"; it has channels 0 to {layer.channels - 1}" if layer.channels else ""
        raise LayerError(f"layer {layer.alias!r} has no channel {channel}{count}")
    if match["at"] is None:
        words = f"channel {channel} of {layer.alias}"
        return Target("channel", layer.name, words, index=channel, layer=layer)
    try:
        position = tuple(int(part) for part in match["at"].split(","))
    except ValueError as error:
        raise TargetError(f"{text!r}: expected row,column after @") from error
    if len(position) != len(layer.spatial_axes):
        raise TargetError(
            f"{text!r}: layer {layer.alias!r} is {shape_text(layer.shape)} and takes "
            f"{len(layer.spatial_axes)} numbers after @, found {len(position)}"
        )
    for axis, place in zip(layer.spatial_axes, position, strict=True):
        size = layer.shape[axis] if layer.shape is not None else None
        if place < 0 or (isinstance(size, int) and place >= size):
            raise LayerError(f"layer {layer.alias!r} is {shape_text(layer.shape)}: no position {place}")
    where = ",".join(map(str, position))
    words = f"neuron {where} of channel {channel} of {layer.alias}"
    return Target("neuron", layer.name, words, index=channel, position=position, layer=layer)


def by_selector(match: re.Match[str], graph: Graph, layers: Layers, text: str) -> Target:
    """Cells of an output or a layer, from a match of :data:`SELECTOR`.

    Raises:
        TargetError: there is no such value, cell or reduction.
    """
    name = match["name"]
    layer = layers.get(name)
    value = layer.name if layer else name
    if layer is None and name not in graph.outputs:
        known = [*graph.outputs, *(layer.alias for layer in layers)]
        raise TargetError(f"no output or layer {name!r}{nearest(name, known)}")
    reduction = match["how"] or "sum"
    if reduction not in REDUCTIONS:
        raise TargetError(f"no reduction .{reduction}; known: {', '.join('.' + r for r in REDUCTIONS)}")
    index = tuple(_one_index(part, text) for part in match["index"].split(","))
    rank = graph.value(value).rank
    if rank is not None and len(index) == rank:
        if index[0] not in (0, slice(None)):
            raise TargetError(f"{text!r}: the first index is the batch; write 0 or : for the image at hand")
        index = index[1:]
    shape = graph.value(value).shape
    if rank is not None and len(index) > rank - 1:
        raise TargetError(f"{text!r}: {name} is {shape_text(shape)}, too many indices")
    for axis, part in enumerate(index, start=1):
        size = shape[axis] if shape is not None else None
        if isinstance(part, int) and isinstance(size, int) and not -size <= part < size:
            raise TargetError(f"{text!r}: {name} is {shape_text(shape)}, no index {part} on axis {axis}")
        if isinstance(part, slice) and isinstance(size, int) and not range(size)[part]:
            raise TargetError(f"{text!r}: {name} is {shape_text(shape)}, nothing selected on axis {axis}")
    return Target("cells", value, text, selector=index, reduction=reduction, layer=layer)


def _one_index(part: str, text: str) -> int | slice:
    part = part.strip()
    if re.fullmatch(r"-?\d+", part):
        return int(part)
    if re.fullmatch(r"(-?\d*):(-?\d*)", part):
        first, last = part.split(":")
        return slice(int(first) if first else None, int(last) if last else None)
    raise TargetError(f"{text!r}: {part!r} is no index; expected a number or a range like 2:5 or :")
