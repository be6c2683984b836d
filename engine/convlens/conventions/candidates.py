"""The conventions in use: what pixels become before they enter a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.cards import Card


@dataclass(frozen=True, slots=True)
class Convention:
    """One way from 8-bit pixels to numbers; ``mean`` and ``std`` are in the order red, green, blue.

    Attributes:
        name: what a person types to choose it.
        words: what it is, for people.
        range: what pixels 0 and 255 become first.
        mean: subtracted next, one number or one a channel.
        std: divided by last.
        channels: ``RGB``, ``BGR`` or ``GRAY``.
        inverted: pixels are turned into 255 less themselves first, which no card can say.
        family: the convention that this one is a variant of.
    """

    name: str
    words: str
    range: tuple[float, float]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "RGB"
    inverted: bool = False
    family: str = ""

    def array(self, views: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Views (N x height x width x channels, RGB, 0 to 255) as numbers, channels still last."""
        pixels = views.astype(np.float64)
        if self.inverted:
            pixels = 255.0 - pixels
        low, high = self.range
        x = (low + pixels * ((high - low) / 255.0) - np.asarray(self.mean)) / np.asarray(self.std)
        return np.asarray(x[..., ::-1] if self.channels == "BGR" else x)

    def settings(self) -> dict[str, Any]:
        """The settings of a card's input that say the same, in the model's order of channels."""
        turn = -1 if self.channels == "BGR" else 1
        return {
            "channels": self.channels,
            "range": self.range,
            "mean": self.mean[::turn],
            "std": self.std[::turn],
        }


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_BYTES = (0.0, 255.0)
_UNIT = (0.0, 1.0)

#: Tried on every model with three channels, in both orders of colours.
COLOUR = (
    Convention("unit", "0 to 1", _UNIT),
    Convention("symmetric", "-1 to 1", _UNIT, (0.5,), (0.5,)),
    Convention("imagenet", "ImageNet's mean and std", _UNIT, *_IMAGENET),
    Convention("caffe", "0 to 255 less ImageNet's mean (Caffe)", _BYTES, (123.68, 116.779, 103.939)),
    Convention("bytes", "0 to 255", _BYTES),
)
#: Close relatives, tried where the convention that they are variants of comes out in front.
COLOUR_VARIANTS = (
    Convention("127-128", "(x - 127) / 128", _BYTES, (127.0,), (128.0,), family="symmetric"),
    Convention("127.5-128", "(x - 127.5) / 128", _BYTES, (127.5,), (128.0,), family="symmetric"),
    Convention("cifar10", "CIFAR-10's mean and std", _UNIT, *_CIFAR10, family="imagenet"),
    Convention("clip", "CLIP's mean and std", _UNIT, *_CLIP, family="imagenet"),
    Convention("mean-128", "0 to 255 less 128", _BYTES, (128.0,), family="caffe"),
    Convention("caffe-round", "0 to 255 less 123, 117, 104", _BYTES, (123.0, 117.0, 104.0), family="caffe"),
)
#: Numbers of data sets of small pictures, and the longest side in pixels of models that are trained on them.
_LONGEST = {"cifar10": 96, "fashion": 96}
#: Tried on every model with one channel, also with black and white exchanged.
GREY = (
    Convention("unit", "0 to 1", _UNIT, channels="GRAY"),
    Convention("symmetric", "-1 to 1", _UNIT, (0.5,), (0.5,), channels="GRAY"),
    Convention("mnist", "MNIST's mean and std", _UNIT, (0.1307,), (0.3081,), channels="GRAY"),
    Convention("mean-128", "0 to 255 less 128", _BYTES, (128.0,), channels="GRAY"),
    Convention("bytes", "0 to 255", _BYTES, channels="GRAY"),
)
GREY_VARIANTS = (
    Convention("127-128", "(x - 127) / 128", _BYTES, (127.0,), (128.0,), "GRAY", family="symmetric"),
    Convention("127.5-128", "(x - 127.5) / 128", _BYTES, (127.5,), (128.0,), "GRAY", family="symmetric"),
    Convention("fashion", "Fashion-MNIST's mean and std", _UNIT, (0.286,), (0.353,), "GRAY", family="mnist"),
)


def candidates(channels: int, dtype: str | None) -> list[Convention]:
    """What is tried on a model that takes so many channels; bytes go in only as they are."""
    chosen: tuple[Convention, ...] = GREY if channels == 1 else COLOUR
    if dtype == "uint8":
        chosen = tuple(c for c in chosen if c.name == "bytes")
    return [other for c in chosen for other in both(c)]


def variants(of: Convention, side: int = 0) -> list[Convention]:
    """The close relatives of a convention, in its order of colours, for photos of that shorter side."""
    known = GREY_VARIANTS if of.channels == "GRAY" else COLOUR_VARIANTS
    base = of.name.partition(" ")[0]
    fit = (c for c in known if c.family == base and side <= _LONGEST.get(c.name, side))
    same = (other for c in fit for other in both(c))
    return [c for c in same if (c.channels, c.inverted) == (of.channels, of.inverted)]


def both(convention: Convention) -> tuple[Convention, Convention]:
    """A convention in both orders of colours, or with black and white as they are and exchanged."""
    name, words = convention.name, convention.words
    if convention.channels == "GRAY":
        turned = replace(
            convention, name=f"{name} inverted", words=f"{words}, black and white exchanged", inverted=True
        )
        return convention, turned
    return (
        replace(convention, name=f"{name} RGB", words=f"{words}, RGB"),
        replace(convention, name=f"{name} BGR", words=f"{words}, BGR", channels="BGR"),
    )


def override(card: Card, convention: Convention) -> Card:
    """The card with what the convention says."""
    return card.override(convention.settings())
