"""What to say where a target does not fit a model, and what would, as it is typed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from convlens.classes import Classes
from convlens.errors import TargetError
from convlens.graph.layers import Layer, Layers, shape_text


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
    return list(dict.fromkeys(map(suggestion, usable)))[:count]


def suggestion(layer: Layer) -> str:
    """A text for one value: the strongest cell of a map, the best of many boxes, one of many scores."""
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


def check_rows(name: str, shape: Sequence[int], count: int, alone: bool = False) -> None:
    """Refuse a value that has not one row an image, such as time x batch x classes.

    Args:
        name: ONNX value name, for the message.
        shape: of the value.
        count: how many images went in.
        alone: whether the target reads values whose rows count what was found on a single image.

    Raises:
        TargetError: its first axis is not the batch.
    """
    if alone and count == 1:
        return
    if not shape or shape[0] != count:
        raise TargetError(
            f"{name!r} is {' x '.join(map(str, shape)) or 'one number'} for {count} input"
            f"{'' if count == 1 else 's'}: its first axis is not the batch, so inputs cannot be told apart; "
            "choose a value before its axes are exchanged or boxes are chosen"
        )
