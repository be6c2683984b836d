"""The other end of ``turns.py``: takes turns as they are asked for, and says what each took.

A script of its own imports this and calls :func:`serve`. It runs under any interpreter that has numpy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from load_child import Meter, resident

Work = Callable[..., tuple[dict[str, Any], Any]]
"""One turn by its keywords: what is said of it, and an array or None."""

Make = Callable[[dict[str, Any], Callable[[], None]], Work]
"""From the settings to the work; calls its second argument when all is imported and nothing loaded."""


def serve(ways: Mapping[str, Make]) -> None:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")  # a library may print, from Python or from below it
    os.dup2(2, 1)
    meters: list[Meter] = []
    work: Work | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if work is None:
                work = ways[sys.argv[1]](json.loads(sys.argv[2]), lambda: meters.append(Meter()))
            found: dict[str, Any] = {} if "ready" in asked else _turn(work, meters[-1], asked)
        except Exception as error:  # a row of the table says it
            found = {"failed": f"{type(error).__name__}: {_line(error)}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _turn(work: Work, meter: Meter, asked: Mapping[str, Any]) -> dict[str, Any]:
    meter.again()
    (says, array), cpu, wall = meter.step(lambda: work(**asked["ask"]))
    found = {"cpu": cpu, "wall": wall, "peak": meter.peak(), "resident": resident(), "says": says}
    if asked["keep"] is None or array is None:
        return {**found, "array": None}
    import numpy as np

    np.save(asked["keep"], array)
    return {**found, "array": asked["keep"]}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
