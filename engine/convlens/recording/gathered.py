"""What layers did on some dozens of images, tallied at once: one image costs nearly as much as many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convlens.recording.seen import Seen, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.recording.byclass import Group
    from convlens.recording.part import Part

_AT_ONCE = 64
"""Images; about 40 bytes a channel and image are held until then."""


@dataclass(frozen=True)
class Together:
    """Images of one size that went through the model together.

    Attributes:
        numbers: of the images, ascending.
        groups: the class of each.
        layers: what each layer did.
    """

    numbers: NDArray[np.int64]
    groups: Sequence[Group | None]
    layers: Sequence[Seen]


class Gathered:
    """What goes into a part, as soon as there is enough of it."""

    def __init__(self, part: Part) -> None:
        """``part`` is what it goes into."""
        self._part = part
        self._held: list[Together] = []

    def add(self, new: Together) -> None:
        """Take images in; they come in the order of their numbers."""
        if self._held and not all(map(_alike, self._held[-1].layers, new.layers)):
            self.close()
        self._held.append(new)
        if sum(len(one.numbers) for one in self._held) >= _AT_ONCE:
            self.close()

    def close(self) -> None:
        """Tally what is held."""
        held, self._held = self._held, []
        if not held:
            return
        numbers = np.concatenate([one.numbers for one in held])
        most = []
        for number, (tally, strongest) in enumerate(
            zip(self._part.tallies, self._part.strongest, strict=True)
        ):
            layer = joined([one.layers[number] for one in held])
            tally.add(layer)
            strongest.add(layer, numbers)
            most.append(layer.most if layer.sound is None else np.where(layer.sound, layer.most, np.nan))
        self._part.groups.add([group for one in held for group in one.groups], np.concatenate(most, axis=1))


def _alike(one: Seen, other: Seen) -> bool:
    return one.extent == other.extent and one.most.dtype == other.most.dtype
