"""What a layer's channels do on other inputs: the background that a finding is held against."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convlens import catalogue
from convlens.attribution.layerwise.units import layer_values
from convlens.errors import CardError, UsageError
from convlens.files import taken
from convlens.images import expand
from convlens.inputs import NOUNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model

FEWEST = 3


@dataclass(frozen=True)
class Background:
    """The mean activation of every channel on every background input.

    Attributes:
        means: inputs x channels.
        keys: of each input, by which it is known again.
        name: where the inputs come from.
        unread: files that could not be read, with the reason.
    """

    means: NDArray[np.float64]
    keys: tuple[str, ...]
    name: str
    unread: tuple[str, ...]

    def without(self, images: NDArray[np.generic], name: str) -> NDArray[np.float64]:
        """The means of those inputs that are not among ``images``.

        Raises:
            UsageError: there are too few of them to know how far they spread.
        """
        own = {_key(image) for image in images}
        kept = self.means[[key not in own for key in self.keys]]
        if len(kept) < FEWEST:
            raise UsageError(
                f"the background ({self.name}) holds {len(kept)} input{'s' * (len(kept) != 1)} other than "
                f"{name}; expected {FEWEST} or more to know how far they spread"
            )
        return kept


def background(model: Model, layer: Layer, given: str | None, batch_size: int) -> Background:
    """Run the inputs at ``given`` (a file or a folder; the bundled photos by default) up to ``layer``.

    They go in as the card says, and are read and held a batch at a time.

    Raises:
        UsageError: there is no such folder, or none is given and the model takes no photos.
        CardError: the card does not say how photos go in.
    """
    if given is None and not model.source.image:
        raise UsageError(
            f"a background is needed, and none comes along for a {NOUNS[model.source.kind]}; give one with "
            "--background, a folder of arrays"
        )
    paths = expand([given], taken(model.source)) if given is not None else catalogue.photos()
    means, keys, unread = [], [], []
    for start in range(0, len(paths), batch_size):
        images, bad = _read(model, paths[start : start + batch_size], given)
        unread += [reason for _, reason in bad]
        if images is not None:
            means.append(channel_means(model, images, layer, batch_size))
            keys += [_key(image) for image in images]
    name = "the photos that come along" if given is None else Path(given).resolve().name
    if not means:
        raise UsageError(f"the background ({name}) holds nothing that can be read: {unread[0]}")
    return Background(np.concatenate(means), tuple(keys), name, tuple(unread))


def channel_means(
    model: Model, array: NDArray[np.generic], layer: Layer, batch_size: int
) -> NDArray[np.float64]:
    """The mean activation of every channel of a layer over its places, N x channels."""
    parts = [mean_of(after) for after, _ in layer_values(model, array, layer, batch_size)]
    return np.concatenate(parts)


def mean_of(value: NDArray[np.generic]) -> NDArray[np.float64]:
    """The mean over all axes after the channels, of N x channels x space."""
    return np.asarray(value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64))


def _read(
    model: Model, paths: list[Path], given: str | None
) -> tuple[NDArray[np.generic] | None, list[tuple[Path, str]]]:
    try:
        images, bad = model.readable(paths)
    except CardError as error:
        if given is not None:
            raise
        raise CardError(f"{error}; or give a background of arrays with --background") from error
    return (images.array if images is not None else None), bad


def _key(image: NDArray[np.generic]) -> str:
    """What tells inputs apart: their numbers as onnxruntime gets them."""
    exact = image.astype(np.float32) if image.dtype == np.float64 else image
    return hashlib.sha256(np.ascontiguousarray(exact).tobytes()).hexdigest()
