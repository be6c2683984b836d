"""What faithfulness measured, in words: the same for one method and in a report."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from convlens.attribution.faithful.ordering import advantage

CLEAR = 2.0
"""Standard deviations of random orders from which on a map is better, or worse, than a random order."""

STAYS, PARTLY = 0.5, 0.25
"""Rank correlation from which on a map hardly changes, or changes in part, when weights become random."""

Order = Literal["better", "same", "worse", "unknown"]
Outcome = Literal["stays", "partly", "changes", "broken"]


def order_outcome(own: Any, random: Any) -> Order:
    """How deletion by a map compares with deletion in random order: areas N, and N x orders."""
    sigmas = advantage(np.asarray(own), np.asarray(random))
    if not np.isfinite(sigmas):
        return "unknown"
    return "better" if sigmas >= CLEAR else "worse" if sigmas <= -CLEAR else "same"


def random_outcome(rank: Any, usable: Any) -> Outcome:
    """What became of the maps of several images when weights became random."""
    there = np.asarray(usable, bool)
    if not there.any():
        return "broken"
    alike = float(np.abs(np.asarray(rank)[there]).mean())
    return "stays" if alike >= STAYS else "partly" if alike >= PARTLY else "changes"


def order_words(outcome: Order, own: float, random: float) -> str:
    """One sentence on deletion."""
    areas = f"area {own:.3g} against {random:.3g}"
    return {
        "better": f"Hiding what it marks first lowers the target sooner than hiding at random ({areas}).",
        "same": "Not clearly better than random: hiding what it marks first does not lower the target "
        f"sooner than a lucky random order may ({areas}).",
        "worse": f"Worse than random: what it marks first can be hidden at little cost ({areas}).",
        "unknown": "Whether it beats a random order cannot be told: the target is not a finite number.",
    }[outcome]


def random_words(outcome: Outcome, alike: float, random: int, count: int, noun: str = "picture") -> str:
    """One sentence on the randomisation of the last ``random`` of ``count`` layers."""
    of = "all layers" if random == count else f"the last {random if random > 1 else ''} of {count} layers"
    of = " ".join(of.split())
    level = f"rank correlation {alike:.2f}"
    return {
        "stays": f"This map hardly changes when the weights of {of} are random ({level}): it shows the "
        f"{noun}'s own edges and structure, not what the model learnt there.",
        "partly": f"Part of this map stays when the weights of {of} are random ({level}), so part of it "
        f"is the {noun}'s own structure.",
        "changes": f"It changes when the weights of {of} are random ({level}), as a map of what the model "
        "learnt must.",
        "broken": f"With random weights in {of} the network gives no map that could be compared.",
    }[outcome]
