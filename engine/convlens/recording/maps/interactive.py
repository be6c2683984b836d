"""The map of a data set as a page to move in, see :mod:`convlens.recording.maps.page`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.recording.maps.page import Points, page

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.maps.embedding import Embedding

NAME = "embed.html"
"""Of the file."""


def interactive(made: Embedding) -> bytes:
    """The page of a map: on it the features, the pixels and the grid, and all that is known of each image."""
    known = made.known
    places: dict[str, NDArray[Any]] = {"features": made.place}
    if made.pixel_place is not None:
        places["pixels"] = made.pixel_place
    if (made.cell >= 0).any():
        down, right = made.cell[:, 0], made.cell[:, 1]
        places["grid"] = np.where(made.cell >= 0, np.stack([right, -down], axis=1), np.nan)
    return page(
        Points(
            title=made.title,
            text=_text(made),
            noun=made.noun,
            places=places,
            names=known.names,
            labels=known.labels,
            predictions=known.predictions,
            probabilities=known.probabilities if np.isfinite(known.probabilities).any() else None,
            thumbnails=made.thumbnails,
            channels=made.vectors,
            layer=str(made.settings.get("layer", "")),
            values=known.values,
            colour=made.colour.by if made.colour is not None else "",
        )
    )


def _text(made: Embedding) -> str:
    """How to read the map, and how good it is."""
    parts = [
        f"The nearer two {made.noun}s, the more alike their features; distances between groups say little."
    ]
    if "features" in made.purity:
        same = f"have its {made.by}"
        text = f"Of the 10 nearest to a {made.noun} by features {made.purity['features']:.1%} {same}"
        text += f", on this map {made.purity['map of features']:.1%}"
        if "pixels" in made.purity:
            text += f", by pixels {made.purity['pixels']:.1%}"
        parts.append(f"{text}.")
    return " ".join([*parts, *(f"{warning}." for warning in made.warnings)])
