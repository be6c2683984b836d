"""Channels as a person asks for them: ``3``, ``0,4,8-11``, ``all``, and with a layer ``relu3_1:0,4``."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from numbers import Integral
from typing import Any, Final

from convlens.errors import LayerError

ALL: Final = "all"
SPELLINGS = "numbers with commas between, ranges like 8-11, or all"

_MOST = 1 << 20  # channels in a range: more would fill the memory before any layer could refuse them
_WHOLE = r"\d(?:_?\d){0,17}"
_PART = re.compile(rf"([+-]?{_WHOLE})(?:\s*-\s*(\+?{_WHOLE}))?")


def read_channels(given: Any) -> tuple[int, ...] | None:
    """Channels by number, in the order in which they were named, repeats and numbers below 0 included.

    Args:
        given: text like ``0,4,8-11``, a number, or several of these; spaces do not count.

    Returns:
        The numbers; None for ``all``.

    Raises:
        ValueError: it is something else.
    """
    parts = list(_parts(given))
    if parts == [ALL]:
        return None
    if parts in ([], [""]):
        raise ValueError(f"no channel is named; expected {SPELLINGS}")
    return tuple(number for part in parts for number in _numbers(part))


def counted_channels(given: Any) -> tuple[int, ...] | None:
    """What :func:`read_channels` reads, where no layer is known yet that could refuse a number.

    Raises:
        ValueError: it is no channels, or one of them is below 0.
    """
    found = read_channels(given)
    if found is not None and min(found) < 0:
        raise ValueError(f"{min(found)} is no channel; they are counted from 0 up")
    return found


def split_channels(text: str, layers: Container[str]) -> tuple[str, str | None]:
    """A layer, and what stands behind its colon; None where it stands alone.

    Args:
        text: ``relu3_1:0,4`` or ``relu3_1``.
        layers: names that are there; one that has a colon itself is a layer's.
    """
    if text in layers or ":" not in text:
        return text, None
    name, _, tail = text.rpartition(":")
    return name, tail


def channels_behind(text: str, tail: str, layer: str, count: int) -> tuple[int, ...] | None:
    """The channels of a layer that stand behind its colon; None for all of them.

    Args:
        text: the whole that was typed, for the error.
        tail: of it what stands behind the colon.
        layer: by the name that errors call it.
        count: how many channels it has.

    Raises:
        LayerError: they are no channels, or the layer does not have one of them.
    """
    try:
        found = read_channels(tail)
    except ValueError:
        raise LayerError(
            f"{text!r} names no channel; expected a number behind the colon, like {layer}:0, several like "
            f"{layer}:0,{count - 1} or {layer}:0-{count - 1}, or {layer} alone"
        ) from None
    if found is not None:
        check_channels(found, layer, count)
    return found


def check_channels(channels: Sequence[int], layer: str, count: int) -> None:
    """Refuse channels that a layer does not have.

    Raises:
        LayerError: it does not have one of them.
    """
    wrong = next((channel for channel in channels if not 0 <= channel < count), None)
    if wrong is not None:
        raise LayerError(f"layer {layer!r} has no channel {wrong}; it has channels 0 to {count - 1}")


def _parts(given: Any) -> Iterable[str]:
    """What stands between commas."""
    if isinstance(given, str):
        yield from (part.strip() for part in given.split(","))
    elif isinstance(given, (Integral, float)) and type(given) is not bool and given == given // 1:
        yield str(int(given))
    elif isinstance(given, Iterable) and not isinstance(given, bytes):
        for one in given:
            yield from _parts(one)
    else:
        raise ValueError(f"{given!r} is no channel; expected {SPELLINGS}")


def _numbers(part: str) -> range:
    """One number, or a range with both its ends."""
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(_wrong(part))
    first, last = int(found[1]), int(found[2] or found[1])
    if found[2] and (first < 0 or last < first):
        raise ValueError(f"{part!r} is no range of channels; expected one that goes up, like 8-11")
    if last - first >= _MOST:
        raise ValueError(f"{part!r} are {last - first + 1} channels; no layer has so many, name fewer")
    return range(first, last + 1)


def _wrong(part: str) -> str:
    if part == ALL:
        return "all stands beside other channels; leave one of the two out"
    if ":" in part:
        return f"{part!r} names a layer, which is said elsewhere; expected channels alone: {SPELLINGS}"
    what = f"{part!r} is no channel" if part else "no channel stands beside a comma"
    return f"{what}; expected {SPELLINGS}"
