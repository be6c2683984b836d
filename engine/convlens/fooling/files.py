"""Pictures as files that the card brings back to exactly what the model is to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.preprocess import Preprocess

_TRIED = 3  # pixels around the size that a card's arithmetic says, since it rounds


def framed(prepare: Preprocess, views: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """What the model sees, with what a card that crops will cut off again around it.

    A card that keeps a share of the shorter side would enlarge a picture of the model's own size and cut
    off its border. So a border is put around it, the picture mirrored, such that the photo has just the
    size to which the card brings it: then nothing is resampled and the border alone is cut off.

    Args:
        prepare: the card made complete.
        views: what the model sees, N x height x width x channels.

    Returns:
        The pictures, and rows and columns of the border before the first of what the model sees. None
        where the card brings no picture back as it is.
    """
    height, width = views.shape[1:3]
    if (height, width) != tuple(prepare.size):
        return None
    for size in _sizes(prepare, width, height):
        left, top, right, bottom = map(round, prepare.placed((0, 0, *size), size))
        above, before = -top, -left
        below, behind = size[1] - height - above, size[0] - width - before
        if (right - left, bottom - top) == size and min(above, before, below, behind) >= 0:
            around = ((0, 0), (above, below), (before, behind), (0, 0))
            return np.pad(views, around, mode="symmetric"), (above, before)
    return None


def _sizes(prepare: Preprocess, width: int, height: int) -> list[tuple[int, int]]:
    """Widths and heights that may be brought to themselves, the likeliest first."""
    if prepare.resize != "crop" or prepare.crop == 1:
        return [(width, height)]
    likely = round(width / prepare.crop), round(height / prepare.crop)
    near = range(-_TRIED, _TRIED + 1)
    shifts = sorted(((a, b) for a in near for b in near), key=lambda shift: abs(shift[0]) + abs(shift[1]))
    return [(likely[0] + a, likely[1] + b) for a, b in shifts]
