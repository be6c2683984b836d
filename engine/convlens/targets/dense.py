"""Outputs with one map a class: what segmenters give, and keypoint nets; a class over a region of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.classes import before_softmax
from convlens.errors import TargetError
from convlens.targets.places import Place, cell_at, cells_in, centres, check_inside, connected
from convlens.targets.target import Pick, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph, Shape
    from convlens.graph.layers import Layer, Layers, ReceptiveField
    from convlens.graph.source import Source

Labels = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Dense:
    """A value with one map a class (or channel).

    Attributes:
        value: what a target reads: the scores before a last softmax or sigmoid.
        seen: what tells the predicted class: the output itself.
        alias: for people.
        channel: axis of the classes.
        spatial: axes that run over the input, in its order.
        count: how many classes, None where the file leaves it open.
        last: the last operator where it is ``Softmax`` or ``Sigmoid``.
        field: receptive field of a cell, None where it is not known.
        labels: names of the classes, where they are as many.
    """

    value: str
    seen: str
    alias: str
    channel: int
    spatial: tuple[int, ...]
    count: int | None
    last: str | None = None
    field: ReceptiveField | None = None
    labels: Labels | None = None

    def name(self, index: int) -> str:
        """A class for people."""
        if self.labels is not None and index < len(self.labels):
            return f"class {index} ({self.labels[index][0]})"
        return f"class {index}"

    def find(self, text: str) -> int | None:
        """The class of that index or label, None where it is neither.

        Raises:
            TargetError: there is no such index, or several classes have the label.
        """
        if text.isdecimal():
            index = int(text)
            if self.count is not None and index >= self.count:
                raise TargetError(f"no class {index}; {self.alias} has classes 0 to {self.count - 1}")
            return index
        return find_label(text, self.labels)


def find_label(text: str, labels: Labels | None) -> int | None:
    """The class of that name or synonym, None where there is none.

    Raises:
        TargetError: several classes have it.
    """
    wanted = text.lower()
    hits = [i for i, names in enumerate(labels or ()) if names[0].lower() == wanted]
    hits = hits or [i for i, names in enumerate(labels or ()) if wanted in map(str.lower, names)]
    if len(hits) > 1:
        raise TargetError(f"{text!r} is the name of classes {', '.join(map(str, hits))}; type the index")
    return hits[0] if hits else None


def dense_of(
    graph: Graph, layers: Layers, source: Source, name: str, labels: Labels | None = None
) -> Dense | None:
    """The value ``name`` as maps of classes, None where it has not that shape.

    The index of the largest class, in which many files of segmenters end, leads to the maps that it is
    taken of.
    """
    node = graph.producers.get(name)
    kept = name
    while node is not None and node.op in ("ArgMax", "Cast", "Squeeze", "Identity"):
        if graph.value(name).floating and node.op != "ArgMax":
            break
        if node.op == "ArgMax":
            kept = node.inputs[0]
            break
        name, node = node.inputs[0], graph.producers.get(node.inputs[0])
    layer = layers.get(kept)
    shape = graph.value(kept).shape
    rank = len(source.spatial) + 2
    if not source.spatial or shape is None or len(shape) != rank or layer is None:
        return None
    channel = _channel(layer, shape, source, labels)
    count = shape[channel]
    logits, last = before_softmax(graph, kept)
    value = logits if alike(graph.value(logits).shape, shape) else kept
    known = count if isinstance(count, int) else None
    spatial = tuple(axis for axis in range(1, rank) if axis != channel)
    fits = labels is not None and known in (None, len(labels))
    return Dense(
        value, kept, layer.alias, channel, spatial, known, last, layer.field, labels if fits else None
    )


def alike(one: Shape, other: Shape) -> bool:
    """Whether two shapes can be the same."""
    if one is None or other is None or len(one) != len(other):
        return False
    pairs = zip(one[1:], other[1:], strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _channel(layer: Layer, shape: Sequence[Any], source: Source, labels: Labels | None) -> int:
    """Which axis counts the classes: told from the graph, else from its length, else as in the input."""
    end = len(shape) - 1
    if len(layer.spatial_axes) == len(source.spatial):
        return next(axis for axis in range(1, len(shape)) if axis not in layer.spatial_axes)
    usual = end if source.channel == end else 1
    if labels is not None and (shape[1] == len(labels)) != (shape[end] == len(labels)):
        return 1 if shape[1] == len(labels) else end
    if isinstance(shape[1], int) and isinstance(shape[end], int):
        return usual if shape[1] == shape[end] else (1 if shape[1] < shape[end] else end)
    if isinstance(shape[1], int):
        return 1
    return end if isinstance(shape[end], int) else usual


def dense_outputs(graph: Graph, layers: Layers, source: Source, labels: Labels | None = None) -> list[Dense]:
    """The outputs with one map a class; those with as many classes as there are labels where some have."""
    found = [dense_of(graph, layers, source, name, labels) for name in graph.outputs]
    dense = [one for one in found if one is not None]
    unique = list({one.seen: one for one in dense}.values())
    return [one for one in unique if one.labels is not None] or unique


@dataclass(frozen=True)
class Region:
    """How a class over a region is settled on an image.

    Attributes:
        dense: the maps.
        place: where.
        index: the class, None for the one that is predicted at a point.
        channel: whether the maps are a layer's channels and no classes.
    """

    dense: Dense
    place: Place
    index: int | None
    channel: bool = False

    alone = False
    shares = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The maps, and what tells the predicted class."""
        return tuple(dict.fromkeys((self.dense.value, self.dense.seen)))

    def score(self, values: Mapping[str, Any], picks: Sequence[Pick]) -> Any:
        """Not asked for: the cells are read by the target itself."""
        raise NotImplementedError

    def pick(self, values: Mapping[str, NDArray[Any]], extent: tuple[int, ...]) -> Pick:
        """The cells of the region on one image."""
        dense, place = self.dense, self.place
        seen = np.moveaxis(values[dense.seen][0], dense.channel - 1, 0)
        shape = values[dense.value].shape
        if values[dense.seen].shape != shape:
            raise TargetError(f"{dense.alias} changes its shape before its end; name the layer before it")
        if self.index is not None and self.index >= len(seen):
            raise TargetError(f"no class {self.index}; {dense.alias} has classes 0 to {len(seen) - 1}")
        check_inside(place, extent)
        middles = [
            centres(cells, pixels, dense.field, axis)
            for axis, (cells, pixels) in enumerate(zip(seen.shape[1:], extent, strict=True))
        ]
        index = self.index
        if index is None:
            index = self._class_at(seen, cell_at(place, middles))
        mask = self._mask(seen, index, middles)
        cells = self._flat(mask, index, shape)
        what = f"channel {index} of {dense.alias}" if self.channel else dense.name(index)
        record: dict[str, Any] = {"class": index, "cells": len(cells), "of": int(mask.size)}
        if dense.labels is not None:
            record["label"] = dense.labels[index][0]
        where = self._where(mask, middles)
        if place.kind == "peak":
            record["at"] = [
                float(middle[at[0]]) for middle, at in zip(middles, np.nonzero(mask), strict=True)
            ]
        return Pick(f"{what} {where}".strip(), cells, record, index)

    def _mask(
        self, seen: NDArray[Any], index: int, middles: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.bool_]:
        """Which cells count."""
        place = self.place
        mask = np.zeros(seen.shape[1:], bool)
        if place.kind == "all":
            mask[...] = True
        elif place.kind == "box":
            mask[cells_in(place, middles)] = True
        elif place.kind == "peak":
            mask[np.unravel_index(int(seen[index].argmax()), mask.shape)] = True
        else:
            mask = self._predicted(seen, index)
            if place.kind == "point":
                mask = self._segment_at(seen, index, mask, cell_at(place, middles))
            elif not mask.any():
                raise TargetError(
                    f"no cell of {self.dense.alias} is predicted as {self.dense.name(index)}; predicted "
                    f"are {self._shares(seen)}"
                )
        return mask

    def _predicted(self, seen: NDArray[Any], index: int) -> NDArray[np.bool_]:
        """Where a class is the predicted one: the largest, or above one half where each is yes or no."""
        if self.dense.last == "Sigmoid" or len(seen) == 1:
            probable = self.dense.last == "Sigmoid" or (seen.min() >= 0 and seen.max() <= 1)
            above: NDArray[np.bool_] = seen[index] > (0.5 if probable else 0)
            return above
        best: NDArray[np.bool_] = seen.argmax(axis=0) == index
        return best

    def _class_at(self, seen: NDArray[Any], cell: tuple[int, ...]) -> int:
        """The class that is predicted at a cell."""
        index = _best_at(seen, cell)
        if not self._predicted(seen, index)[cell]:
            raise TargetError(
                f"@{self.place.text}: nothing is predicted there; predicted are {self._shares(seen)}"
            )
        return index

    def _segment_at(
        self, seen: NDArray[Any], index: int, mask: NDArray[np.bool_], cell: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        if not mask[cell]:
            there = _best_at(seen, cell)
            found = self.dense.name(there) if there != index else "nothing"
            raise TargetError(
                f"@{self.place.text}: {found} is predicted there, not {self.dense.name(index)}; leave the "
                "class out for what lies there, or choose another point"
            )
        return connected(mask, cell)

    def _shares(self, seen: NDArray[Any]) -> str:
        """The predicted classes by the share of cells that they take."""
        shares = [float(self._predicted(seen, i).mean()) for i in range(len(seen))]
        order = [i for i in np.argsort(shares)[::-1] if shares[i] > 0][:4]
        return ", ".join(f"{self.dense.name(i)} on {shares[i]:.0%}" for i in order) or "none"

    def _flat(self, mask: NDArray[np.bool_], index: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The cells of ``mask`` in the map of the class, as places in the image's row of the value."""
        at = list(np.nonzero(mask))
        at.insert(self.dense.channel - 1, np.full(len(at[0]), index))
        return np.ravel_multi_index(tuple(at), shape[1:]).astype(np.int64)

    def _where(self, mask: NDArray[np.bool_], middles: Sequence[NDArray[np.float64]]) -> str:
        """The place for people."""
        share = f"{int(mask.sum())} of {mask.size} cells"
        if self.place.kind == "all":
            return "over the whole picture"
        if self.place.kind == "peak":
            at = [middle[cells[0]] for middle, cells in zip(middles, np.nonzero(mask), strict=True)]
            return "at its peak, " + ",".join(f"{round(float(a), 1):g}" for a in at)
        if self.place.kind == "box":
            return f"over {self.place.text} ({share})"
        at_point = f" at {self.place.text}" if self.place.kind == "point" else ""
        return f"over its segment{at_point} ({share})"


def _best_at(seen: NDArray[Any], cell: tuple[int, ...]) -> int:
    """The class with the largest score at a cell."""
    return int(np.argmax([maps[cell] for maps in seen]))


def region(
    dense: Dense, index: int | None, place: Place, layer: Layer | None, channel: bool = False
) -> Target:
    """The target: the mean score of a class over the cells of a place."""
    if index is None and place.kind != "point":
        raise TargetError(f"@{place.text}: of which class? expected CLASS@{place.text}")
    if place.kind == "number":
        raise TargetError(f"@{place.text}: {dense.alias} holds maps and no boxes")
    what = "what is predicted" if index is None else dense.name(index)
    if channel:
        what = f"channel {index} of {dense.alias}"
    where = {"all": "over the whole picture", "peak": "at its peak", "segment": "over its segment"}
    text = f"{what} {where.get(place.kind, f'at {place.text}')}"
    look = Region(dense, place, index, channel)
    return Target("picked", dense.value, text, reduction="mean", layer=layer, look=look)


def channel_maps(layer: Layer, source: Source) -> Dense | None:
    """Any layer whose units have a place on the input, as maps of its channels."""
    if layer.channel_axis is None or len(layer.spatial_axes) != len(source.spatial) or not source.spatial:
        return None
    return Dense(
        layer.name,
        layer.name,
        layer.alias,
        layer.channel_axis,
        layer.spatial_axes,
        layer.channels,
        field=layer.field,
    )
