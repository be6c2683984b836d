"""Single units projected back to the input (Zeiler & Fergus 2014, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.attribution.layerwise.units import before_rectifier, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.instrument.session import Session
    from convlens.model import Model


def projected(
    model: Model,
    array: NDArray[Any],
    layer: Layer,
    channel: NDArray[Any],
    place: NDArray[Any],
    activation: NDArray[Any],
    rule: str,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
    prepare: Callable[[Session], None] = lambda _session: None,
    images: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """What arrives at the input from one unit a row, everything else in its layer set to zero.

    Each unit sends its own activation. Behind a rectifier it starts before it, so that the slope of one
    that saturates does not stop the signal where it begins.

    Args:
        model: the model.
        array: inputs, one for each unit, or as ``images`` says.
        layer: where the units lie.
        channel: of each unit.
        place: of each unit along the layer's axes but batch and channels, units x axes.
        activation: of each unit.
        rule: ``deconvnet``, ``guided`` or ``plain``.
        batch_size: images in one forward and backward.
        advance: called with the share that is done.
        prepare: called with each batch's session before it runs.
        images: which input each unit is of; one goes forward once for all of its units.

    Returns:
        Signals, units x the shape of an input; of tokens at their embedding.
    """
    from convlens.instrument.gradients import unit_gradients

    start, rows = before_rectifier(model, layer), unit_rows(layer, channel, place)
    signal = unit_gradients(model, array, start, rows, rule, batch_size, advance, prepare, images)
    strength = activation.reshape(-1, *[1] * (signal.ndim - 1)).astype(signal.dtype)
    return np.asarray(signal * strength)


def together(boxes: NDArray[Any], image: NDArray[Any], layer: Layer) -> list[list[int]]:
    """Units that can be projected back in one backward each, since no two see the same part of one image.

    Whatever lies on the way of two of them to the input would be seen by both. Where it is not known exactly
    what they see, each is by itself.

    Args:
        boxes: what each unit sees, units x 4 or 6 as :func:`convlens.attribution.layerwise.units.seen`
            writes it.
        image: the image of each unit.
        layer: where they lie.

    Returns:
        Lists of units; those of one list are of one image.
    """
    found: list[list[int]] = []
    known = layer.field is not None and layer.field.exact and None not in layer.field.size
    half = boxes.shape[1] // 2
    for unit, box in enumerate(boxes):
        for others in found if known else ():
            of = boxes[others]
            meets = (of[:, :half] < box[half:]) & (box[:half] < of[:, half:])
            if image[others[0]] == image[unit] and not meets.all(axis=1).any():
                others.append(unit)
                break
        else:
            found.append([unit])
    return found


def projected_together(
    model: Model,
    array: NDArray[Any],
    layer: Layer,
    units: Sequence[NDArray[Any]],
    rule: str,
    batch_size: int,
    images: Sequence[int] | None = None,
) -> NDArray[Any]:
    """What arrives at the input from several units a row, each sending 1.

    Args:
        model: the model.
        array: inputs, one a row, or as ``images`` says.
        layer: where the units lie.
        units: of each row, as :func:`convlens.attribution.layerwise.units.unit_rows` writes them.
        rule: ``deconvnet``, ``guided`` or ``plain``.
        batch_size: images in one forward and backward.
        images: which input each row is of; one goes forward once for all of its rows.
    """
    from convlens.instrument.gradients import unit_gradients

    rows = np.full((len(units), max(map(len, units)), units[0].shape[1]), -1, np.int64)
    for row, own in zip(rows, units, strict=True):
        row[: len(own)] = own
    start = before_rectifier(model, layer)
    return unit_gradients(model, array, start, rows, rule, batch_size, images=images)


def switches(model: Model, layer: Layer) -> int:
    """How many max poolings the layer is computed through."""
    needed = model.graph.ancestors([layer.name])
    return sum(node.op == "MaxPool" and node.outputs[0] in needed for node in model.graph.nodes)


def without_switches(layer: str) -> tuple[str, str]:
    """What to say of reconstructions from a layer before which no max pooling lies, and the evidence."""
    text = (
        f"No max pooling lies before {layer}, so nothing remembers where things were: the "
        "reconstructions show the net's filters and hardly the images."
    )
    return text, "operators up to the layer: 0 MaxPool"
