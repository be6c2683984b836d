"""The whole inquiry: what is tried, the ranking, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.conventions import clues, evidence
from convlens.conventions.candidates import Convention, candidates, variants
from convlens.conventions.measure import Bench, Measured
from convlens.conventions.views import broken, changed
from convlens.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

CLEAR, CLOSE, OPEN = "clear", "cannot be told apart", "behaviour cannot tell"

#: Two conventions are one where answers differ by less than this share of what they differ between photos.
SAME = 0.01
#: A lead in score, and a share of the draws of photos in which it holds, that are called clear.
LEAD, HOLDS = 0.03, 0.95
#: Fewer photos than this tell nothing about how far the ranking hangs on the choice of photos.
PHOTOS = 4
_DRAWS, _FAR = 100, 0.08  # conventions that are further behind never came out ahead
_COMPARED = 3


@dataclass(slots=True)
class Tried:
    """One convention with what was found.

    Attributes:
        convention: what was tried.
        parts: each kind of evidence, 0 to 1.
        score: their weighted mean.
        lead: the score less that of the best that is no equivalent; negative for all but the first.
        holds: share of the draws of photos in which it is ahead of that one.
        shown: further numbers for people: confidence, entropy, agreement and the like.
        same: the names of conventions with practically the same answers.
    """

    convention: Convention
    parts: dict[str, float]
    score: float
    lead: float = 0.0
    holds: float = 0.0
    shown: dict[str, float] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Finding:
    """The ranking and the verdict: ``clear``, ``cannot be told apart`` or ``behaviour cannot tell``.

    Attributes:
        verdict: one of the three.
        why: sentences that say what it stands on.
        ranking: best first.
        photos: how many photos it stands on.
        changes: the small changes of each that were tried.
    """

    verdict: str
    why: list[str]
    ranking: list[Tried]
    photos: int
    changes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Plain data, as ``--json`` prints it."""
        rows = []
        for place, tried in enumerate(self.ranking, 1):
            one = tried.convention
            rows.append(
                {
                    "place": place,
                    "name": one.name,
                    "words": one.words,
                    "score": tried.score,
                    "lead": tried.lead,
                    "holds": tried.holds,
                    "evidence": tried.parts,
                    "measured": tried.shown,
                    "same": tried.same,
                    "input": one.settings(),
                    "inverted": one.inverted,
                }
            )
        weights = {kind: weight for kind, (weight, _) in evidence.KINDS.items()}
        return {
            "verdict": self.verdict,
            "why": self.why,
            "photos": self.photos,
            "changes": list(self.changes),
            "weights": weights,
            "ranking": rows,
        }

    def choose(self, which: str) -> Tried:
        """The convention of that place (1 is the first) or name, equivalents included by their own name.

        Raises:
            UsageError: there is none.
        """
        names = [tried.convention.name for tried in self.ranking]
        if which.isdigit() and 1 <= int(which) <= len(self.ranking):
            return self.ranking[int(which) - 1]
        for tried in self.ranking:
            if which.lower() == tried.convention.name.lower():
                return tried
        raise UsageError(
            f"no convention {which!r} in the ranking; expected 1 to {len(names)} or: {', '.join(names)}"
        )


def investigate(
    model: Model,
    views: NDArray[np.uint8],
    truth: Sequence[int] | None = None,
    batch_size: int = 4,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Finding:
    """Try every convention in use on ``views`` (P x height x width x channels, RGB or grey, 0 to 255).

    Args:
        model: the model; neither card nor labels are needed.
        views: photos of the kind that the model is for, fitted to its size.
        truth: index of the true class of each, where it is known.
        batch_size: images in one forward.
        seed: for the photos in pieces, the noise and the draws.
        progress: called with the share that is done.

    Raises:
        UsageError: no photo.
        UnsupportedError: onnxruntime cannot run the model on such pictures.
    """
    if not len(views):
        raise UsageError("no photos; expected some of the kind that the model is for")
    bench = Bench(model, views, changed(views), broken(views, seed), batch_size)
    affine = clues.leading(model.graph, model.source.name)
    ways = candidates(views.shape[-1], model.source.dtype)
    found: dict[str, tuple[Convention, Measured]] = {}
    report = progress or (lambda _share: None)

    def take(one: Convention) -> None:
        found[one.name] = one, bench.measure(one)
        report(len(found) / (len(ways) + 4))

    for one in ways:
        take(one)
    draws = _draws(len(views), seed)

    def ranked() -> list[Tried]:
        return _ranked(found, bench, truth, affine)

    first = ranked()
    for tried in first[:2] if len(ways) > 2 else ():
        base = _answer(found[tried.convention.name][1])
        for other in variants(tried.convention):
            if apart(base, bench.answer(other)) >= SAME and other.name not in found:
                take(other)
    ranking = ranked()
    _equivalents(ranking, found, bench)
    _leads(ranking, found, draws, bench, truth, affine)
    verdict, why = _verdict(ranking, found, model, len(views))
    report(1.0)
    return Finding(verdict, why, ranking, len(views), tuple(bench.changed))


def apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean squared difference of two sets of answers, as a share of their variance between photos."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()), 1e-30)
    a, b = a / scale, b / scale
    spread = min(np.square(x - x.mean(axis=0)).sum(axis=1).mean() for x in (a, b))
    difference = float(np.square(a - b).sum(axis=1).mean())
    return difference / float(spread) if spread > 0 else (0.0 if difference == 0 else np.inf)


def _draws(count: int, seed: int) -> list[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, count, count) for _ in range(_DRAWS)]


Found = dict[str, tuple[Convention, Measured]]


def _parts(found: Found, name: str, photos: Any, bench: Bench, truth: Any, affine: Any) -> evidence.Parts:
    convention, measured = found[name]
    graph = None if affine is None else clues.fits(convention, affine)
    return evidence.parts(measured, photos, bench.places.batchnorms, truth, graph)


def _ranked(found: Found, bench: Bench, truth: Any, affine: Any) -> list[Tried]:
    everything = np.arange(len(bench.views))
    ranking = []
    for name, (convention, measured) in found.items():
        parts = _parts(found, name, everything, bench, truth, affine)
        ranking.append(Tried(convention, parts, evidence.total(parts), shown=_shown(measured, bench)))
    heads = {tried.convention.name: tried.score for tried in ranking}
    return sorted(ranking, key=lambda tried: (-heads[_head(tried.convention)], -tried.score))


def _head(convention: Convention) -> str:
    """The convention that stands for the family: more attempts must not be more chances to win."""
    _, _, way = convention.name.partition(" ")
    return f"{convention.family} {way}".strip() if convention.family else convention.name


def _shown(measured: Measured, bench: Bench) -> dict[str, float]:
    everything = np.arange(len(bench.views))
    found: dict[str, float] = {}
    if measured.scores is not None:
        p = evidence.softmax(measured.scores)
        found["confidence"] = float(p[0].max(axis=-1).mean())
        found["entropy"] = float(evidence.entropy(p[0]).mean())
        for how, scores in measured.broken.items():
            found[f"entropy, {how}"] = float(evidence.entropy(evidence.softmax(scores)).mean())
        found["agreement"] = evidence.stability(p)
        found["classes"] = float(len(set(p[0].argmax(axis=-1).tolist())))
    if measured.active:
        never = [(active.max(axis=0) == 0).mean() for active in measured.active.values()]
        found["dead channels"] = float(np.mean(never))
    if bench.places.batchnorms:
        found["batchnorm divergence"] = evidence.mismatch(measured, everything, bench.places.batchnorms)
    return found


def _equivalents(ranking: list[Tried], found: Found, bench: Bench) -> None:
    """Note for the first few which others give nearly the same answers, close relatives included."""
    answers = {name: _answer(measured) for name, (_, measured) in found.items()}
    for tried in ranking[:_COMPARED]:
        others = [v for v in variants(tried.convention) if v.name not in answers]
        near = {**answers, **{v.name: bench.answer(v) for v in others}}
        own = answers[tried.convention.name]
        tried.same = [n for n, a in near.items() if n != tried.convention.name and apart(own, a) < SAME]


def _answer(measured: Measured) -> NDArray[np.float64]:
    """The scores of the photos as they are, or the features where there are none: P x K."""
    return np.asarray((measured.features if measured.scores is None else measured.scores)[0])


def _leads(
    ranking: list[Tried], found: Found, draws: list[Any], bench: Bench, truth: Any, affine: Any
) -> None:
    """Fill in leads and how often they hold when photos are drawn anew."""
    first = ranking[0]
    rivals = [t for t in ranking[1:] if t.convention.name not in first.same]
    if not rivals:
        first.lead, first.holds = first.score, 1.0
        return

    def drawn(tried: Tried) -> NDArray[np.float64]:
        name = tried.convention.name
        return np.array([evidence.total(_parts(found, name, d, bench, truth, affine)) for d in draws])

    own = drawn(first)
    first.lead = first.score - max(tried.score for tried in rivals)
    for tried in ranking[1:]:
        tried.lead = tried.score - first.score
        if tried.score > first.score - _FAR:
            tried.holds = float((drawn(tried) > own).mean())
    first.holds = 1.0 - max(t.holds for t in rivals)


def _verdict(ranking: list[Tried], found: Found, model: Model, photos: int) -> tuple[str, list[str]]:
    first = ranking[0]
    order = clues.order_in_weights(model.graph)
    strong = {"labels", "batchnorm", "graph"} & set(first.parts)
    why: list[str] = []
    if order is not None and order < clues.LEARNT:
        why.append(
            f"the weights cannot be told from random ones ({order:.1f} standard deviations from chance, "
            f"expected more than {clues.LEARNT:g}), so what the model does says nothing about its training"
        )
    if photos < PHOTOS:
        why.append(f"{photos} photos are too few; expected {PHOTOS} or more")
    measured = found[first.convention.name][1]
    gain = _gain(measured)
    if not strong and gain is not None and gain < 0:
        why.append(
            "photos in pieces give surer predictions than whole photos, so these photos mean nothing to the "
            "model; give photos of the kind that it is for"
        )
    if first.convention.inverted:
        why.append("black and white exchanged comes out in front, which no card can say; invert the photos")
    if why:
        return OPEN, why
    rivals = [t for t in ranking[1:] if t.convention.name not in first.same]
    near = [t for t in rivals if t.score > first.score - LEAD or t.holds > 1 - HOLDS]
    rank = f"comes first with a margin of {first.lead:+.3f}"
    words = f"{first.convention.name} {rank}, kept in {first.holds:.0%} of the draws of photos"
    if not near:
        return CLEAR, [words]
    if len(near) == 1:
        return CLOSE, [
            f"{first.convention.name} and {near[0].convention.name} are too close: {words}; called clear are "
            f"{LEAD} and {HOLDS:.0%}"
        ]
    names = ", ".join(t.convention.name for t in [first, *near])
    return OPEN, [f"{len(near) + 1} conventions are too close to each other ({names}): {words}"]


def _gain(measured: Measured) -> float | None:
    """Entropy of photos in pieces less that of whole photos, None where the model has under three classes."""
    if measured.scores is None or measured.scores.shape[-1] < 3 or "pieces" not in measured.broken:
        return None
    whole = evidence.entropy(evidence.softmax(measured.scores[0])).mean()
    pieces = evidence.entropy(evidence.softmax(measured.broken["pieces"])).mean()
    return float(pieces - whole)
