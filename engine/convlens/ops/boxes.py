"""Which boxes to keep: non-maximum suppression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convlens.ops.given import numbers
from convlens.ops.table import Forward, TorchNode, operator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def _corners(boxes: NDArray[np.floating], centred: bool) -> NDArray[np.floating]:
    """Boxes (n, 4) as least y, least x, greatest y, greatest x."""
    if centred:
        x, y, width, height = boxes.T
        half_w, half_h = width / 2, height / 2
        return np.stack([y - half_h, x - half_w, y + half_h, x + half_w], axis=1)
    a, b = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], axis=1)


def _overlapping(
    corners: NDArray[np.floating], area: NDArray[np.floating], one: int, rest: NDArray[np.intp], most: float
) -> NDArray[np.bool_]:
    """Which of the ``rest`` share more than ``most`` of their union with box ``one``."""
    low = np.maximum(corners[one, :2], corners[rest, :2])
    high = np.minimum(corners[one, 2:], corners[rest, 2:])
    shared = np.where((high > low).all(axis=1), (high - low).prod(axis=1), 0)
    union = area[one] + area[rest] - shared
    good = (shared > 0) & (area[one] > 0) & (area[rest] > 0) & (union > 0)
    over: NDArray[np.bool_] = good & (shared / np.where(good, union, 1) > most)
    return over


@operator("NonMaxSuppression", kind="boxes")
def non_max_suppression(node: TorchNode) -> Forward:
    """Rows of (image, class, box): the best box first, and no box that overlaps a better one too much.

    Which boxes are kept has no gradient; what is gathered by these positions has.
    """
    import torch

    centred = bool(node.attr("center_point_box", 0))
    most, overlap, least = (numbers(node, i) for i in (2, 3, 4))

    def forward(*inputs: Tensor) -> Tensor:
        boxes, scores = (t.detach().cpu().numpy() for t in inputs[:2])
        count = int((most(inputs) or [0])[0])
        # the thresholds are single precision in the file; compared in another they could tip over
        limit = np.asarray((overlap(inputs) or [0.0])[0], dtype=boxes.dtype)
        threshold = (least(inputs) or [None])[0]
        kept = []
        for image, rows in enumerate(boxes):
            corners = _corners(rows, centred)
            area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
            for label, score in enumerate(scores[image]):
                rest = np.argsort(-score, kind="stable")
                if threshold is not None:
                    rest = rest[score[rest] > np.asarray(threshold, dtype=score.dtype)]
                for _ in range(count):
                    if not len(rest):
                        break
                    one, rest = int(rest[0]), rest[1:]
                    kept.append((image, label, one))
                    rest = rest[~_overlapping(corners, area, one, rest, float(limit))]
        return torch.tensor(kept, dtype=torch.int64).reshape(-1, 3)

    return forward
