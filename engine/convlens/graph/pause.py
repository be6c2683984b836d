"""Building without looking for garbage in between."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's garbage collector rests meanwhile.

    A graph is many small objects that come to stay; the collector would go through all of them again and
    again, which takes about a third of the time that it takes to make them. Works as a decorator too.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
