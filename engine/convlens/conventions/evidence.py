"""From what was measured to numbers between 0 and 1, one a kind of evidence, for any choice of the photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.conventions.measure import Measured

#: What each kind of evidence counts in the score, and what it is. Labels outweigh everything together that
#: needs none; what training recorded in the file outweighs what the model merely does.
KINDS: Mapping[str, tuple[float, str]] = {
    "labels": (
        12.0,
        "log-likelihood of the true classes: 1 where all are sure, 0 where no better than chance",
    ),
    "batchnorm": (4.0, "fit of the statistics at the BatchNormalizations to the recorded ones"),
    "graph": (4.0, "fit to the normalisation that the graph begins with"),
    "information": (1.0, "what predictions tell about the photo, over small changes of it"),
    "activity": (1.0, "how evenly the channels of the later layers are used"),
}
#: Evidence that settles the matter where it is at least so good: more than what a model does by itself.
SETTLES: Mapping[str, float] = {"labels": 0.1, "batchnorm": 0.3, "graph": 1.0}
#: A difference between the two largest scores before the softmax beyond which no training goes on: the loss
#: is then below what single precision holds.
_NO_LOSS = 25.0
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
        if truth is not None:
            found["labels"] = likelihood(p, np.asarray(truth)[photos])
        found["information"] = information(p) * _plausible(measured.scores[0, photos])
    if measured.active:
        found["activity"] = activity(measured, photos)
    if recorded and measured.moments:
        found["batchnorm"] = 1 / (1 + mismatch(measured, photos, recorded) / _MISMATCH)
    if graph is not None:
        found["graph"] = graph
    return {kind: found[kind] for kind in KINDS if kind in found}


def total(found: Parts) -> float:
    """The weighted mean of the evidence, 0 to 1; 0 where there is none."""
    weights = [KINDS[kind][0] for kind in found]
    return float(np.average(list(found.values()), weights=weights)) if found else 0.0


def settled(found: Parts) -> list[str]:
    """The kinds of evidence that go beyond what a model does by itself, where they are good enough."""
    return [kind for kind, least in SETTLES.items() if found.get(kind, 0.0) >= least]


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores as probabilities over their last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy over the last axis, in nats."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1))


def likelihood(p: NDArray[np.float64], true: NDArray[np.intp]) -> float:
    """Mean log-likelihood of the true classes as a share of the way from chance (0) to certainty (1).

    Args:
        p: probabilities, versions x photos x classes; versions of one photo count as one, a photo that is
            missed by much counts as one that is guessed at with a hundredth of chance.
        true: class of each photo.
    """
    classes = p.shape[-1]
    sure = np.log(np.maximum(p[:, np.arange(len(true)), true], 0.01 / classes)).mean()
    return float(max(1.0 + sure / np.log(classes), 0.0))


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
