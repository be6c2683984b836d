"""Photos changed a little, so that a prediction should stay, and broken, so that it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Views = NDArray[np.uint8]

#: Pieces along each side of a photo in pieces.
PIECES = 4


def changed(views: Views) -> dict[str, Views]:
    """Shifted, zoomed, brighter, and mirrored where there are colours: digits and letters are not mirrored.

    Args:
        views: N x height x width x channels, 0 to 255.
    """
    step = max(1, min(views.shape[1:3]) // 28)
    found = {
        "shift": np.stack([_shifted(view, step) for view in views]),
        "zoom": np.stack([_zoomed(view, step) for view in views]),
        "brightness": np.clip(views * 0.85 + 12.0, 0, 255).astype(np.uint8),
    }
    if views.shape[-1] == 3:
        found["mirror"] = views[:, :, ::-1]
    return found


def broken(views: Views, seed: int) -> dict[str, Views]:
    """In pieces (the same pieces in another order) and as noise (the same pixels in another order)."""
    rng = np.random.default_rng(seed)
    return {
        "pieces": np.stack([_in_pieces(view, rng) for view in views]),
        "noise": np.stack([rng.permutation(v.reshape(-1, v.shape[-1])).reshape(v.shape) for v in views]),
    }


def _image(view: Views) -> Any:
    from PIL import Image

    return Image.fromarray(view[..., 0] if view.shape[-1] == 1 else view)


def _shifted(view: Views, step: int) -> Views:
    return np.pad(view, ((step, 0), (step, 0), (0, 0)), mode="edge")[:-step, :-step]


def _zoomed(view: Views, step: int) -> Views:
    from PIL import Image

    height, width = view.shape[:2]
    box = (step, step, max(step + 1, width - step), max(step + 1, height - step))
    zoomed = _image(view).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(zoomed, np.uint8).reshape(view.shape)


def _in_pieces(view: Views, rng: np.random.Generator) -> Views:
    high, wide = view.shape[0] // PIECES, view.shape[1] // PIECES
    found = view.copy()
    if not high or not wide:
        return found
    corners = [(y * high, x * wide) for y in range(PIECES) for x in range(PIECES)]
    for (y, x), pick in zip(corners, rng.permutation(len(corners)), strict=True):
        top, left = corners[pick]
        found[y : y + high, x : x + wide] = view[top : top + high, left : left + wide]
    return found
