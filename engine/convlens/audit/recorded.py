"""The recording of an audit: the one that was given, or a small one of its own inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.errors import LayerError
from convlens.recording.first import recorded
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.source import Item, open_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.source import Source
    from convlens.registry import Images

FOLDER = "recording"
_PLACES = 9


class Given:
    """Inputs that are there already, as a data set."""

    def __init__(self, images: Images, paths: Sequence[Path]) -> None:
        """``paths`` are the files that they come from."""
        self.given = tuple(str(path.absolute()) for path in paths)
        self._images = images

    @property
    def text(self) -> str:
        """How many there are."""
        return f"{len(self)} inputs"

    def __len__(self) -> int:
        return len(self._images)

    def fingerprint(self) -> str:
        """Of all numbers."""
        import hashlib

        return hashlib.sha256(self._images.array.tobytes()).hexdigest()

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Inputs ``first`` to ``stop``."""
        return [self._item(number) for number in range(first, min(stop, len(self)))]

    def _item(self, number: int) -> Item:
        def read() -> NDArray[Any]:
            row: NDArray[Any] = self._images.array[number]
            return row

        return Item(self._images.names[number], None, read)


def own_recording(
    model: Model, images: Images, paths: Sequence[Path], folder: Path, batch_size: int
) -> Recording:
    """What the inputs of an audit do to the layer that methods look at by default.

    Args:
        model: what is audited.
        images: its inputs.
        paths: the files that they come from.
        folder: of the recording; what lies there is taken where it is just this one, else it is made.
        batch_size: images in one forward.

    Raises:
        LayerError: no layer's units have a place in the input.
        ConvLensError: the recording cannot be made.
    """
    from convlens.attribution.layerwise.units import placed_layer

    layer = placed_layer(model, None)
    if layer.channels is None:
        raise LayerError(f"how many channels layer {layer.alias!r} has is not known")
    plan = plan_of(model, [layer.name], k=min(_PLACES, len(images)), batch_size=batch_size)
    source: Source = Given(images, paths)
    if images.views is not None:
        source = open_source([str(path) for path in paths], model.source, model.card)
    found, _ = recorded(model, source, folder, plan)
    return Recording(folder, found.manifest, (), source)
