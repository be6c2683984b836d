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


def _kept(
    corners: NDArray[np.floating], area: NDArray[np.floating], count: int, most: float
) -> NDArray[np.intp]:
    """Places of the first ``count`` boxes that share no more than ``most`` of a union with an earlier one.

    Args:
        corners: as :func:`_corners` gives them, the best box first.
        area: theirs.
        count: how many to keep at most.
        most: share of the union.
    """
    top, left, bottom, right = np.ascontiguousarray(corners.T)
    alive = np.ones(len(area), bool)
    kept: list[int] = []
    while len(kept) < count:
        following = alive[kept[-1] + 1 if kept else 0 :]
        if not following.any():
            break
        one = int(following.argmax()) + len(alive) - len(following)
        kept.append(one)
        if not area[one] > 0:
            continue
        rest = slice(one + 1, None)
        touching = (np.minimum(bottom[one], bottom[rest]) > np.maximum(top[one], top[rest])) & (
            np.minimum(right[one], right[rest]) > np.maximum(left[one], left[rest])
        )
        near = np.flatnonzero(touching) + one + 1
        height = np.minimum(bottom[one], bottom[near]) - np.maximum(top[one], top[near])
        width = np.minimum(right[one], right[near]) - np.maximum(left[one], left[near])
        shared = height * width
        union = area[one] + area[near] - shared
        good = (shared > 0) & (area[near] > 0) & (union > 0)
        alive[near[good & (shared / np.where(good, union, 1) > most)]] = False
    return np.asarray(kept, np.intp)


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
                best = rest[_kept(corners[rest], area[rest], count, float(limit))]
                kept += [(image, label, int(one)) for one in best]
        return torch.tensor(kept, dtype=torch.int64).reshape(-1, 3)

    return forward
