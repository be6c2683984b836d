"""Targets: what is being explained, as a person types it and as a number per image.

======================= =====================================================================
``281``, ``tiger cat``  class of the class output, by index or label
``conv5_3:43``          mean of channel 43 of a layer (its alias or its ONNX value name)
``conv5_3:43@7,7``      the neuron of that channel at row 7, column 7
``conv5_3``             the whole layer: its L2 norm
``output1[0,4,:].max``  cells of any output or layer, reduced by max, min, mean, sum or norm
======================= =====================================================================

In a selector the batch axis may be left out; where it is written, it is ``0`` or ``:`` and means the
image at hand. Nothing at all means the class that the model predicts, image by image.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from convlens.classes import Classes
from convlens.errors import LayerError, TargetError, nearest
from convlens.graph.graph import Graph
from convlens.graph.layers import Layer, Layers, shape_text

Spec: TypeAlias = "int | str | Target | Callable[[Any], Any] | None"

_REDUCTIONS = ("max", "min", "mean", "sum", "norm")
_SELECTOR = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<index>[^\]]*)\](\.(?P<how>\w+))?$")
_CHANNEL = re.compile(r"^(?P<name>.+):(?P<channel>-?\d+)(@(?P<at>[\d,\s-]+))?$")


@dataclass(frozen=True)
class Target:
    """One thing to explain, resolved on a model.

    Attributes:
        kind: ``class``, ``predicted``, ``channel``, ``neuron``, ``layer``, ``cells`` or ``callable``.
        value: ONNX value name that it reads, empty for a callable (which gets all outputs).
        text: for people.
        index: class or channel index; for ``predicted`` one a image once it is known.
        position: of a neuron, one number a spatial axis.
        selector: indices after the batch axis, for ``cells``.
        reduction: how cells become one number.
        each: for ``predicted``, what it is on each image.
        layer: the layer it lies in, where it lies in one.
        function: the callable.
    """

    kind: str
    value: str
    text: str
    index: int | tuple[int, ...] | None = None
    position: tuple[int, ...] = ()
    selector: tuple[int | slice, ...] = ()
    reduction: str = "sum"
    each: tuple[str, ...] = ()
    layer: Layer | None = None
    function: Callable[[Any], Any] | None = None

    def rows(self, start: int, stop: int) -> Target:
        """The same target for images ``start`` to ``stop`` of the batch."""
        if isinstance(self.index, tuple):
            return replace(self, index=self.index[start:stop])
        return self

    def take(self, rows: Sequence[int]) -> Target:
        """The same target for a batch made of ``rows`` of this one's images, in that order."""
        if isinstance(self.index, tuple):
            return replace(self, index=tuple(self.index[row] for row in rows))
        return self

    def of(self, image: int) -> Target:
        """The same target for one image of the batch, whatever the number of its copies."""
        return replace(self, index=self.index[image]) if isinstance(self.index, tuple) else self

    def words(self, image: int) -> str:
        """What is explained on one image of the batch, for people."""
        return self.each[image] if self.each else self.text

    def needs(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """The ONNX values that :meth:`score` reads."""
        return (self.value,) if self.value else tuple(outputs)

    def score(self, values: Mapping[str, Any]) -> Any:
        """One number per image, shape N, from numpy arrays or torch tensors by ONNX value name."""
        if self.kind == "callable":
            assert self.function is not None
            given = tuple(values.values())
            found = self.function(given[0] if len(given) == 1 else given)
            return found.reshape(-1) if found.ndim != 1 else found
        value = values[self.value]
        flat = value.reshape(len(value), -1)
        if self.kind in ("class", "predicted"):
            if isinstance(self.index, tuple):
                return flat[range(len(self.index)), self.index]
            return flat[:, self.index]
        if self.kind == "layer":
            # the smallest normal number keeps the root's slope finite for a layer that is silent
            return ((flat * flat).sum(axis=1) + 1e-37) ** 0.5
        if self.kind in ("channel", "neuron"):
            assert self.layer is not None
            axis = self.layer.channel_axis
            picked: list[Any] = [slice(None)] * value.ndim
            assert axis is not None
            picked[axis] = self.index
            for place, number in zip(self.layer.spatial_axes, self.position, strict=False):
                picked[place] = number
            part = value[tuple(picked)]
            return part.reshape(len(value), -1).mean(axis=1)
        cells = value[(slice(None), *self.selector)].reshape(len(value), -1)
        if self.reduction == "norm":
            return ((cells * cells).sum(axis=1) + 1e-37) ** 0.5
        if self.reduction in ("max", "min"):
            best = cells.argmax(axis=1) if self.reduction == "max" else cells.argmin(axis=1)
            return cells[range(len(cells)), best]
        return cells.mean(axis=1) if self.reduction == "mean" else cells.sum(axis=1)


def resolve(spec: Spec, graph: Graph, layers: Layers, classes: Classes | None) -> Target:
    """A target on one model, from what a person typed or a program passed.

    Raises:
        TargetError: there is no such class, label or output, or the text could mean two things.
        LayerError: there is no such layer, channel or position.
    """
    if isinstance(spec, Target):
        return spec
    if callable(spec):
        return Target("callable", "", getattr(spec, "__name__", "function"), function=spec)
    if spec is None:
        known = need_classes(classes, layers, "no target given and", graph.outputs)
        return Target("predicted", known.logits, "the predicted class")
    if not isinstance(spec, (int, np.integer, str)):
        raise TargetError(f"{spec!r} is no target; expected a class index, a text, a Target or a function")
    if isinstance(spec, (int, np.integer)) or re.fullmatch(r"-?\d+", spec.strip()):
        lead = f"class {spec} asked for, but"
        return _by_index(int(spec), need_classes(classes, layers, lead, graph.outputs))
    assert isinstance(spec, str)
    text = spec.strip().strip("\"'")
    labelled = _by_label(text, classes)
    layer = layers.get(text)
    if labelled is not None and layer is not None:
        raise TargetError(
            f"{text!r} is both a class and a layer; type the class's index or the ONNX name {layer.name!r}"
        )
    if labelled is not None:
        return labelled
    if layer is not None:
        return Target("layer", layer.name, f"layer {layer.alias}", layer=layer)
    if match := _SELECTOR.match(text):
        return _by_selector(match, graph, layers, text)
    if match := _CHANNEL.match(text):
        return _by_channel(match, layers, text)
    labels = classes.labels if classes is not None else None
    options = [*(name for names in labels or () for name in names), *(layer.alias for layer in layers)]
    what = "class or layer" if labels else "layer (and no labels are known)"
    raise TargetError(f"no {what} called {text!r}{nearest(text, options)}")


def need_classes(classes: Classes | None, layers: Layers, lead: str, outputs: Sequence[str] = ()) -> Classes:
    """The class output of a model that must have one.

    Raises:
        TargetError: it has none; ``lead`` says what for, and the message what to name instead.
    """
    if classes is None:
        ends = [layer for layer in map(layers.get, outputs) if layer is not None] or [layers[-1]]
        shapes = ", ".join(f"{layer.alias!r} is {shape_text(layer.shape)}" for layer in ends[:3])
        texts = " or ".join(map(shlex.quote, suggestions(layers, outputs)))
        raise TargetError(
            f"{lead} the model has no class scores (output {shapes}); what takes a target can explain "
            f"something else, e.g. --target {texts}"
        )
    return classes


def suggestions(layers: Layers, outputs: Sequence[str], count: int = 3) -> list[str]:
    """Targets that fit this model, as they are typed: cells of its outputs, by their shapes."""
    ends = [layer for layer in map(layers.get, outputs) if layer is not None] or [layers[-1]]
    first = layers[0].shape
    rows = first[0] if first else None
    usable = [layer for layer in ends if layer.shape and layer.shape[0] == rows]  # one row an input
    if not usable:
        known = [layer for layer in layers if layer.channels and layer.shape and layer.shape[0] == rows]
        weighted = [layer for layer in known if layer.kind in ("conv", "dense")]
        return [f"{(weighted or known or ends)[-1].alias}:0"]
    return list(dict.fromkeys(map(_suggestion, usable)))[:count]


def _suggestion(layer: Layer) -> str:
    """A text for one output: the strongest cell of a map, the best of many boxes, one of many scores."""
    shape = layer.shape or ()
    middle = [dim // 2 if isinstance(dim, int) else 0 for dim in shape]
    if len(shape) >= 4:  # maps: heat, segments, planes
        return f"{layer.alias}[0,{min(1, 2 * middle[1])}].max"
    if len(shape) == 3:  # boxes or a sequence: the numbers of each along the shorter axis
        known = [dim if isinstance(dim, int) else 1 << 30 for dim in shape]
        place = 4 if min(known[1:]) > 4 else 0
        return f"{layer.alias}[0,:,{place}].max" if known[2] <= known[1] else f"{layer.alias}[0,{place}].max"
    if len(shape) == 2:
        return f"{layer.alias}[0,{middle[1]}]"
    return layer.alias


def check_rows(name: str, shape: Sequence[int], count: int) -> None:
    """Refuse a value that has not one row an image, such as time x batch x classes.

    Raises:
        TargetError: its first axis is not the batch.
    """
    if not shape or shape[0] != count:
        raise TargetError(
            f"{name!r} is {' x '.join(map(str, shape)) or 'one number'} for {count} input"
            f"{'' if count == 1 else 's'}: its first axis is not the batch, so inputs cannot be told apart; "
            "choose a value before its axes are exchanged"
        )


def _by_index(index: int, classes: Classes) -> Target:
    if not 0 <= index < classes.count:
        raise TargetError(f"no class {index}; the model has classes 0 to {classes.count - 1}")
    label = f" ({classes.label(index)})" if classes.labels else ""
    return Target("class", classes.logits, f"class {index}{label}", index=index)


def _by_label(text: str, classes: Classes | None) -> Target | None:
    if classes is None or classes.labels is None:
        return None
    wanted = text.lower()
    hits = [i for i, names in enumerate(classes.labels) if names[0].lower() == wanted]
    if not hits:
        hits = [i for i, names in enumerate(classes.labels) if wanted in map(str.lower, names)]
    if len(hits) > 1:
        raise TargetError(f"{text!r} is the name of classes {', '.join(map(str, hits))}; type the index")
    return _by_index(hits[0], classes) if hits else None


def _by_channel(match: re.Match[str], layers: Layers, text: str) -> Target:
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


def _by_selector(match: re.Match[str], graph: Graph, layers: Layers, text: str) -> Target:
    name = match["name"]
    layer = layers.get(name)
    value = layer.name if layer else name
    if layer is None and name not in graph.outputs:
        known = [*graph.outputs, *(layer.alias for layer in layers)]
        raise TargetError(f"no output or layer {name!r}{nearest(name, known)}")
    reduction = match["how"] or "sum"
    if reduction not in _REDUCTIONS:
        raise TargetError(f"no reduction .{reduction}; known: {', '.join('.' + r for r in _REDUCTIONS)}")
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
