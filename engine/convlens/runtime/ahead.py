"""Work on several cores at once, handed out in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from math import prod
from typing import TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

MOST = 8
"""Batches that are worked on at once without being asked for: each holds the values of its images."""


_SMALL = 5e9  # multiply-accumulates for one input; ResNet-50 has 4.1e9
_FEW = 1 << 20  # numbers in one input


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def divided(threads: int | None = None) -> tuple[int, int]:
    """The cores shared out: how many forwards are done at once, and the threads of each.

    Args:
        threads: of each; without it one, or more where there are at least twice as many cores as forwards
            that are done at once.
    """
    there = cores()
    inside = max(1, there // MOST) if threads is None else threads
    return max(1, min(MOST, there // inside)), inside


def small(lengths: Sequence[int | str | None], macs: Callable[[], int | None]) -> bool:
    """Whether several forwards of a model may well be done side by side.

    A forward of a large model keeps several cores busy by itself, and several of them would hold much.

    Args:
        lengths: of one input, axis by axis.
        macs: asked for the multiply-accumulates of one input; None where they are not known.
    """
    known = [length for length in lengths if isinstance(length, int)]
    if not known or len(known) < len(lengths) or prod(known) > _FEW:
        return False
    found = macs()
    return found is not None and found <= _SMALL


def ahead(work: Callable[[Item], Done], items: Iterable[Item], workers: int) -> Iterator[Done]:
    """What ``work`` makes of every item, in their order.

    Items are taken in the thread that asks for results, ahead of them: at most ``workers`` are worked on
    and two more wait. A single item is worked on in that thread itself. What ``work`` raises comes where
    its result would have come.

    Args:
        work: called in threads of its own, side by side.
        items: none of which may change after it was handed over.
        workers: how many are worked on at once.
    """
    stream = iter(items)
    head = list(islice(stream, 2))
    if len(head) < 2:
        yield from map(work, head)
        return
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    try:
        for item in chain(head, stream):
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
