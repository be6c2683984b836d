"""Photos changed a little, so that a prediction should stay, and broken, so that it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Views = NDArray[np.uint8]

#: Pieces along each side of a photo in pieces.
PIECES = 4


def changed(views: Views) -> dict[str, Views]:
    """Shifted, brighter, and mirrored where there are colours: digits and letters are not mirrored.

    Args:
        views: N x height x width x channels, 0 to 255.
    """
    step = max(1, min(views.shape[1:3]) // 28)
    found = {
        "shift": np.pad(views, ((0, 0), (step, 0), (step, 0), (0, 0)), mode="edge")[:, :-step, :-step],
        "brightness": np.clip(views * 0.85 + 12.0, 0, 255).astype(np.uint8),
    }
    if views.shape[-1] == 3:
        found["mirror"] = views[:, :, ::-1]
    return found


def pieces(views: Views, seed: int) -> Views:
    """The same pieces of each photo in another order."""
    rng = np.random.default_rng(seed)
    high, wide = views.shape[1] // PIECES, views.shape[2] // PIECES
    found = views.copy()
    corners = [(y * high, x * wide) for y in range(PIECES) for x in range(PIECES)]
    for view, into in zip(views, found, strict=True):
        for (y, x), pick in zip(corners, rng.permutation(len(corners)), strict=True):
            top, left = corners[pick]
            into[y : y + high, x : x + wide] = view[top : top + high, left : left + wide]
    return found


def coloured(views: Views) -> NDArray[np.bool_]:
    """Which photos have colours that tell red from blue; about 4 levels of 256 apart are none."""
    if views.shape[-1] != 3:
        return np.zeros(len(views), bool)
    apart = np.abs(views[..., 0].astype(np.int16) - views[..., 2])
    return np.asarray(apart.mean(axis=(1, 2)) > 4.0)
