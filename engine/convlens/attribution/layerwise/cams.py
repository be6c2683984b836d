"""Class activation maps: a layer's channels weighed and added up, laid over the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from convlens.attribution.layerwise.layered import made_at
from convlens.attribution.maps import spatial_map
from convlens.errors import LayerError, ParameterError
from convlens.graph.layers import shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.attribution.layerwise.layered import LayeredParameters
    from convlens.graph.layers import Layer
    from convlens.graph.source import Source
    from convlens.registry import Job
    from convlens.results import Result

Weigh: TypeAlias = "Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], dict[str, NDArray[Any]]]]"
"""From a layer's values and the target's gradient there, both N x K x space, to N x space and more."""


def by_channel(value: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """A layer's value as N x channels x its spatial axes; further axes count as channels.

    Raises:
        LayerError: there is one position only.
    """
    rest = [axis for axis in range(1, value.ndim) if axis not in (layer.channel_axis, *layer.spatial_axes)]
    channel = [] if layer.channel_axis is None else [layer.channel_axis]
    space = [value.shape[axis] for axis in layer.spatial_axes]
    if max(space) == 1:
        raise LayerError(
            f"layer {layer.alias!r} is {shape_text(value.shape)} on this input and has one position only; "
            "choose an earlier layer"
        )
    value = value.astype(np.float32) if value.dtype == np.float16 else value  # sums would overflow
    return value.transpose(0, *channel, *rest, *layer.spatial_axes).reshape(len(value), -1, *space)


def by_gradient(
    job: Job[Any], layer: Layer, weigh: Weigh
) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """The map that ``weigh`` makes of the layer and its gradient, the target's scores, what else it gives.

    One batch of values is held at a time.
    """
    from convlens.instrument.gradients import layer_gradients

    assert job.target is not None
    maps, scores, more = [], [], []
    for part in layer_gradients(
        job.model, job.images.array, layer, job.target, "plain", job.batch_size, job.advance
    ):
        found, further = weigh(by_channel(part.value, layer), by_channel(part.gradient, layer))
        maps.append(found)
        scores.append(part.scores)
        more.append(further)
    joined = {name: np.concatenate([each[name] for each in more]) for name in more[0]}
    return np.concatenate(maps), np.concatenate(scores), joined


def grad_cam(values: NDArray[Any], gradient: NDArray[Any]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Equations 1 and 2 of Selvaraju et al. 2017, before the ReLU: weights are mean gradients."""
    weights = gradient.mean(axis=space_of(gradient))
    return weighed(values, weights), {"weights": weights}


def grad_cam_plus_plus(
    values: NDArray[Any], gradient: NDArray[Any]
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Chattopadhay et al. 2018 before the ReLU, with the exponential of the score as the class score.

    There the weights of equation 19, g^2 / (2 g^2 + sum(A) g^3), are 1 / (2 + sum(A) g) where g is
    not zero. They count only where g > 0 (equation 10).
    """
    space = space_of(values)
    below = 2 + values.sum(axis=space, keepdims=True) * gradient
    counts = gradient > 0
    share = np.divide(gradient, below, out=np.zeros_like(gradient), where=counts & (below != 0))
    weights = share.sum(axis=space)
    smallest = np.where(counts, below, np.inf).reshape(len(values), -1).min(axis=1)
    smallest = np.where(np.isfinite(smallest), smallest, np.asarray(2, values.dtype))
    return weighed(values, weights), {"weights": weights, "denominator": smallest}


def layer_cam(values: NDArray[Any], gradient: NDArray[Any]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Equations 5 to 7 of Jiang et al. 2021, before the last ReLU: every place has a weight of its own."""
    return np.asarray((np.maximum(gradient, 0) * values).sum(axis=1)), {}


def eigen_cam(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The layer's places projected on the first right singular vector of places x channels.

    Nothing is subtracted before (Muhammad & Yeasin 2020, section III). The vector's sign is free; it
    is taken so that the projections sum to something positive.

    Returns:
        N x space, and the share of the sum of squares that the component holds, N; NaN where the layer
        holds what is not finite.
    """
    maps, shares = [], []
    for one in values.astype(np.float64):
        flat = one.reshape(len(one), -1).T
        if not np.isfinite(flat).all():
            maps.append(np.full(one.shape[1:], np.nan))
            shares.append(np.float64(np.nan))
            continue
        _, strength, right = np.linalg.svd(flat, full_matrices=False)
        found = flat @ right[0]
        maps.append((-found if found.sum() < 0 else found).reshape(one.shape[1:]))
        total = (strength**2).sum()
        shares.append(strength[0] ** 2 / total if total > 0 else np.float64(1))
    return np.stack(maps), np.stack(shares)


def weighed(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """The sum over channels of N x K x space, by weights N x K."""
    return np.asarray(np.einsum("nk...,nk->n...", values, weights))


def space_of(array: NDArray[Any]) -> tuple[int, ...]:
    """The axes of N x K x space that run over space."""
    return tuple(range(2, array.ndim))


def laid_over(coarse: NDArray[Any], extent: Sequence[int], layer: Layer, place: str) -> NDArray[Any]:
    """A layer's cells over the input, linear between their middles: N x cells to N x ``extent``.

    ``stretch`` spreads the cells evenly from edge to edge, as ``torch.nn.functional.interpolate`` does
    with ``bilinear`` and corners not aligned. ``field`` puts each into the middle of its unit's
    receptive field, which padding moves by up to half a cell. In trained networks with padding, what a
    unit reacts to lies nearer to the stretched place, for nothing is to be seen in the padding; without
    padding the cells do not reach the edges, and ``field`` is exact.

    Raises:
        ParameterError: ``field``, and the layer's units see all of the input.
    """
    found = coarse
    for axis, length in enumerate(extent):
        found = np.moveaxis(
            np.moveaxis(found, axis + 1, -1)
            @ between(middles(layer, axis, coarse.shape[axis + 1], length, place), length).T.astype(
                coarse.dtype
            ),
            -1,
            axis + 1,
        )
    return np.ascontiguousarray(found)


def middles(layer: Layer, axis: int, cells: int, length: int, place: str) -> NDArray[Any]:
    """Where the middles of a layer's cells lie along one axis of the input, in pixels from its first."""
    if place == "stretch":
        return (np.arange(cells) + 0.5) * (length / cells) - 0.5
    field = layer.field
    size = field.size[axis] if field is not None else None
    if field is None or size is None or field.stride[axis] <= 0:
        raise ParameterError(
            f"place is 'field', and what single units of {layer.alias!r} see is not known; expected 'stretch'"
        )
    return field.offset[axis] + (size - 1) / 2 + field.stride[axis] * np.arange(cells)


def between(places: NDArray[Any], length: int) -> NDArray[Any]:
    """Weights (length x cells) that read cells at ``places`` linearly; beyond the ends the end itself."""
    cells = len(places)
    if cells == 1:
        return np.ones((length, 1))
    step = places[1] - places[0]
    at = np.clip((np.arange(length) - places[0]) / step, 0, cells - 1)
    low = np.minimum(np.floor(at).astype(int), cells - 2)
    found = np.zeros((length, cells))
    rows = np.arange(length)
    found[rows, low] = 1 - (at - low)
    found[rows, low + 1] = at - low
    return found


def cam_map(
    job: Job[Any],
    method: str,
    layer: Layer,
    signed: NDArray[Any],
    arrays: Mapping[str, NDArray[Any]],
    units: Mapping[str, str],
    *,
    title: str,
    unit: str,
    rows: Sequence[Mapping[str, Any]] = (),
    how: Mapping[str, Any] | None = None,
) -> Result:
    """The Result of a class activation map: ``map`` (main), ``coarse``, ``signed`` and ``arrays``.

    Args:
        job: what was asked for.
        method: its name.
        layer: where the map was made.
        signed: N x the layer's spatial axes, before what speaks against the target is left out.
        arrays: further arrays, images first, with ``units``.
        units: of each.
        title: what it is called.
        unit: of the map.
        rows: further columns of the table, one mapping an image.
        how: further facts of how it was made.
    """
    given: LayeredParameters = job.parameters
    coarse = signed if given.signed else np.maximum(signed, 0)
    full = over_input(job, layer, coarse)
    cells = " x ".join(map(str, coarse.shape[1:]))
    own = rows or [{}] * len(coarse)
    return spatial_map(
        job,
        method,
        "map",
        {"map": full, "coarse": coarse, "signed": signed, **arrays},
        {"map": unit, "coarse": unit, "signed": unit, **units},
        title=f"{title} at {layer.alias}",
        label=f"{title} at {layer.alias}, {cells} cells",
        signed=given.signed,
        rows=[
            {
                "layer": layer.alias,
                "largest": float(one.max()),
                "smallest": float(one.min()),
                **own[index],
            }
            for index, one in enumerate(signed)
        ],
        hints={"layer": layer.alias},
        how={**made_at(job.model, layer, coarse.shape[1:]), **(how or {})},
    )


def over_input(job: Job[Any], layer: Layer, coarse: NDArray[Any]) -> NDArray[Any]:
    """``coarse`` over the job's inputs, N x :attr:`Source.axes`."""
    extent = [job.images.array.shape[axis] for axis in job.model.source.axes]
    return laid_over(coarse, extent, layer, job.parameters.place)


def beside(full: NDArray[Any], array: NDArray[Any], given: NDArray[Any], source: Source) -> NDArray[Any]:
    """One number a position, N x :attr:`Source.axes`, shaped so that it multiplies ``array``.

    ``array`` has the shape of the inputs ``given``, or one vector for each of their numbers.
    """
    shape = [length if axis in (0, *source.axes) else 1 for axis, length in enumerate(given.shape)]
    order = np.argsort(source.axes)
    placed = full.transpose(0, *(1 + order)).reshape(shape)
    return placed.reshape(*shape, *[1] * (array.ndim - given.ndim))
