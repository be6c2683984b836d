from pathlib import Path

import numpy as np
import pytest

from convlens.runtime import freed

_RESIDENT = Path("/proc/self/statm")


def _resident() -> int:
    return int(_RESIDENT.read_text().split()[1]) * 4096


@pytest.mark.skipif(freed._trim() is None or not _RESIDENT.exists(), reason="needs glibc on Linux")
def test_what_is_free_below_something_that_is_held_goes_back_to_the_system() -> None:
    blocks = [np.ones(8192) for _ in range(800)]  # 64 KB each, out of the heap
    held = blocks[-1]
    del blocks
    before = _resident()
    freed.give_back()
    assert before - _resident() > 25e6
    assert held.sum() == 8192


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed, "_trim", lambda: None)
    freed.give_back()
