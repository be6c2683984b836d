"""Which input of a graph holds the image, and how it is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Shape, Value
from convlens.graph.layers import shape_text

_CHANNELS = (1, 3, 4)
_LAYOUTS = {3: "NCT", 4: "NCHW", 5: "NCTHW"}


@dataclass(frozen=True, slots=True)
class Source:
    """The input that is being explained.

    ``channel`` and ``spatial`` are axes of it; ``image`` says whether a photo can go in, that is
    two spatial axes and one, three or four channels.
    """

    name: str
    layout: str
    channel: int
    spatial: tuple[int, ...]
    shape: Shape
    dtype: str | None
    image: bool

    @property
    def channels(self) -> int | None:
        """Number of channels, None where the file leaves it open."""
        count = self.shape[self.channel] if self.shape is not None else None
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
            elif axis in self.spatial and size is not None:
                dims.append(size[self.spatial.index(axis)])
            else:
                return None
        return tuple(dims)


def find_source(graph: Graph, layout: str | None = None) -> Source:
    """The input that looks most like an image; else the first real-valued one with a channel axis.

    Args:
        graph: the normalised graph.
        layout: ``NCHW`` or ``NHWC`` where a card says so, else it is told from the shape.

    Raises:
        UnsupportedError: the model takes nothing that could be explained.
    """
    if not graph.nodes:
        raise UnsupportedError("the model computes nothing from its input; all its outputs are constants")
    candidates = [value for value in graph.inputs if value.shape is not None and value.rank]
    images = [value for value in candidates if _is_image(value)]
    if images:
        value = images[0]
        assert value.shape is not None
        kind = layout or ("NCHW" if value.shape[1] in _CHANNELS else "NHWC")
        if value.shape[1] not in _CHANNELS and value.shape[3] not in _CHANNELS:
            kind = layout or "NCHW"
        channel = 1 if kind == "NCHW" else 3
        spatial: tuple[int, ...] = (2, 3) if kind == "NCHW" else (1, 2)
        count = value.shape[channel]
        image = not isinstance(count, int) or count in _CHANNELS
        return Source(value.name, kind, channel, spatial, value.shape, value.dtype, image)
    others = [value for value in candidates if value.floating and (value.rank or 0) >= 2]
    if others:
        value = others[0]
        rank = value.rank or 0
        spatial = tuple(range(2, rank))
        kind = _LAYOUTS.get(rank, "NC")
        return Source(value.name, kind, 1, spatial, value.shape, value.dtype, False)
    found = ", ".join(f"{v.name} ({v.dtype}, {shape_text(v.shape)})" for v in graph.inputs) or "none"
    raise UnsupportedError(
        f"no image-like input; found: {found}; expected real numbers with batch, channels and space"
    )


def _is_image(value: Value) -> bool:
    return value.rank == 4 and (value.floating or value.dtype in ("uint8", None))
