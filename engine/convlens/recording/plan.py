"""What is recorded of a model: layers, feature vector, how many places, in which pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from convlens import cache
from convlens.errors import LayerError
from convlens.graph import bind
from convlens.graph.source import counts_inputs
from convlens.recording.joined import lies
from convlens.recording.source import columns_of
from convlens.results import as_read

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model

FORMAT = 2
"""Of recordings on disk."""

LIES = "lies"
"""Where model and data set lay, so that both are found again."""


@dataclass(frozen=True)
class Followed:
    """A layer that is recorded: its ONNX name, alias, channels and axes.

    ``places`` is how many axes there are beside those of images and channels, spatial or not.
    """

    name: str
    alias: str
    op: str
    channels: int
    channel_axis: int
    spatial_axes: tuple[int, ...]
    places: int


@dataclass(frozen=True)
class Plan:
    """What is recorded.

    Attributes:
        layers: whose channels are followed.
        feature: the layer of which one vector an image is kept, the mean of each channel over its positions;
            None for none.
        k: strongest places a channel.
        shard: images in one shard, the piece that is lost at most when a recording is killed.
        batch_size: images in one forward.
    """

    layers: tuple[Followed, ...]
    feature: Followed | None
    k: int
    shard: int
    batch_size: int

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def names(self) -> list[str]:
        """Every ONNX value that is read."""
        own = [self.feature.name] if self.feature is not None else []
        return list(dict.fromkeys([layer.name for layer in self.layers] + own))


def plan_of(
    model: Model, layers: Sequence[str] = (), *, k: int = 9, shard: int = 256, batch_size: int = 4
) -> Plan:
    """What to record of a model.

    Args:
        model: the model.
        layers: names or aliases; every rectifier's output without them, or every layer with channels where
            the model has no rectifier.
        k: strongest places a channel.
        shard: images in one shard.
        batch_size: images in one forward.

    Raises:
        LayerError: there is no such layer, or it has no channels; none of the model's has.
        UnsupportedError: the model has inputs that are not bound.
    """
    bind.need_one([value.name for value in model.graph.inputs], model.source.name)
    chosen = [model.layers.find(name) for name in layers] or _usual(model)
    if not chosen:
        raise LayerError(
            "no layer of the model has channels that could be followed, so nothing can be recorded"
        )
    feature = feature_of(model)
    return Plan(
        tuple(_followed(layer) for layer in dict.fromkeys(chosen)),
        _followed(feature) if feature is not None else None,
        k,
        shard,
        batch_size,
    )


def feature_of(model: Model) -> Layer | None:
    """The last layer before the class scores, or of all where there are none, that tells images apart.

    That is the last one with one vector an image, and where there is none the last one with channels.
    """
    classes = model.classes
    scores = {classes.name, classes.logits} if classes is not None else set()
    before = model.graph.ancestors(list(scores)) if scores else None
    known = [
        layer
        for layer in model.layers
        if layer.name not in scores
        and (before is None or layer.name in before)
        and _usable(model, layer)
        and (layer.channels or 0) > 1
    ]
    vectors = [
        layer
        for layer in known
        if all(dim == 1 for axis, dim in enumerate(layer.shape or ()) if axis not in (0, layer.channel_axis))
    ]
    found = vectors or known
    return found[-1] if found else None


def _usual(model: Model) -> list[Layer]:
    known = [layer for layer in model.layers if _usable(model, layer)]
    return [layer for layer in known if layer.kind == "rectifier"] or known


def _followable(layer: Layer) -> bool:
    """Whether each image has numbers of its own in each channel, one image after the other."""
    return layer.channels is not None and 0 not in (layer.channel_axis, *layer.spatial_axes)


def _usable(model: Model, layer: Layer) -> bool:
    """Whether it is followed without being asked for: as far as is known, it counts images first."""
    if not layer.shape or not model.source.shape:
        return _followable(layer)
    rows, taken = layer.shape[0], model.source.shape
    some = isinstance(rows, int) and not isinstance(taken[0], int)  # as many for any number of images
    return _followable(layer) and not some and counts_inputs(rows, taken)


def _followed(layer: Layer) -> Followed:
    if layer.channel_axis is None or layer.channels is None:
        raise LayerError(f"layer {layer.alias!r} has no channel axis of known length; choose another")
    if not _followable(layer):
        raise LayerError(f"layer {layer.alias!r} does not count images along its first axis; choose another")
    axes = layer.channel_axis, layer.spatial_axes, len(layer.shape or ()) - 2
    return Followed(layer.name, layer.alias, layer.op, layer.channels, *axes)


def job_of(model: Model, plan: Plan, source: Any) -> dict[str, Any]:
    """What makes two recordings the same job, as a manifest holds it; see :func:`differing`."""
    columns = columns_of(source)
    told = {
        "format": FORMAT,
        "model": {"name": model.name, "sha256": model.sha256},
        "card": model.card.model_dump(mode="json"),
        "feeds": bind.record(model.graph.bound),
        "source": {
            "text": source.text,
            "count": len(source),
            "fingerprint": source.fingerprint(),
            **({"columns": columns} if columns else {}),
        },
        "plan": plan.record(),
        "versions": cache.versions(),
        LIES: {"model": str(model.path.resolve()), **lies(source)},
    }
    found: dict[str, Any] = as_read(told)
    return found


def differing(held: Mapping[str, Any], job: Mapping[str, Any]) -> list[str]:
    """In what a manifest and a job are not of the same recording; :data:`LIES` may differ."""
    return [key for key in job if key != LIES and held.get(key) != job[key]]
