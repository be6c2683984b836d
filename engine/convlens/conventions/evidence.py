"""From what was measured to numbers between 0 and 1, one a kind of evidence, for any choice of the photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.conventions.measure import Measured

#: What each kind of evidence counts in the score, and what it is.
KINDS: Mapping[str, tuple[float, str]] = {
    "labels": (4.0, "how often and how surely the true class is found, over small changes of photos"),
    "batchnorm": (4.0, "fit of the statistics at the BatchNormalizations to the recorded ones"),
    "graph": (2.0, "fit to the normalisation that the graph begins with"),
    "information": (2.0, "what predictions tell about the photo, over small changes of it"),
    "activity": (2.0, "how evenly the channels of the later layers are used"),
    "contrast": (0.5, "whether the model is surer of photos than of broken ones; not asked with two classes"),
    "working": (1.0, "share of the channels that are neither always on nor never"),
    "identity": (0.5, "how far apart photos are in the features, against small changes of them"),
}
#: A difference between the two largest scores before the softmax beyond which no training goes on: the loss
#: is then below what single precision holds.
_NO_LOSS = 25.0
_ENOUGH_CONTRAST = 0.1
_MISMATCH = 0.2  # nats a channel at which the fit counts one half

Parts = dict[str, float]


def parts(
    measured: Measured,
    photos: NDArray[np.intp],
    recorded: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    truth: Sequence[int] | None,
    graph: float | None,
) -> Parts:
    """Every kind of evidence that there is, from the photos chosen (indices, repeated ones count again)."""
    found: Parts = {}
    if measured.scores is not None:
        p = measured.probabilities[:, photos]
        plausible = _plausible(measured.scores[0, photos])
        if truth is not None:
            true = np.asarray(truth)[photos]
            sure = p[:, np.arange(len(true)), true]
            found["labels"] = float(((p.argmax(axis=-1) == true).mean() + sure.mean()) / 2)
        found["information"] = information(p) * plausible
        if p.shape[-1] > 2:
            gain = measured.lost[photos].mean() / _ENOUGH_CONTRAST
            found["contrast"] = float(np.clip(gain, 0, 1)) * plausible
    if measured.active:
        found["activity"] = activity(measured, photos)
        found["working"] = working(measured, photos)
    found["identity"] = identity(measured.features[:, photos])
    if recorded and measured.moments:
        found["batchnorm"] = 1 / (1 + mismatch(measured, photos, recorded) / _MISMATCH)
    if graph is not None:
        found["graph"] = graph
    return found


def total(found: Parts) -> float:
    """The weighted mean of the evidence, 0 to 1."""
    weights = [KINDS[kind][0] for kind in found]
    return float(np.average(list(found.values()), weights=weights))


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores as probabilities over their last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy over the last axis, in nats."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1))


def information(p: NDArray[np.float64]) -> float:
    """Mutual information between photo and prediction, over all versions, as a share of what tells all apart.

    Args:
        p: probabilities, versions x photos x classes. A prediction that changes with the version tells less
            about the photo; so does one that is the same for all photos, or unsure.
    """
    most = np.log(p.shape[1])
    each = p.mean(axis=0)
    told = entropy(each.mean(axis=0)) - entropy(each).mean()
    return float(max(told, 0.0) / most) if most > 0 else 0.0


def stability(p: NDArray[np.float64]) -> float:
    """Share of changed photos whose top class is that of the photo itself."""
    best = p.argmax(axis=-1)
    return float((best[1:] == best[0]).mean()) if len(best) > 1 else 1.0


def activity(measured: Measured, photos: NDArray[np.intp]) -> float:
    """Entropy of being active, in bits: mean over the channels of the later two thirds of the rectifiers.

    1 where each channel is active at half of all places, 0 where each is always on or never.
    """
    taps = list(measured.active.values())
    found = []
    for active in taps[len(taps) // 3 :]:
        share = active[photos].mean(axis=0)
        both = np.stack([share, 1 - share], axis=-1)
        found.append(entropy(both).mean() / np.log(2))
    return float(np.mean(found)) if found else 0.0


def working(measured: Measured, photos: NDArray[np.intp]) -> float:
    """Share of the rectifiers' channels that are active somewhere in these photos, and not everywhere."""
    found = []
    for active in measured.active.values():
        share = active[photos].mean(axis=0)
        found.append(((share > 0) & (share < 1)).mean())
    return float(np.mean(found))


def identity(features: NDArray[np.float64]) -> float:
    """Intra-class correlation: variance between photos against that with the changes of each included."""
    if features.shape[1] < 2:
        return 0.0
    scaled = features / max(float(np.abs(features).max()), 1e-30)
    centre = scaled.mean(axis=0)
    within = np.square(scaled - centre).sum(axis=-1).mean()
    between = np.square(centre - centre.mean(axis=0)).sum(axis=-1).mean()
    return float(between / (within + between)) if within + between > 0 else 0.0


def mismatch(
    measured: Measured,
    photos: NDArray[np.intp],
    recorded: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
) -> float:
    """How far what BatchNormalizations read is from what training recorded, as normal distributions.

    Kullback-Leibler, in nats a channel; mean over channels, median over layers.
    """
    layers = []
    for name, (mean, var) in recorded.items():
        first, second = (moment[photos].mean(axis=0) for moment in measured.moments[name])
        known = np.maximum(var, 1e-12)
        ratio = np.maximum(second - first**2, 1e-12) / known
        layers.append(0.5 * float(np.mean(ratio + (first - mean) ** 2 / known - 1 - np.log(ratio))))
    return max(float(np.median(layers)), 0.0)


def _plausible(scores: NDArray[np.float64]) -> float:
    """1 where the two largest scores lie as far apart as training leaves them, falling to 0 far beyond."""
    top = np.sort(scores, axis=-1)[:, -2:]
    apart = float(np.median(top[:, 1] - top[:, 0]))
    return float(min(1.0, _NO_LOSS / apart)) if apart > 0 else 1.0
