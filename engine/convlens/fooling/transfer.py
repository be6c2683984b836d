"""Whether pictures that fool one model fool others, each of which reads them through its own card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from convlens.errors import UsageError
from convlens.model import Model, load

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AT_ONCE = 32  # photos held as arrays of another model


@dataclass(frozen=True)
class Others:
    """What another model says, a number a picture.

    Attributes:
        name: of the model, made unique.
        before: its class of each clean picture, after: of each fooled one.
        labels: the names of these two classes, a pair a picture.
        sure: its probability of the class after.
    """

    name: str
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    labels: tuple[tuple[str, str], ...]
    sure: NDArray[np.float64]


def opened(names: Sequence[str], device: str, threads: int | None) -> list[Model]:
    """The other models, checked before anything is sought.

    Raises:
        UsageError: there is no such model, or it has no classes of photos.
    """
    found = []
    for name in names:
        model = load(name, device=device, threads=threads)
        if not model.source.image or model.classes is None:
            what = "has no class scores" if model.source.image else "takes no photos"
            raise UsageError(f"--also {name}: the model {what}; give one that classifies photos")
        _ = model.preprocess  # a card that says too little is told of now
        found.append(model)
    return found


def told(
    models: Sequence[Model], clean: NDArray[np.uint8], fooled: NDArray[np.uint8], batch_size: int
) -> list[Others]:
    """What the models make of the pictures' files, N x height x width x channels before and after."""
    found: list[Others] = []
    for model in models:
        shares = [_shares(model, photos, batch_size) for photos in (clean, fooled)]
        classes = model.classes
        assert classes is not None
        before, after = (each.argmax(axis=1) for each in shares)
        taken = [other.name for other in found]
        name = model.name if model.name not in taken else f"{model.name} ({Path(model.path).parent.name})"
        name = name if name not in taken else f"{name} {len(found) + 1}"
        labels = tuple(
            (classes.label(a), classes.label(b)) for a, b in zip(before.tolist(), after.tolist(), strict=True)
        )
        sure = shares[1][np.arange(len(after)), after]
        found.append(Others(name, before, after, labels, sure))
    return found


def _shares(model: Model, photos: NDArray[np.uint8], batch_size: int) -> NDArray[np.float64]:
    parts = []
    for first in range(0, len(photos), _AT_ONCE):
        given = [
            Image.fromarray(photo[..., 0] if photo.shape[-1] == 1 else photo)
            for photo in photos[first : first + _AT_ONCE]
        ]
        parts.append(model.probabilities(model.images(given), batch_size))
    return np.concatenate(parts)
