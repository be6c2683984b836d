"""How sure the ranking is: leads over draws of photos, and whether what is left open changes the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convlens.conventions import clues, evidence
from convlens.conventions.findings import CLEAR, CLOSE, OPEN, Tried
from convlens.conventions.views import coloured, pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.conventions.investigate import Inquiry
    from convlens.conventions.measure import Measured

#: A lead in score that counts, where evidence settles the matter and where there is behaviour alone, and the
#: share of the draws of photos in which it has to hold.
LEAD, MARGIN, HOLDS = 0.03, 0.1, 0.95
#: Answers are the same in practice with so many top classes in common, and so little of the probabilities
#: in another place (total variation, mean over photos).
AGREE, MOVED = 0.9, 0.15
#: Fewer photos than this tell nothing about how far the ranking hangs on the choice of photos.
PHOTOS = 4
_DRAWS, _SURE = 100, 0.99


def judge(inquiry: Inquiry, ranking: list[Tried], seed: int) -> tuple[str, list[str]]:
    """The verdict on a ranking and the sentences that say why; leads and agreement are filled in."""
    _leads(inquiry, ranking, seed)
    if _promoted(ranking):
        _leads(inquiry, ranking, seed)
    first, photos = ranking[0], len(inquiry.everything)
    settled = evidence.settled(first.parts)
    least = LEAD if settled else MARGIN
    _likeness(inquiry, ranking)
    why = _nothing_to_learn(inquiry, first, settled, photos, seed)
    if why:
        return OPEN, why
    near = [t for t in ranking[1:] if t.score > first.score - least or t.holds > 1 - HOLDS]
    # close relatives are rarer: one that does not fit better is named, and no rival
    rare = [t for t in near if t.convention.family and t.holds < 0.5 and t.lead <= 0]
    aside = [f"rarer, and not ruled out: {_likened(t, photos)}" for t in rare]
    near = [t for t in near if t not in rare]
    others = [t for t in ranking[1:] if t not in rare]
    first.lead = min((-t.lead for t in others), default=first.score)
    first.holds = 1.0 - max((t.holds for t in others), default=0.0)
    on = " and ".join(settled) or "behaviour alone"
    rank = (
        f"{first.name} comes first by {first.lead:.3f} on {on}, in {first.holds:.0%} of the draws of photos"
    )
    if not near:
        return CLEAR, [first.name, rank, *aside]
    if first.lead <= 0:  # close relatives stand behind the convention that they belong to
        better = max(near, key=lambda t: t.score)
        rank = f"{better.name} fits {-first.lead:.3f} better, in {better.holds:.0%} of the draws of photos"
    matter = [t for t in near if not _harmless(inquiry, first, t)]
    if not matter:
        return CLEAR, [
            f"{first.name}, up to differences that do not change the answers",
            *(f"not told from {_likened(t, photos)}" for t in near),
            *aside,
        ]
    why = [f"{rank}; a lead of {least:g} in {HOLDS:.0%} would be clear"]
    if inquiry.truth is None and "information" in first.parts:
        why.append("the true classes of the photos (--true) would tell more than all else")
    if len(matter) == 1:
        return CLOSE, [f"{first.name} or {_likened(matter[0], photos)}", *why]
    return OPEN, [f"{first.name}, or one of {_names(matter)}, which answer differently", *why]


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean squared difference of two sets of answers, as a share of their variance between photos."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()), 1e-30)
    a, b = a / scale, b / scale
    spread = min(np.square(x - x.mean(axis=0)).sum(axis=1).mean() for x in (a, b))
    difference = float(np.square(a - b).sum(axis=1).mean())
    return difference / float(spread) if spread > 0 else (0.0 if difference == 0 else np.inf)


def _leads(inquiry: Inquiry, ranking: list[Tried], seed: int) -> None:
    """Fill in leads and how often they hold when photos are drawn anew."""
    first, count = ranking[0], len(inquiry.everything)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, count, count) for _ in range(_DRAWS)]

    def drawn(tried: Tried) -> NDArray[np.float64]:
        return np.array([evidence.total(inquiry.parts(tried.name, draw)) for draw in draws])

    own = drawn(first)
    for tried in ranking[1:]:
        tried.holds = 0.0
        tried.lead = tried.score - first.score
        if inquiry.found[tried.name].whole and tried.lead > -MARGIN:
            tried.holds = float((drawn(tried) >= own).mean())
    first.lead = min((-t.lead for t in ranking[1:]), default=first.score)
    first.holds = 1.0 - max((t.holds for t in ranking[1:]), default=0.0)


def _promoted(ranking: list[Tried]) -> bool:
    """Put a close relative of the first in front where labels or the like leave no doubt."""
    first = ranking[0]
    for tried in ranking[1:]:
        sure = tried.lead >= LEAD and tried.holds >= _SURE and evidence.settled(tried.parts)
        if tried.head == first.head and sure:
            ranking.remove(tried)
            ranking.insert(0, tried)
            return True
    return False


def _likeness(inquiry: Inquiry, ranking: list[Tried]) -> None:
    """Fill in how far each gives the answers that the first gives, on the photos as they are."""
    base = inquiry.found[ranking[0].name]
    if base.scores is None:
        return
    for tried in ranking:
        p, q = base.probabilities[0], inquiry.found[tried.name].probabilities[0]
        tried.agrees = int((p.argmax(axis=-1) == q.argmax(axis=-1)).sum())
        tried.moved = float(np.abs(p - q).sum(axis=-1).mean() / 2)


def _harmless(inquiry: Inquiry, first: Tried, other: Tried) -> bool:
    """Whether the answers are the same in practice. It takes different answers and colours to see that."""
    p = inquiry.found[first.name].probabilities
    if not p.size:
        return False
    classes = len(set(p[0].argmax(axis=-1).tolist()))
    if classes < min(3, p.shape[-1]):
        return False
    chosen = inquiry.everything
    if first.convention.channels != other.convention.channels:
        chosen = chosen[coloured(inquiry.bench.views)]
    if len(chosen) < PHOTOS:
        return False
    p, q = p[0, chosen], inquiry.found[other.name].probabilities[0, chosen]
    agree = float((p.argmax(axis=-1) == q.argmax(axis=-1)).mean())
    return agree >= AGREE and float(np.abs(p - q).sum(axis=-1).mean() / 2) <= MOVED


def _nothing_to_learn(
    inquiry: Inquiry, first: Tried, settled: list[str], photos: int, seed: int
) -> list[str]:
    """Reasons for which no ranking counts."""
    why: list[str] = []
    order = clues.order_in_weights(inquiry.model.graph)
    if order is not None and order < clues.LEARNT:
        why.append(
            f"the weights cannot be told from random ones ({order:.1f} standard deviations from chance, "
            f"expected more than {clues.LEARNT:g}), so what the model does says nothing about its training"
        )
    if photos < PHOTOS:
        why.append(f"{photos} photos are too few; expected {PHOTOS} or more")
    if not first.parts:
        why.append("the model has no class scores, no rectifiers and no BatchNormalization to go by")
    if "labels" in first.parts and "labels" not in settled:
        why.append(
            f"the true classes are not found under any convention (likelihood {first.parts['labels']:.2f} of "
            "1 above chance at best), so the labels are of other classes or the photos are cut otherwise"
        )
    if not settled and (gain := _gain(inquiry, first, seed)) is not None and gain < 0:
        why.append(
            "photos in pieces give surer predictions than whole photos, so these photos mean nothing to the "
            "model; give photos of the kind that it is for"
        )
    if first.convention.inverted:
        why.append(f"{first.name} comes out in front, which no card can say; invert the photos and try again")
    return why


def _gain(inquiry: Inquiry, first: Tried, seed: int) -> float | None:
    """Entropy of photos in pieces less that of whole photos, None where the model has under three classes."""
    measured: Measured = inquiry.found[first.name]
    if measured.scores is None or measured.scores.shape[-1] < 3:
        return None
    scores = inquiry.bench.scores(first.convention, pieces(inquiry.bench.views, seed))
    if scores is None:
        return None
    whole = evidence.entropy(measured.probabilities[0]).mean()
    return float(evidence.entropy(evidence.softmax(scores)).mean() - whole)


def _names(some: list[Tried]) -> str:
    return ", ".join(tried.name for tried in some)


def _likened(other: Tried, photos: int) -> str:
    if other.agrees < 0:
        return other.name
    return (
        f"{other.name} (same top class on {other.agrees} of {photos} photos, {other.moved:.2f} of the "
        "probability in another place)"
    )
