"""The values of the unchanged input, laid out as parts read them: with their padding, or cut along."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.runtime.incremental.crops import Clean
from convlens.runtime.incremental.cutting import CUT, WEIGHED
from convlens.runtime.incremental.parts import SOURCE, Parts
from convlens.runtime.incremental.pieces import Pieces
from convlens.runtime.incremental.placing import Still

_EVEN, _STILL = -2, -3  # what a clean value is for, where no part reads it


class Laid:
    """Clean values of one image.

    Attributes:
        values: as they are, by name.
        extents: the lengths of all axes of each value that there was at first.
    """

    def __init__(self, parts: Parts, pieces: Pieces, values: Mapping[str, NDArray[Any]]) -> None:
        """Nothing is laid out before it is read."""
        self.values = dict(values)
        self._parts, self._pieces = parts, pieces
        self._constants = pieces.graph.constants
        self.extents: dict[str, tuple[int, ...]] = {name: value.shape for name, value in values.items()}
        self._cleans: dict[tuple[str, int], Clean] = {}

    def of(self, values: Mapping[str, NDArray[Any]]) -> Laid:
        """The same of another image; what does not hang on the image is shared."""
        found = Laid(self._parts, self._pieces, values)
        found.extents = self.extents
        found._cleans = {key: clean for key, clean in self._cleans.items() if key[1] in (_EVEN, _STILL)}
        return found

    def extent(self, number: int, source: str = "") -> tuple[int, ...]:
        """Size of the picture in a part, or in the input ``source``."""
        name = source if number == SOURCE else self._parts.parts[number].nodes[0].outputs[0]
        return tuple(self.extents[name][axis] for axis in self._parts.axes[name])

    def clean(self, name: str, reader: int = SOURCE) -> Clean:
        """A value, with the padding that part ``reader`` reads; without one as it is."""
        key = (name, reader)
        if key not in self._cleans:
            slide = self._parts.parts[reader].slide if reader != SOURCE else None
            outputs = self.extent(reader) if reader != SOURCE else ()
            self._cleans[key] = Clean.around(self.values[name], self._parts.axes[name], slide, outputs)
        return self._cleans[key]

    def still(self, still: Still, number: int) -> Clean:
        """What never changes, cut along with part ``number``."""
        key = (still.feed, _STILL)
        if key not in self._cleans:
            value = self._constants.get(still.name)
            value = self.values[still.name] if value is None else value
            self._cleans[key] = Clean.around(still.whole(value, self.extent(number)), still.axes)
        return self._cleans[key]

    def weights(self, number: int) -> Clean:
        """By what an even mean over windows with padding is multiplied, place by place."""
        part = self._parts.parts[number]
        key = (part.nodes[0].outputs[0], _EVEN)
        if key not in self._cleans:
            assert part.slide is not None
            axes, value = self._parts.axes[part.main], self.values[part.main]
            shape = [length if axis in axes else 1 for axis, length in enumerate(value.shape)]
            ones = np.ones(shape, value.dtype)
            node = part.nodes[0]
            plain = self._pieces.session([node], {part.main: ones}, list(node.outputs), 1)
            real = plain.run(None, {part.main: ones})[0]
            padded = Clean.around(ones, axes, part.slide, self.extent(number)).array[None]
            output = node.outputs[0]
            feeds = {CUT + part.main: padded, WEIGHED + output: np.ones_like(real)}
            even = self._pieces.session([node], feeds, [output], 1, part.slide.crop)
            self._cleans[key] = Clean.around(real / even.run([output], feeds)[0], self._parts.axes[output])
        return self._cleans[key]

    def lay(self, until: int, other: Collection[str]) -> None:
        """Lay out what the parts before ``until`` slide over, and let go of what nothing reads as it is.

        ``other`` is what is read behind these parts.
        """
        parts, mains = self._parts.parts[:until], set()
        for number, part in enumerate(parts):
            if part.slide is not None:
                mains.add(part.main)
                self.clean(part.main, number)
                if part.slide.crop.uneven:
                    self.weights(number)
        read = {name for part in parts for name in part.plain}
        for name in mains - read - set(other):
            self.values.pop(name, None)
