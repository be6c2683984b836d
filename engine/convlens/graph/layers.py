"""Layers: the values of a graph that a person can point at, with what is known of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from convlens.errors import LayerError, nearest
from convlens.graph.aliases import aliases, strip
from convlens.graph.dependence import dependent
from convlens.graph.fields import Axes, fields
from convlens.graph.graph import Graph, Node, Shape, Value
from convlens.graph.opensizes import Rules
from convlens.graph.pause import no_collection
from convlens.graph.rectifiers import find_rectifiers
from convlens.graph.shapes import infer
from convlens.graph.windows import Rule


@dataclass(frozen=True, slots=True)
class Facts:
    """What the operator table says of one node: a word for people, its window, its cost."""

    kind: str
    rule: Rule
    macs: Callable[[Node, Sequence[tuple[int, ...]], tuple[int, ...]], int] | None


_SIZED = frozenset({"Resize", "Upsample"})  # their constants are scales, not weights

FactsOf: TypeAlias = Callable[[Node, Graph], Facts]


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one unit sees of the input, one number a spatial axis, in input pixels.

    ``size`` is how many pixels it sees (None: all of them), ``stride`` how far that window moves
    from one unit to the next, ``offset`` the first pixel that unit 0 sees (negative: padding). Where
    ``exact`` is false the window is near there: it moves by some pixels with the size of the image, or
    all pixels together set the step by which the unit's numbers are rounded.
    """

    size: tuple[int | None, ...]
    stride: tuple[float, ...]
    offset: tuple[float, ...]
    exact: bool = True

    def box(self, position: Sequence[int], extent: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """First pixel and first pixel after, axis by axis, of the unit at ``position``, cut to the image."""
        spans = []
        for axis, limit in enumerate(extent):
            size = self.size[axis]
            if size is None:
                spans.append((0, limit))
                continue
            start = self.offset[axis] + position[axis] * self.stride[axis]
            first = max(0, min(limit - 1, int(start)))
            spans.append((first, max(first + 1, min(limit, int(start) + size))))
        return tuple(spans)


@dataclass(frozen=True, slots=True)
class Layer:
    """One value of the graph.

    Attributes:
        name: the ONNX value name.
        alias: a short name, unique in the model, that can be typed wherever a layer is asked for.
        op: the ONNX operator that computes it.
        kind: conv, rectifier, pool, dense, norm, ...
        shape: dimensions; an int, the file's symbol, or None where unknown.
        parameters: numbers stored in the file for this operator alone.
        macs: multiply-accumulates for one input, None where the shapes are not known.
        field: receptive field, None where the value does not depend on an image, or nobody knows its rank.
        channel_axis: the axis that counts channels (or dense units), None where there is none.
        spatial_axes: the axes that run over the image, in the order of the input's.
    """

    name: str
    alias: str
    op: str
    kind: str
    shape: Shape
    parameters: int
    macs: int | None
    field: ReceptiveField | None
    channel_axis: int | None
    spatial_axes: tuple[int, ...]

    @property
    def channels(self) -> int | None:
        """Number of channels, None where it is not known."""
        if self.shape is None or self.channel_axis is None:
            return None
        count = self.shape[self.channel_axis]
        return count if isinstance(count, int) else None

    def record(self) -> dict[str, Any]:
        """The layer as plain data for JSON."""
        return asdict(self)


class Layers(Sequence[Layer]):
    """The layers of a model in the order in which they are computed; also found by name or alias."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Keep ``layers`` in their order."""
        self._layers = tuple(layers)
        self._by_name = {strip(layer.name): layer for layer in reversed(self._layers)}
        self._by_name |= {layer.alias.lower(): layer for layer in self._layers}
        self._by_name |= {layer.alias: layer for layer in self._layers}
        self._by_name |= {layer.name: layer for layer in self._layers}

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __getitem__(self, key: Any) -> Any:
        return self.find(key) if isinstance(key, str) else self._layers[key]

    def get(self, name: str) -> Layer | None:
        """The layer of that ONNX value name or alias, None where there is none."""
        return self._by_name.get(name) or self._by_name.get(name.lower())

    def find(self, name: str) -> Layer:
        """The layer of that ONNX value name or alias.

        Raises:
            LayerError: there is none; the message offers the nearest names.
        """
        layer = self.get(name)
        if layer is None:
            hint = nearest(name, [layer.alias for layer in self._layers])
            raise LayerError(f"no layer {name!r}{hint}; `convlens layers MODEL` lists all {len(self)}")
        return layer

    def of_kind(self, *kinds: str) -> list[Layer]:
        """The layers whose kind is one of ``kinds``."""
        return [layer for layer in self._layers if layer.kind in kinds]

    def placed(self) -> list[Layer]:
        """Rectified layers whose units have a place in the image; convolutions where there are none.

        Those that see all of the image count only where no others are left.
        """
        for kinds in (("rectifier",), ("conv", "activation", "pool")):
            found = [layer for layer in self.of_kind(*kinds) if layer.spatial_axes and layer.field]
            if found:
                return [layer for layer in found if layer.field and None not in layer.field.size] or found
        return []

    def json(self) -> str:
        """All layers as JSON."""
        return json.dumps([layer.record() for layer in self._layers], indent=1)


@no_collection()
def find_layers(
    graph: Graph,
    facts_of: FactsOf,
    source: str,
    channel: int,
    spatial: tuple[int, ...],
    shape: tuple[int, ...] | None,
) -> Layers:
    """Name and measure every real-valued value whose numbers depend on those of the inputs.

    Args:
        graph: the normalised graph.
        facts_of: what the operator table says of a node.
        source: name of the input that holds the image.
        channel: its channel axis.
        spatial: its spatial axes.
        shape: numbers for its dimensions, to count multiply-accumulates; None where unknown.
    """
    rules = Rules(graph, source, spatial, lambda node, g: facts_of(node, g).rule)
    seen = fields(graph, source, channel, rules)
    hanging = dependent(graph, [value.name for value in graph.inputs])
    sized = graph.values if shape is None else infer(graph.ir, {source: shape}) | _constant_values(graph)
    listed = [n for n in graph.nodes if any(_is_layer(o, graph, hanging) for o in n.outputs)]
    short = aliases(listed, graph.outputs)
    rectifiers = find_rectifiers(graph)
    counted: set[str] = set()
    batch = max(1, shape[0]) if shape else 1
    layers = []
    for node in graph.nodes:
        facts = facts_of(node, graph)
        parameters = _parameters(node, graph, counted)
        for output in node.outputs:
            if not _is_layer(output, graph, hanging):
                continue
            axes = seen.get(output)
            kind = "rectifier" if output in rectifiers else facts.kind
            if kind == "rectifier" and output not in rectifiers:
                kind = "activation"
            layers.append(
                Layer(
                    name=output,
                    alias=short[output],
                    op=node.full_op,
                    kind=kind,
                    shape=graph.value(output).shape,
                    parameters=parameters,
                    macs=_macs(node, facts, sized, output, batch),
                    field=_receptive_field(axes, spatial),
                    channel_axis=_channel_axis(axes, channel, spatial, graph.value(output).rank),
                    spatial_axes=_spatial_axes(axes, spatial),
                )
            )
            parameters = 0
    return Layers(layers)


def _is_layer(name: str, graph: Graph, hanging: set[str]) -> bool:
    if name not in hanging:
        return False
    value = graph.value(name)
    return value.dtype is None or value.floating


def _parameters(node: Node, graph: Graph, counted: set[str]) -> int:
    """Real numbers stored for this node; a weight that several nodes share counts at the first."""
    total = 0
    for name in () if node.op in _SIZED else node.inputs:
        constant = graph.constant(name)
        if constant is not None and name not in counted and constant.dtype.kind in "fV":
            counted.add(name)
            total += constant.size if constant.ndim else 0
    return total


def _constant_values(graph: Graph) -> dict[str, Value]:
    return {name: graph.value(name) for name in graph.constants}


def _macs(node: Node, facts: Facts, sized: Mapping[str, Any], output: str, batch: int) -> int | None:
    if facts.macs is None:
        return 0
    shapes = [sized[name].shape if name in sized else None for name in (*node.inputs, output)]
    numbers = [
        tuple(dim for dim in shape if isinstance(dim, int)) if shape is not None else () for shape in shapes
    ]
    complete = all(
        shape is not None and len(shape) == len(known)
        for shape, known, name in zip(shapes, numbers, (*node.inputs, output), strict=True)
        if name
    )
    return facts.macs(node, numbers[:-1], numbers[-1]) // batch if complete else None


def _receptive_field(axes: Axes | None, spatial: tuple[int, ...]) -> ReceptiveField | None:
    if axes is None or not spatial:
        return None
    by_axis = {field.axis: field for field in axes if field is not None}
    size: list[int | None] = []
    stride, offset = [], []
    for axis in spatial:
        field = by_axis.get(axis)
        if field is None or field.whole:
            size.append(None)
            stride.append(0.0)
            offset.append(0.0)
        else:
            start = field.first.__floor__()
            size.append(field.last.__ceil__() - start + 1)
            stride.append(float(field.step))
            offset.append(float(start))
    exact = not any(field.loose for axis, field in by_axis.items() if axis in spatial)
    return ReceptiveField(tuple(size), tuple(stride), tuple(offset), exact)


def _channel_axis(axes: Axes | None, channel: int, spatial: tuple[int, ...], rank: int | None) -> int | None:
    for index, field in enumerate(axes or ()):
        if field is not None and field.axis == channel:
            return index
    placed = _spatial_axes(axes, spatial) if channel < 0 else ()
    return next((axis for axis in range(1, rank or 0) if axis not in placed), None)


def _spatial_axes(axes: Axes | None, spatial: tuple[int, ...]) -> tuple[int, ...]:
    places = {field.axis: index for index, field in enumerate(axes or ()) if field is not None}
    return tuple(places[axis] for axis in spatial if axis in places)


def total_macs(layers: Layers) -> int | None:
    """Multiply-accumulates of the whole model for one input, None where one layer's is not known."""
    counts = [layer.macs for layer in layers]
    return None if any(count is None for count in counts) else sum(c for c in counts if c)


def shape_text(shape: Shape) -> str:
    """A shape as people write it: ``N x 3 x 224 x 224``; ``?`` where a dimension is not known."""
    if shape is None:
        return "?"
    return " x ".join("?" if dim is None else re.sub(r"^unk__\d+$", "N", str(dim)) for dim in shape)
