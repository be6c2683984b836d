"""What is kept of each channel for each class: how strongly images of the class excite it.

A class is the label that the data set gives an image, and where it gives none the class that the model
predicts; the two are never mixed. Memory grows with classes times channels, not with images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class Group:
    """A class: its text, and whether the model predicted it because the data set does not say."""

    predicted: bool
    label: str


@dataclass
class Moments:
    """Of the largest value of each of some images, a channel.

    Attributes:
        images: how many.
        mean: of those values, one a channel; NaN where one of them is no number, or infinite.
        spread: sum of squared distances from the mean.
    """

    images: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, most: NDArray[np.float64]) -> Moments:
        """From images x channels, at least one image."""
        mean = most.mean(axis=0)
        return cls(len(most), mean, ((most - mean) ** 2).sum(axis=0))

    def merged(self, other: Moments) -> Moments:
        """Both together (Chan, Golub & LeVeque 1983)."""
        images = self.images + other.images
        share, apart = other.images / images, other.mean - self.mean
        return Moments(
            images,
            self.mean + apart * share,
            self.spread + other.spread + apart**2 * (share * self.images),
        )


@dataclass
class Groups:
    """Moments of each class that occurs, over the channels of all layers one after the other."""

    held: dict[Group, Moments]

    @classmethod
    def nothing(cls) -> Groups:
        """No image yet."""
        return cls({})

    def merged(self, other: Groups) -> Groups:
        """Both together."""
        found = dict(self.held)
        for group, moments in other.held.items():
            found[group] = found[group].merged(moments) if group in found else moments
        return Groups(found)

    def add(self, groups: Sequence[Group | None], most: NDArray[Any]) -> None:
        """Take images in: the class of each, and images x channels; images of no class are left out."""
        rows: dict[Group, list[int]] = {}
        for row, group in enumerate(groups):
            if group is not None:
                rows.setdefault(group, []).append(row)
        for group, chosen in rows.items():
            new = Moments.of(most[chosen].astype(np.float64))
            self.held[group] = self.held[group].merged(new) if group in self.held else new

    def chosen(self) -> list[tuple[Group, Moments]]:
        """Classes in their natural order; those that the data set gives and no others where it gives any."""
        predicted = not any(not group.predicted for group in self.held)
        own = [pair for pair in self.held.items() if pair[0].predicted == predicted]
        return sorted(own, key=lambda pair: naturally(pair[0].label))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the classes by name, to be stored: classes x channels in their order."""
        held = [self.held[group] for group in self.groups()]
        return {
            "images": np.array([one.images for one in held], np.int64),
            "mean": np.stack([one.mean for one in held]) if held else np.zeros((0, 0)),
            "spread": np.stack([one.spread for one in held]) if held else np.zeros((0, 0)),
        }

    def groups(self) -> list[Group]:
        """The classes in the order in which :meth:`arrays` has them."""
        return sorted(self.held)

    @classmethod
    def of(cls, groups: Sequence[Group], arrays: Mapping[str, NDArray[Any]]) -> Groups:
        """What :meth:`groups` and :meth:`arrays` told."""
        rows = zip(arrays["images"].tolist(), arrays["mean"], arrays["spread"], strict=True)
        return cls({group: Moments(*row) for group, row in zip(groups, rows, strict=True)})


@dataclass(frozen=True)
class ByClass:
    """One layer's channels by class, over the largest value of each image.

    Attributes:
        labels: the classes that occurred, in natural order.
        images: how many images of each.
        mean: classes x channels; NaN where an image of the class had a value that is no number, or infinite.
        variance: classes x channels, the mean squared distance from the mean; NaN likewise.
        predicted: whether the classes are those that the model predicts, as the data set has no labels.
    """

    labels: tuple[str, ...]
    images: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    predicted: bool


def naturally(text: str) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts numbers within text by their size."""
    parts = re.split(r"([0-9]+)", text)
    known = [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
    return tuple(known)
