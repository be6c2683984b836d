"""Several pictures at once, as many as the memory holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from convlens.errors import ConvLensError

T = TypeVar("T")

_FULL = re.compile(r"out of memory|not enough memory|can't allocate memory|failed to allocate", re.IGNORECASE)


def groups(count: int, step: int, run: Callable[[int, int], T], said: list[str]) -> Iterator[T]:
    """What ``run`` makes of pictures ``first`` to ``first + rows``, group by group.

    Args:
        count: how many pictures.
        step: how many at once, at most.
        run: is given ``first`` and ``rows``.
        said: gets a sentence where a group did not fit in memory and was halved.

    Raises:
        ConvLensError: one picture alone does not fit.
    """
    first = 0
    while first < count:
        rows = min(step, count - first)
        try:
            found = run(first, rows)
        except (MemoryError, RuntimeError) as error:
            if not full(error):
                raise
            if rows == 1:
                raise ConvLensError(
                    "one picture alone does not fit in memory; choose a smaller side, or a layer nearer to "
                    "the input"
                ) from error
            step = rows // 2
            said.append(f"{rows} pictures at once did not fit in memory; went on with {step}")
            continue
        yield found
        first += rows


def full(error: BaseException) -> bool:
    """Whether an error says that the memory is full."""
    return isinstance(error, MemoryError) or bool(_FULL.search(str(error)))
