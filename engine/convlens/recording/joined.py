"""Several data sets one after the other, as one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from convlens.errors import UsageError
from convlens.recording.source import columns_of, open_source

if TYPE_CHECKING:
    from convlens.cards import Card
    from convlens.graph.source import Source as Input
    from convlens.recording.source import Item, Source


class Joined:
    """Data sets one after the other; names stay what they are in each, numbers run on.

    Attributes:
        sources: the data sets.
        given: what they were opened from, all of it.
        columns: the values that items of one or the other have.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """Join data sets.

        Raises:
            UsageError: a value is a number in one and text in another.
        """
        self.sources = tuple(sources)
        self.given: tuple[str, ...] = tuple(text for source in sources for text in source.given)
        self.columns = columns_joined([columns_of(source) for source in sources])
        self._ends = list(accumulate(len(source) for source in sources))

    @property
    def text(self) -> str:
        """All of them."""
        return text_joined([source.text for source in self.sources])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def fingerprint(self) -> str:
        """Of those of all."""
        return fingerprint_joined([source.fingerprint() for source in self.sources])

    def items(self, first: int, stop: int) -> Sequence[Item]:
        """Items ``first`` to ``stop``."""
        found: list[Item] = []
        stop = min(stop, len(self))
        while first < stop:
            place = bisect_right(self._ends, first)
            end = self._ends[place]
            before = end - len(self.sources[place])
            found += self.sources[place].items(first - before, min(stop, end) - before)
            first = end
        return found


def text_joined(texts: Sequence[str]) -> str:
    """What several data sets are, for people."""
    return " + ".join(texts) if len(texts) < 4 else f"{texts[0]} and {len(texts) - 1} more data sets"


def fingerprint_joined(fingerprints: Sequence[str]) -> str:
    """The fingerprint of several data sets one after the other."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def columns_joined(columns: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The values that items of several data sets have.

    Raises:
        UsageError: a value is a number in one and text in another.
    """
    found: dict[str, str] = {}
    for one in columns:
        for name, kind in one.items():
            if found.setdefault(name, kind) != kind:
                raise UsageError(
                    f"the value {name!r} is a {kind} in one data set and a {found[name]} in another; name "
                    "one of them otherwise"
                )
    return found


def lies(source: Source) -> dict[str, Any]:
    """What a data set is opened from again, as plain data for :func:`reopened`."""
    told: dict[str, Any] = {"images": list(source.given)}
    if isinstance(source, Joined):
        told["parts"] = [list(one.given) for one in source.sources]
    return told


def reopened(told: Mapping[str, Any], source: Input, card: Card, given: Sequence[str] = ()) -> Source:
    """A data set opened again.

    Args:
        told: what :func:`lies` said.
        source: the input of the model.
        card: what else is known of it.
        given: where it lies now, if it was moved; of several data sets one path each, in their order.

    Raises:
        UsageError: it is gone.
        ImageError: it cannot be read.
    """
    parts = told.get("parts")
    if parts is None:
        return open_source(given or told["images"], source, card)
    if given and len(given) != len(parts):
        raise UsageError(f"it is {len(parts)} data sets, and {len(given)} paths say where they lie now")
    each = [[text] for text in given] or parts
    return Joined([open_source(one, source, card) for one in each])
