"""The whole inquiry: what is tried, in which order, and the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from convlens.conventions import clues, evidence
from convlens.conventions.candidates import Convention, candidates, variants
from convlens.conventions.findings import Finding, Tried
from convlens.conventions.measure import Bench, Measured
from convlens.conventions.verdict import MARGIN, apart, judge
from convlens.conventions.views import changed
from convlens.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

#: Two conventions are one where answers differ by less than this share of what they differ between photos.
SAME = 0.01
_FAMILIES = 2  # whose close relatives are tried


class Inquiry:
    """Conventions tried on one model and the same photos; each is measured once."""

    def __init__(
        self, model: Model, views: NDArray[np.uint8], truth: Sequence[int] | None, batch_size: int
    ) -> None:
        """Nothing is run yet; the arguments are those of :func:`investigate`."""
        self.model, self.truth = model, truth
        self.bench = Bench(model, views, changed(views), batch_size)
        self.affine = clues.leading(model.graph, model.source.name)
        self.everything = np.arange(len(views))
        self.conventions: dict[str, Convention] = {}
        self.found: dict[str, Measured] = {}

    def look(self, one: Convention) -> None:
        """Measure a convention on the photos as they are."""
        self.conventions[one.name], self.found[one.name] = one, self.bench.look(one)

    def change(self, name: str) -> None:
        """Measure it on the small changes, too."""
        if not self.found[name].whole:
            self.found[name] = self.bench.change(self.conventions[name], self.found[name])

    def parts(self, name: str, photos: NDArray[np.intp]) -> evidence.Parts:
        """The evidence for a convention from the photos chosen."""
        graph = None if self.affine is None else clues.fits(self.conventions[name], self.affine)
        return evidence.parts(self.found[name], photos, self.bench.places.batchnorms, self.truth, graph)

    def score(self, name: str) -> float:
        """Its score from all photos. Small changes only ever take from what predictions tell."""
        return evidence.total(self.parts(name, self.everything))

    def promising(self) -> str | None:
        """The best that has not been changed yet and may still come within the margin of the first."""
        scores = {name: self.score(name) for name in self.found}
        best = max((s for name, s in scores.items() if self.found[name].whole), default=0.0)
        left = [name for name, s in scores.items() if not self.found[name].whole and s > best - MARGIN]
        return max(left, key=scores.__getitem__, default=None)

    def ranking(self) -> list[Tried]:
        """Best first, close relatives behind the convention that they belong to."""
        tried = [
            Tried(one, parts, evidence.total(parts), shown=self.shown(name))
            for name, one in self.conventions.items()
            for parts in (self.parts(name, self.everything),)
        ]
        heads = {(t.name, self.found[t.name].whole): t.score for t in tried}

        def order(t: Tried) -> tuple[bool, float, float]:
            whole = self.found[t.head].whole
            return not whole, -heads[t.head, whole], -t.score if t.name != t.head else -2.0

        return sorted(tried, key=order)

    def shown(self, name: str) -> dict[str, float]:
        """Further numbers for people."""
        measured, found = self.found[name], {}
        if measured.scores is not None:
            p = measured.probabilities
            if self.truth is not None:
                found["accuracy"] = float((p[0].argmax(axis=-1) == np.asarray(self.truth)).mean())
            found["confidence"] = float(p[0].max(axis=-1).mean())
            found["entropy"] = float(evidence.entropy(p[0]).mean())
            if measured.whole:
                found["agreement"] = evidence.stability(p)
        return found


def investigate(
    model: Model,
    views: NDArray[np.uint8],
    truth: Sequence[int] | None = None,
    batch_size: int = 4,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Finding:
    """Try every convention in use on ``views`` (P x height x width x channels, RGB or grey, 0 to 255).

    All are tried on the photos as they are, then on small changes of them as long as the next best could
    still come close to the first, then the close relatives of the best.

    Args:
        model: the model; neither card nor labels are needed.
        views: photos of the kind that the model is for, fitted to its size.
        truth: index of the true class of each, where it is known.
        batch_size: images in one forward.
        seed: for the photos in pieces and the draws.
        progress: called with the share that is done.

    Raises:
        UsageError: no photo.
        UnsupportedError: onnxruntime cannot run the model on such pictures.
    """
    if not len(views):
        raise UsageError("no photos; expected some of the kind that the model is for")
    inquiry = Inquiry(model, views, truth, batch_size)
    report = progress or (lambda _share: None)
    ways = candidates(views.shape[-1], model.source.dtype)
    for number, one in enumerate(ways, 1):
        inquiry.look(one)
        report(0.4 * number / len(ways))
    while (name := inquiry.promising()) is not None:
        inquiry.change(name)
        report(0.4 + 0.3 * sum(m.whole for m in inquiry.found.values()) / len(ways))
    report(0.7)
    first = [t.convention for t in inquiry.ranking() if inquiry.found[t.name].whole][:_FAMILIES]
    alike: dict[str, list[str]] = {}
    for base in first:
        for other in variants(base, min(views.shape[1:3])):
            if other.name in inquiry.found:
                continue
            inquiry.look(other)
            if apart(inquiry.found[base.name].answer, inquiry.found[other.name].answer) < SAME:
                alike.setdefault(base.name, []).append(other.name)
                del inquiry.found[other.name], inquiry.conventions[other.name]
            else:
                inquiry.change(other.name)
    ranking = inquiry.ranking()
    for tried in ranking:
        tried.same = alike.get(tried.name, [])
    verdict, why = judge(inquiry, ranking, seed)
    report(1.0)
    return Finding(verdict, why, ranking, len(views), tuple(inquiry.bench.changed))
