"""Which input of a graph is explained, what it holds, and how it is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convlens.errors import CardError, UnsupportedError, nearest
from convlens.graph.graph import Dim, Graph, Shape, Value
from convlens.graph.layers import shape_text
from convlens.graph.trace import axes_at_convolution, keeps_its_size

KINDS = {
    "photo": "a photo",
    "image": "an image of planes",
    "spectrogram": "a spectrogram",
    "signal": "a signal",
    "video": "a video",
    "volume": "a volume",
    "board": "a board",
    "tokens": "a sequence of tokens",
    "vector": "a vector of features",
}
"""What an input can hold, in words."""

LAYOUTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "NCHW": (1, (2, 3)),
    "NHWC": (3, (1, 2)),
    "NHW": (-1, (1, 2)),
    "NC1T": (1, (3,)),
    "NCT1": (1, (2,)),
    "N1TC": (3, (2,)),
    "NT1C": (3, (1,)),
    "NCT": (1, (2,)),
    "NTC": (2, (1,)),
    "NT": (-1, (1,)),
    "NC": (1, ()),
    "NCTHW": (1, (2, 3, 4)),
    "NTCHW": (2, (1, 3, 4)),
    "NTHWC": (4, (1, 2, 3)),
}
"""Order of the axes: the channel axis (-1: there is none) and the spatial ones."""

_AXES = {
    "photo": ("rows", "columns"),
    "image": ("rows", "columns"),
    "spectrogram": ("frequencies", "frames"),
    "signal": ("samples",),
    "video": ("frames", "rows", "columns"),
    "volume": ("slices", "rows", "columns"),
    "board": ("rows", "columns"),
    "tokens": ("tokens",),
    "vector": ("features",),
}
_SPACE = {"signal": 1, "tokens": 1, "vector": 0, "video": 3, "volume": 3}  # all others have two axes
_COLOURS = (1, 3, 4)
_BOARDS = (8, 9, 13, 15, 19)
_SPECTRA = ("spec", "mel", "mfcc", "fbank", "stft")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


def counts_inputs(rows: Dim, taken: Shape) -> bool:
    """Whether the first dimension of a value can be the number of inputs.

    Where a file fixes that number and leaves other lengths open, what is not known hangs on those.

    Args:
        rows: the dimension.
        taken: the shape of the input.
    """
    batch = taken[0] if taken else None
    if isinstance(rows, int):
        return not isinstance(batch, int) or rows == batch
    return not isinstance(batch, int) or all(isinstance(dim, int) for dim in taken or ())


@dataclass(frozen=True, slots=True)
class Source:
    """The input that is being explained.

    ``channel`` (-1 where there is none) and ``spatial`` are axes of it; ``kind`` is one of
    :data:`KINDS`, and ``why`` says in words what it was told from.
    """

    name: str
    layout: str
    channel: int
    spatial: tuple[int, ...]
    shape: Shape
    dtype: str | None
    kind: str = "photo"
    why: str = ""

    @property
    def image(self) -> bool:
        """Whether a photo can go in, that is two spatial axes and one or three channels."""
        return self.kind == "photo"

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which parts can be hidden: the spatial ones, the features of a vector."""
        return self.spatial or (self.channel,)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """What is counted along each of :attr:`axes`."""
        return _AXES[self.kind]

    @property
    def channels(self) -> int | None:
        """Number of channels, None where the file leaves it open or there is no such axis."""
        count = self.shape[self.channel] if self.shape is not None and self.channel >= 0 else None
        return count if isinstance(count, int) else None

    @property
    def size(self) -> tuple[int | None, ...]:
        """Length of each spatial axis, None where the file leaves it open."""
        dims = [self.shape[axis] if self.shape is not None else None for axis in self.spatial]
        return tuple(dim if isinstance(dim, int) else None for dim in dims)

    def numbers(self, size: tuple[int, ...] | None = None, batch: int = 1) -> tuple[int, ...] | None:
        """A shape in numbers: the file's own where it has them, ``size`` for open spatial axes."""
        if self.shape is None:
            return None
        dims: list[int] = []
        for axis, dim in enumerate(self.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif axis == 0:
                dims.append(batch)
            elif axis in self.spatial and size is not None and self.spatial.index(axis) < len(size):
                dims.append(size[self.spatial.index(axis)])
            else:
                return None
        return tuple(dims)

    def words(self) -> str:
        """How the input is understood, in one sentence."""
        reason = f" ({self.why})" if self.why else ""
        what = KINDS[self.kind]
        return (
            f"input {self.name!r}, {shape_text(self.shape)} {self.dtype or 'numbers'}, is taken as {what}"
            f"{reason}; axes in the order {self.layout}."
        )

    def record(self) -> dict[str, Any]:
        """How the input is understood, as plain data."""
        return {
            "name": self.name,
            "shape": list(self.shape or ()),
            "dtype": self.dtype,
            "kind": self.kind,
            "layout": self.layout,
            "why": self.why,
        }


def find_source(
    graph: Graph, layout: str | None = None, name: str | None = None, kind: str | None = None
) -> Source:
    """The input that looks most like an image; else the first one that could be explained.

    Args:
        graph: the normalised graph.
        layout: one of :data:`LAYOUTS` where a card says so, else it is told from the graph and the shape.
        name: the input, where a card says so.
        kind: one of :data:`KINDS`, where a card says so.

    Raises:
        UnsupportedError: the model takes nothing that could be explained.
        CardError: the card's name, kind or layout does not fit the model.
    """
    if not graph.nodes:
        raise UnsupportedError("the model computes nothing from its input; all its outputs are constants")
    if name is not None:
        named = [value for value in graph.inputs if value.name == name]
        if not named:
            names = [value.name for value in graph.inputs]
            raise CardError(
                f"no input {name!r}{nearest(name, names) or '; the model has ' + ', '.join(names)}"
            )
        return _understood(graph, named[0], layout, kind)
    candidates = [value for value in graph.inputs if value.shape is not None and 2 <= len(value.shape) <= 5]
    for fits in (_is_picture, lambda v: v.floating, _is_whole):
        found = [value for value in candidates if fits(value)]
        if found:
            return _understood(graph, found[0], layout, kind)
    every = ", ".join(f"{v.name} ({v.dtype}, {shape_text(v.shape)})" for v in graph.inputs) or "none"
    raise UnsupportedError(
        f"no input that could be explained; found: {every}; expected numbers with a batch axis and one to "
        "four more"
    )


def _is_picture(value: Value) -> bool:
    return value.rank == 4 and (value.floating or value.dtype in ("uint8", None))


def _is_whole(value: Value) -> bool:
    return value.dtype in (*_INTEGERS, "uint8", "bool", None)


def _understood(graph: Graph, value: Value, layout: str | None, kind: str | None) -> Source:
    """``value`` with its layout and kind: the card's, else told from the graph, else from the shape."""
    shape = value.shape
    if shape is None or not 2 <= len(shape) <= 5:
        raise UnsupportedError(
            f"input {value.name!r} is {shape_text(shape)}; expected a batch axis and one to four more"
        )
    reasons = []
    order = layout
    if order is not None:
        if order not in LAYOUTS or len(order) != len(shape):
            fitting = ", ".join(known for known in LAYOUTS if len(known) == len(shape))
            raise CardError(
                f"layout {order!r} does not fit input {value.name!r} ({shape_text(shape)}); expected one "
                f"of {fitting}"
            )
        reasons.append("layout as the card says")
    else:
        order, reason = _layout(graph, value, kind)
        reasons.append(reason)
    channel, spatial = LAYOUTS[order]
    given = kind
    if kind is None:
        kind, reason = _kind(graph, value, order)
        reasons.append(reason)
    else:
        reasons.append("kind as the card says")
        wanted = _SPACE.get(kind, 2)
        if kind not in KINDS or wanted != len(spatial):
            fitting = ", ".join(known for known in KINDS if _SPACE.get(known, 2) == len(spatial))
            raise CardError(
                f"kind {given!r} does not fit input {value.name!r} ({shape_text(shape)}, {order}); expected "
                f"one of {fitting}, or another layout"
            )
    why = ", ".join(reason for reason in reasons if reason)
    return Source(value.name, order, channel, spatial, shape, value.dtype, kind, why)


def _layout(graph: Graph, value: Value, kind: str | None) -> tuple[str, str]:
    """The order of the axes and what it was told from."""
    shape = value.shape
    assert shape is not None
    rank = len(shape)
    if rank == 2:
        return _flat_layout(graph, value, kind)
    traced = axes_at_convolution(graph, value.name)
    if traced is not None:
        axes, op = traced
        channel = -1 if axes[1] is None else axes[1]
        spatial = tuple(sorted(a for a in axes[2:] if a is not None))
        thin = tuple(a for a in spatial if shape[a] == 1)
        if rank == 4 and thin and len(thin) < len(spatial) and channel >= 0:
            spatial = tuple(a for a in spatial if a not in thin)
        for order, places in LAYOUTS.items():
            if len(order) == rank and places == (channel, spatial):
                return order, f"as its first {op} reads it"
    counts = [dim if isinstance(dim, int) else None for dim in shape]
    if rank == 4:
        last = counts[1] not in _COLOURS and counts[3] in _COLOURS
        return ("NHWC" if last else "NCHW"), "the axes as its shape suggests"
    if rank == 5:
        orders = {1: "NCTHW", 4: "NTHWC", 2: "NTCHW"}
        order = next((orders[axis] for axis in orders if counts[axis] in _COLOURS), "NCTHW")
        return order, "the axes as its shape suggests"
    tokens = value.dtype in _INTEGERS and reads_as_tokens(graph, value.name)
    return ("NTC" if tokens else "NCT"), "the axes as is usual"


def _flat_layout(graph: Graph, value: Value, kind: str | None) -> tuple[str, str]:
    """A matrix: tokens, a waveform without a channel axis, or plain features."""
    whole = value.dtype in _INTEGERS
    if kind is not None:
        return ("NC", "") if kind == "vector" else ("NT", "")
    if whole and reads_as_tokens(graph, value.name):
        return "NT", ""
    if not whole and axes_at_convolution(graph, value.name) is not None:
        return "NT", "a convolution runs along it"
    return "NC", ""


def reads_as_tokens(graph: Graph, name: str) -> bool:
    """Whether an operator looks something up at the positions that value ``name`` holds."""
    followed = {name}
    for node in graph.nodes:
        if node.op in ("Gather", "GatherElements", "GatherND") and node.input(1) in followed:
            return True
        if node.op in ("OneHot", "EmbedLayerNormalization") and node.input(0) in followed:
            return True
        if node.op != "Shape" and not followed.isdisjoint(node.reads):
            followed.update(out for out in node.outputs if out and not graph.value(out).floating)
    return False


def _kind(graph: Graph, value: Value, order: str) -> tuple[str, str]:
    """What the input holds, and what that was told from; careful rather than clever."""
    shape = value.shape
    assert shape is not None
    channel, spatial = LAYOUTS[order]
    count = shape[channel] if channel >= 0 else 1
    if len(spatial) == 0:
        return "vector", "features without an order"
    if len(spatial) == 1:
        if value.dtype in _INTEGERS and reads_as_tokens(graph, value.name):
            return "tokens", "integers that are looked up"
        return "signal", "one axis that runs"
    if len(spatial) == 3:
        return ("video", "three colours") if count == 3 else ("volume", "three axes that run")
    if any(part in value.name.lower() for part in _SPECTRA):
        return "spectrogram", f"its name, {value.name!r}"
    sides = tuple(shape[axis] for axis in spatial)
    square = isinstance(sides[0], int) and sides[0] == sides[1] and sides[0] in _BOARDS
    photo = count in (1, 3) or not isinstance(count, int)
    if square and (sides[0] == 19 or not photo) and keeps_its_size(graph):
        return "board", f"{sides[0]} x {sides[0]} and neither pooled nor strided"
    if photo and channel >= 0:
        return "photo", f"{count} channel{'' if count == 1 else 's'}" if isinstance(count, int) else ""
    return "image", f"{count} planes" if channel >= 0 else "no channel axis"
