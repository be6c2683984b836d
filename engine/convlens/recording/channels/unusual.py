"""How unusual a channel's value is, held against every image that was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.tallies import Strongest, Tally

_SAME = 1e-5
"""Of a value: what another batch size may change of it, so that an image counts as its own equal."""


def share_below(tally: Tally, strongest: Strongest, values: NDArray[Any]) -> NDArray[np.float64]:
    """The share of the recorded images on which a channel stays below a value; never told too large.

    It is exact where the value is among the strongest that were kept; elsewhere images whose largest value is
    in the same bin of the histogram, a fifth wide, do not count.

    Args:
        tally: of the layer.
        strongest: its strongest places, channels x k.
        values: N x channels.

    Returns:
        N x channels, zero where nothing was recorded.
    """
    values = np.asarray(values, np.float64)
    values = values - _SAME * np.abs(values)
    total = tally.histogram.sum(axis=1)
    kept = strongest.image >= 0
    reached = (kept & (strongest.value >= values[:, :, None])).sum(axis=2)
    least = np.where(kept, strongest.value, np.inf).min(axis=1)
    complete = kept.sum(axis=1) == total
    known = ((values > least) | complete) & (total > 0)
    exact = np.divide(total - reached, total, out=np.zeros(values.shape), where=known)
    return np.asarray(np.where(known, exact, tally.share_below(values)))


def times(values: NDArray[Any], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """``values`` (N x channels) over what is usual; zero where that is not above zero, or not known."""
    known = np.isfinite(usual) & (usual > 0)
    return np.asarray(np.divide(values, usual, out=np.zeros(values.shape), where=known))


def ranked(share: NDArray[np.float64], ratio: NDArray[np.float64], values: NDArray[Any]) -> NDArray[np.int64]:
    """Channels from the most unusual, N x channels: by their share, then the ratio, then the value.

    A channel that never fired when it was recorded has no ratio; of the same share it comes first.
    """
    larger = np.where((ratio == 0) & (values > 0), np.inf, ratio)
    return np.lexsort((-values, -larger, -share), axis=1)
