"""What comes out: every convention that was tried with what was found, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convlens.conventions import evidence
from convlens.conventions.candidates import Convention
from convlens.errors import UsageError

CLEAR, CLOSE, OPEN = "clear", "cannot be told apart", "behaviour cannot tell"


@dataclass(slots=True)
class Tried:
    """One convention with what was found.

    Attributes:
        convention: what was tried.
        parts: each kind of evidence, 0 to 1.
        score: their weighted mean.
        lead: the score less that of the best rival; negative for all but the first.
        holds: share of the draws of photos in which it is ahead of that one (of the first, for the others).
        shown: further numbers for people: accuracy, confidence, entropy, agreement over small changes.
        agrees: photos to which it gives the top class that the first convention gives; -1 without classes.
        moved: what changes in the probabilities against the first: total variation, 0 to 1, mean over photos.
        same: the names of conventions with practically the same answers.
    """

    convention: Convention
    parts: dict[str, float]
    score: float
    lead: float = 0.0
    holds: float = 0.0
    shown: dict[str, float] = field(default_factory=dict)
    agrees: int = -1
    moved: float = 1.0
    same: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The convention's name."""
        return self.convention.name

    @property
    def head(self) -> str:
        """The convention that stands for the family: more attempts must not be more chances to win."""
        _, _, way = self.name.partition(" ")
        family = self.convention.family
        return f"{family} {way}".strip() if family else self.name


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
                    "agrees": tried.agrees if tried.agrees >= 0 else None,
                    "moved": tried.moved if tried.agrees >= 0 else None,
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
        """The convention of that place (1 is the first) or name.

        Raises:
            UsageError: there is none.
        """
        names = [tried.name for tried in self.ranking]
        if which.isdigit() and 1 <= int(which) <= len(self.ranking):
            return self.ranking[int(which) - 1]
        for tried in self.ranking:
            if which.lower() == tried.name.lower():
                return tried
        raise UsageError(
            f"no convention {which!r} in the ranking; expected 1 to {len(names)} or: {', '.join(names)}"
        )
