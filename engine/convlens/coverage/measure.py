"""How much memory a process took, where the system tells."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_OOM = Path("/proc/self/oom_score_adj")


def memory_now() -> int | None:
    """Bytes that the process holds now, None where the system does not say."""
    return _field("VmRSS")


def memory_peak() -> int | None:
    """Bytes that it held at its peak, since the start or the last :func:`forget_peak`."""
    found = _field("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Start the peak afresh; False where the system does not offer that."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def give_way() -> None:
    """Where memory runs out, this process is the one that the system ends, not those beside it."""
    with contextlib.suppress(OSError):
        _OOM.write_text("1000", encoding="ascii")


def _field(name: str) -> int | None:
    try:
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
