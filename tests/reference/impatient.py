"""Somebody who does not wait for the end of a search."""

from __future__ import annotations

import os
import signal
from typing import Any

from convlens.watch import Watch


class Impatient(Watch):
    """Presses Ctrl-C after ``patience`` steps."""

    patience = 5

    def see(self, *given: Any) -> None:  # type: ignore[override]
        """Show the step, and count it."""
        super().see(*given)
        self.patience -= 1
        if self.patience == 0:
            os.kill(os.getpid(), signal.SIGINT)
