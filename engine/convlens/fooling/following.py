"""An attack under watch: each step can be shown, and groups that are finished are kept for a later run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from convlens.fooling.ground import LEVELS, Ground
from convlens.fooling.task import Found, Show

if TYPE_CHECKING:
    from convlens.watch import Watch


@dataclass(frozen=True)
class Follow:
    """How one run is followed.

    Attributes:
        watch: of the job.
        ground: how its inputs are counted.
        kept: whether what is found is kept for a later run, and shown.
    """

    watch: Watch
    ground: Ground
    kept: bool = True

    def stopped(self) -> bool:
        """Whether somebody asked for an end."""
        return self.watch.stopped

    def found(self, first: int, count: int, seek: Callable[[Show], Found]) -> Found:
        """What ``seek`` finds for ``count`` inputs from number ``first`` on, or found in a run before."""
        if not self.kept:
            return seek(lambda _done, _total, _gain, _inputs: None)
        key = f"{first:04d}-{count}"
        held = self.watch.state(key)
        if held is not None:
            with np.load(BytesIO(held), allow_pickle=False) as stored:
                delta = torch.from_numpy(stored["delta"])
                return Found(delta, stored["steps"], stored["silent"], stored["broken"])
        found = seek(partial(self._show, key))
        if not self.watch.stopped:
            self.watch.keep(
                key,
                lambda file: np.savez(
                    file,
                    delta=found.delta.numpy(),
                    steps=found.steps,
                    silent=found.silent,
                    broken=found.broken,
                ),
                now=True,
            )
        return found

    def _show(self, key: str, done: int, total: int, gain: float, inputs: Callable[[], Tensor]) -> None:
        def pictures() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            x = inputs().double()
            return np.asarray((x / LEVELS).clamp(0, 1).numpy() if self.ground.whole else x.numpy())

        self.watch.see(key, done, total, gain, pictures, self.ground.canvas.size)
