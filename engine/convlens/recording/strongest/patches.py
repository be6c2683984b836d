"""The strongest places of a recording as patches: read again, checked, cut out and projected back.

What is kept are patches, never whole images, so memory is bounded by a batch and by what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.attribution.layerwise.projected import projected_together, together
from convlens.attribution.layerwise.units import framed, seen, unit_rows
from convlens.errors import LayerError, UnsupportedError, UsageError
from convlens.recording.seen import unpacked
from convlens.recording.strongest.cutting import cut, looks, spans, stacked

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.registry import Images

At: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64]]"
"""Some places, by channel and rank."""

NONE = -1
"""The image of a place that there is not."""

GREY = 238
"""What stands in a photo's patch outside of the photo: paper, as around pictures."""

_MOST = 2**31  # bytes of patches of one layer

_SAME = 1e-3
"""Of a layer's largest activation: by what two runs of one image may differ, batches and threads apart."""


@dataclass
class Places:
    """Channels of one layer, the strongest places of each, and what is found there.

    Attributes:
        layer: where they lie.
        most: its largest recorded activation.
        channel: their numbers, C.
        image: number of each place's image in the data set, C x top, -1 where there is none.
        place: position, as :func:`convlens.recording.seen.packed` writes it.
        value: the recorded activation, 0 where there is no place.
        again: the activation of the image that was read again, likewise.
        position: index along the layer's axes but batch and channels, C x top x axes.
        boxes: the part of the input that the unit sees, C x top x 4 or 6.
        windows: the same, not cut where it reaches over the edge.
        patches: what lies in the windows, C x top x ...; of photos height x width x colours of 8 bits.
        signals: what each unit sends back to its window, None without reconstructions.
    """

    layer: Layer
    most: float
    channel: NDArray[np.int64]
    image: NDArray[np.int64]
    place: NDArray[np.int64]
    value: NDArray[np.float64]
    again: NDArray[np.float64] = field(init=False)
    position: NDArray[np.int64] = field(init=False)
    boxes: NDArray[np.int64] = field(init=False)
    windows: NDArray[np.int64] = field(init=False)
    patches: NDArray[Any] = field(init=False)
    signals: NDArray[Any] | None = None

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Where the image that was read again does not give the recorded activation, C x top."""
        return np.asarray(~(np.abs(self.again - self.value) <= _SAME * self.most))


def places(recording: Recording, number: int, layer: Layer, channels: NDArray[np.int64], top: int) -> Places:
    """The ``top`` strongest places of some channels of a recorded layer that are above zero."""
    held, own = recording.strongest[number], channels
    value, image, place = (each[own, :top] for each in (held.value, held.image, held.place))
    fires = (image >= 0) & (value > 0)
    most = float(held.value[np.isfinite(held.value)].max(initial=0.0))
    return Places(
        layer,
        most,
        own,
        np.where(fires, image, NONE),
        np.where(fires, place, 0),
        np.where(fires, value, 0.0),
    )


def cut_out(
    model: Model,
    recording: Recording,
    found: Sequence[Places],
    rule: str | None,
    batch_size: int,
    advance: Callable[[float], None] = lambda _share: None,
) -> dict[int, str]:
    """Fill in what the images of the data set hold at the places; returns the images' names by number.

    Args:
        model: the model that was recorded.
        recording: where the images come from.
        found: the places.
        rule: of the reconstructions, None for none.
        batch_size: images that are held at once, and rows of a forward and backward.
        advance: called with the share that is done.

    Raises:
        UsageError: the data set is gone, or the patches need too much memory.
        ImageError: an image cannot be read any more.
    """
    numbers = sorted({number for one in found for number in np.unique(one.image).tolist()} - {NONE})
    units = sum(int((one.image != NONE).sum()) for one in found) if rule is not None else 0
    cuts, done = [_Cuts(model, one, rule is not None) for one in found], 0
    names: dict[int, str] = {}
    for own, batch in _batches(model, recording, numbers, batch_size):
        here = [(each, np.nonzero(np.isin(each.to.image, own))) for each in cuts]
        here = [(each, at) for each, at in here if len(at[0])]
        needed = list(dict.fromkeys(each.to.layer.name for each, _ in here))
        values = model.runner.run({model.source.name: batch.array}, needed, batch_size)
        names |= zip(own, batch.names, strict=True)
        shown = looks(model, batch)
        done += len(own)
        advance(done / (len(numbers) + units))
        for each, (channel, rank) in here:
            rows = np.searchsorted(own, each.to.image[channel, rank])
            each.look((channel, rank), rows, values[each.to.layer.name], batch.array, shown)
            for part in each.groups((channel, rank), rows, batch_size) if rule is not None else ():
                each.project((channel, rank), part, batch.array, rows, str(rule), batch_size)
                done += sum(map(len, part))
                advance(done / (len(numbers) + units))
    for each in cuts:
        each.end()
    advance(1.0)
    return names


class _Cuts:
    """The patches of one layer, as they are cut out."""

    def __init__(self, model: Model, to: Places, reconstructs: bool) -> None:
        self.model, self.to, self.reconstructs = model, to, reconstructs
        self.axes = [axis - 1 for axis in model.source.axes]
        self.fill = GREY if model.source.image else 0
        self.patches: dict[tuple[int, int], NDArray[Any]] = {}
        self.signals: dict[tuple[int, int], NDArray[Any]] = {}
        shape, corners = to.image.shape, 2 * max(2, len(self.axes))
        to.again, to.position = np.zeros(shape), np.zeros((*shape, 0), np.int64)
        to.boxes, to.windows = (np.zeros((*shape, corners), np.int64) for _ in range(2))

    def look(
        self, at: At, rows: NDArray[Any], value: NDArray[Any], array: NDArray[Any], shown: NDArray[Any]
    ) -> None:
        """Take places in.

        Args:
            at: the places.
            rows: which image of the batch each lies in.
            value: of the layer.
            array: the batch, as the model takes it.
            shown: the same, as people look at it.
        """
        to, layer = self.to, self.to.layer
        if len(value) != len(array):
            raise LayerError(
                f"layer {layer.alias!r} has {len(value)} rows for {len(array)} images; expected one an image"
            )
        value = np.moveaxis(value, layer.channel_axis or 1, 1)
        axes = unpacked(to.place[at], value.ndim - 2)
        if not self.patches:
            to.position = np.zeros((*to.image.shape, len(axes)), np.int64)
        held = [np.minimum(each, size - 1) for each, size in zip(axes, value.shape[2:], strict=True)]
        to.again[at] = value[(rows, to.channel[at[0]], *held)]
        to.position[at] = np.stack(axes, axis=-1) if axes else 0
        extent = [array.shape[axis + 1] for axis in self.axes]
        cut_along = [0, 1] if self.model.source.image else self.axes
        for c, k, row in zip(*(each.tolist() for each in (*at, rows)), strict=True):
            place = to.position[c, k].tolist()
            to.boxes[c, k], to.windows[c, k] = seen(layer, place, extent), framed(layer, place, extent)
            patch = cut(shown[row], cut_along, spans(to.windows[c, k], len(extent)), self.fill)
            if not self.patches:
                self._bounded(patch)
            self.patches[c, k] = patch

    def groups(self, at: At, rows: NDArray[Any], batch_size: int) -> Iterator[list[list[int]]]:
        """Which of some places are projected back in one backward, a batch of backwards after the other."""
        found = together(self.to.boxes[at], rows, self.to.layer)
        for start in range(0, len(found), batch_size):
            yield found[start : start + batch_size]

    def project(
        self,
        at: At,
        groups: Sequence[Sequence[int]],
        array: NDArray[Any],
        rows: NDArray[Any],
        rule: str,
        batch_size: int,
    ) -> None:
        """Project units back to the images that they lie in.

        Args:
            at: places, counted by ``groups``.
            groups: those that share a backward.
            array: the batch.
            rows: which image of the batch each place lies in.
            rule: what rectifiers do.
            batch_size: rows in one forward and backward.
        """
        to = self.to
        units = unit_rows(to.layer, to.channel[at[0]], to.position[at])
        images = [int(rows[group[0]]) for group in groups]
        own = [units[list(group)] for group in groups]
        signals = projected_together(self.model, array, to.layer, own, rule, batch_size, images)
        if any(signals.shape[axis + 1] != array.shape[axis + 1] for axis in self.axes):
            raise UnsupportedError(
                f"signals arrive as {list(signals.shape[1:])} where the input is {list(array.shape[1:])}, so "
                "no patch can be cut out of them; rule none makes none"
            )
        for signal, group in zip(signals, groups, strict=True):
            for c, k in zip(*(each[list(group)].tolist() for each in at), strict=True):
                part = cut(signal, self.axes, spans(to.windows[c, k], len(self.axes)), 0)
                self.signals[c, k] = part * part.dtype.type(to.value[c, k])

    def end(self) -> None:
        """All patches as one array."""
        self.to.patches = stacked(self.patches, self.to.image.shape, self.fill)
        self.to.signals = stacked(self.signals, self.to.image.shape, 0) if self.reconstructs else None

    def _bounded(self, patch: NDArray[Any]) -> None:
        """Refuse what would fill the memory."""
        each = patch.nbytes + (4 * patch.size if self.reconstructs else 0)
        total = each * self.to.image.size
        if total > _MOST:
            raise UsageError(
                f"{self.to.image.size} patches of {self.to.layer.alias} need {total / 2**30:.1f} GiB, more "
                f"than {_MOST / 2**30:.0f}; ask for fewer channels, or fewer patches of each"
            )


def _batches(
    model: Model, recording: Recording, numbers: Sequence[int], batch_size: int
) -> Iterator[tuple[list[int], Images]]:
    """Images by number, read again, as many at once as are alike in size and fit into a batch."""
    for start in range(0, len(numbers), batch_size):
        read = [(number, recording.batch(model, [number])) for number in numbers[start : start + batch_size]]
        for _, group in groupby(read, key=lambda one: one[1].array.shape):
            own, alike = zip(*group, strict=True)
            views = [one.views for one in alike if one.views is not None]
            whole = replace(
                alike[0],
                array=np.concatenate([one.array for one in alike]),
                names=tuple(name for one in alike for name in one.names),
                views=np.concatenate(views) if len(views) == len(alike) else None,
                sizes=None,
                origins=None,
            )
            yield list(own), whole
