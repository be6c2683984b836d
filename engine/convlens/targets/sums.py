"""Weighted sums of targets, as they are typed: ``0.7*conv5_3:43 + 0.3*281``, ``"tiger cat" - 285``.

A plus or minus stands between terms only with white space on both sides, as names hold hyphens. Names hold
white space and signs as well: what is a name as a whole is never split, and quotes keep any text together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from convlens.errors import LayerError, TargetError
from convlens.targets.target import Target, joined

SIGN = re.compile(r"\s+([+-])\s+")
_FIRST = re.compile(r"([+-])\s+")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEIGHT = re.compile(rf"(?P<weight>{_NUMBER})\s*\*\s*(?P<rest>\S.*)")
_QUOTED = r"(?P<quote>[\"'])(?P<name>.+?)(?P=quote)"
_KEPT = re.compile(rf"(?:{_NUMBER}\s*\*\s*)?{_QUOTED}(?=$|[@:\[]|\s+[+-]\s)")
_WHOLE = re.compile(rf"{_QUOTED}(?P<tail>(?:[@:\[].*)?)")


def weighted(terms: Sequence[tuple[float, Target]]) -> Target:
    """The weighted sum of targets.

    Args:
        terms: each weight with its target; a target that is a sum itself is taken apart.

    Raises:
        TargetError: nothing is left of it, a weight is not finite, or a target is the predicted class or a
            function, which cannot be added.
    """
    flat: list[tuple[float, Target]] = []
    for weight, target in terms:
        if not math.isfinite(weight):
            raise TargetError(f"{weight} x {target.text}: expected a finite weight")
        if target.kind == "callable":
            raise TargetError(f"{target.text} is a function, which cannot be added; add inside of it")
        if target.kind == "predicted" and target.index is None:
            raise TargetError(
                "the predicted class is another one on each image and cannot be added; name the class by its "
                "index or label"
            )
        inner = target.terms or ((1.0, target),)
        flat += [(float(weight) * own, term) for own, term in inner]
    if not any(weight for weight, _ in flat):
        raise TargetError("a sum of which every weight is 0; expected a term with another weight")
    settled = [len(term.each) for _, term in flat if term.each]
    each = tuple(joined([(w, term.words(i)) for w, term in flat]) for i in range(min(settled, default=0)))
    return Target("sum", "", joined([(w, term.text) for w, term in flat]), terms=tuple(flat), each=each)


@dataclass(frozen=True)
class _Piece:
    """What stands between two signs: its own sign, and where it lies in the text."""

    sign: float
    start: int
    stop: int


def read_sum(
    text: str,
    one: Callable[[str], Target],
    named: Callable[[str], bool],
    names: Iterable[str],
) -> Target | None:
    """The sum that a text stands for; None where it has no sign between terms and no weight.

    Args:
        text: as it was typed.
        one: reads a text that is no sum.
        named: whether a text as a whole is the name of something, with or without a channel or cells.
        names: everything that has a name; of interest are those that hold a sign between white space.

    Raises:
        TargetError: a term is nothing that the model has, or the text can be taken apart in several ways.
        LayerError: a term is no layer, channel or position of the model.
    """
    pieces = _pieces(text)
    if len(pieces) == 1 and pieces[0].start == 0 and not _WEIGHT.fullmatch(text):
        return None
    spaced = [name.lower() for name in names if SIGN.search(name)]
    found: dict[tuple[int, int], tuple[float, Target] | TargetError | LayerError] = {}

    def term(first: int, last: int) -> tuple[float, Target] | TargetError | LayerError:
        if (first, last) not in found:
            part = text[pieces[first].start : pieces[last].stop]
            try:
                weight, target = _term(part, one, named)
                found[first, last] = pieces[first].sign * weight, target
            except (TargetError, LayerError) as error:
                found[first, last] = error
        return found[first, last]

    def readings(first: int) -> list[list[tuple[int, int]]]:
        """Ways to take the pieces from ``first`` on together to terms that exist; two are enough."""
        if first == len(pieces):
            return [[]]
        ways: list[list[tuple[int, int]]] = []
        for last in range(first, len(pieces)):
            part = text[pieces[first].start : pieces[last].stop].lower()
            if last > first and not any(name in part for name in spaced):
                continue
            if isinstance(term(first, last), tuple):
                ways += [[(first, last), *rest] for rest in readings(last + 1)]
        return ways[:2]

    ways = readings(0)
    if len(ways) > 1:
        shown = " or as ".join(
            " and ".join(repr(text[pieces[a].start : pieces[b].stop]) for a, b in way) for way in ways
        )
        raise TargetError(f"{text!r} can be read as {shown}; put names with a sign in them into quotes")
    if not ways:
        errors = [told for at in range(len(pieces)) if not isinstance(told := term(at, at), tuple)]
        raise type(errors[0])(f"in {text!r}: {errors[0]}") from errors[0]
    terms = [told for way in ways[0] if isinstance(told := term(*way), tuple)]
    return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else weighted(terms)


def unquoted(text: str) -> str:
    """A text without the quotes around it, or around the name that it begins with."""
    match = _WHOLE.fullmatch(text)
    return match["name"] + match["tail"] if match else text.strip("\"'")


def _pieces(text: str) -> list[_Piece]:
    """The text at its signs; there are none inside of quotes that open where a term begins."""
    lead = _FIRST.match(text)
    at, sign = (lead.end(), lead[1]) if lead else (0, "+")
    pieces = []
    while True:
        kept = _KEPT.match(text, at)
        split = SIGN.search(text, kept.end() if kept else at)
        stop = split.start() if split else len(text)
        pieces.append(_Piece(-1.0 if sign == "-" else 1.0, at, stop))
        if split is None:
            return pieces
        at, sign = split.end(), split[1]


def _term(text: str, one: Callable[[str], Target], named: Callable[[str], bool]) -> tuple[float, Target]:
    """A weight and what it is for."""
    if not named(text) and (match := _WEIGHT.fullmatch(text)):
        return float(match["weight"]), one(match["rest"])
    return 1.0, one(text)
