"""Memory that the allocator keeps after large things were let go of."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Hand what is free to the system, where the C library can (glibc).

    Sessions that were let go of, and what others needed only to be made, leave holes of many megabytes. What
    comes next is allocated by threads with pools of their own, so it would come on top of them.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows takes no None
        return None
