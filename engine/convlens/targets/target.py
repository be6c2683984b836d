"""What is explained, resolved on a model: a number per image from the values that the model computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from convlens.errors import TargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.targets.coordinates import Reading

Spec: TypeAlias = "int | str | Target | Callable[[Any], Any] | None"


@dataclass(frozen=True, eq=False)
class Pick:
    """What a target is on one image, found by looking at what the model makes of it.

    Attributes:
        text: for people.
        cells: places in the image's row of the value, all axes after the batch as one; what is read there
            is averaged, or multiplied where the target says so.
        record: the pick as plain data: class, box, score, number of cells.
        label: index of its class, None where there is none.
        box: upper, left, lower and right end in the coordinates of the model, for a box that is found
            again by where it lies.
        reading: how the numbers of that box are written.
    """

    text: str
    cells: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    record: Mapping[str, Any] = field(default_factory=dict)
    label: int | None = None
    box: tuple[float, float, float, float] | None = None
    reading: Reading | None = None


class Look(Protocol):
    """How a target is settled once the images are there, because it is another one on each."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The ONNX values that :meth:`pick` reads."""

    @property
    def alone(self) -> bool:
        """Whether rows of these values count what was found and not images."""

    @property
    def shares(self) -> bool:
        """Whether the scores are known to be probabilities, between 0 and 1."""

    def pick(self, values: Mapping[str, NDArray[Any]], extent: tuple[int, ...]) -> Pick:
        """The target on one image.

        Args:
            values: what the model computes for this image alone, by ONNX value name.
            extent: lengths of the input's spatial axes.

        Raises:
            TargetError: there is nothing of that sort on this image.
        """

    def score(self, values: Mapping[str, Any], picks: Sequence[Pick]) -> Any:
        """One number per image, for targets of the kind ``kept``."""


@dataclass(frozen=True)
class Target:
    """One thing to explain, resolved on a model.

    Attributes:
        kind: ``class``, ``predicted``, ``channel``, ``neuron``, ``layer``, ``cells``, ``callable``,
            ``picked`` (cells that :attr:`look` finds on each image), ``kept`` (a box after a
            suppression of others, which is found again by where it lies) or ``sum``.
        value: ONNX value name that it reads, empty for a callable (which gets all outputs) and for a sum.
        text: for people.
        index: class or channel index; for ``predicted`` one a image once it is known.
        position: of a neuron, one number a spatial axis.
        selector: indices after the batch axis, for ``cells``.
        reduction: how cells become one number.
        each: for what differs from image to image, what it is on each.
        layer: the layer it lies in, where it lies in one.
        function: the callable.
        look: how it is settled on images, for ``picked`` and ``kept``.
        picks: what it is on each image, once they are known.
        terms: of a sum, each target with its weight; see :func:`convlens.targets.sums.weighted`.
    """

    kind: str
    value: str
    text: str
    index: int | tuple[int, ...] | None = None
    position: tuple[int, ...] = ()
    selector: tuple[int | slice, ...] = ()
    reduction: str = "sum"
    each: tuple[str, ...] = ()
    layer: Layer | None = None
    function: Callable[[Any], Any] | None = None
    look: Look | None = None
    picks: tuple[Pick, ...] = ()
    terms: tuple[tuple[float, Target], ...] = ()

    @property
    def parts(self) -> tuple[Target, ...]:
        """The targets that a sum is made of; of anything else itself."""
        return tuple(term for _, term in self.terms) or (self,)

    @property
    def looks(self) -> bool:
        """Whether it is another place on each image, so that it is settled only where images are."""
        return any(part.look is not None for part in self.parts)

    @property
    def alone(self) -> bool:
        """Whether its values have rows that count what was found, so that images go in one at a time."""
        return any(part.look is not None and part.look.alone for part in self.parts)

    def rows(self, start: int, stop: int) -> Target:
        """The same target for images ``start`` to ``stop`` of the batch."""
        if self.terms:
            return self._each(lambda term: term.rows(start, stop))
        known = len(self.index) if isinstance(self.index, tuple) else len(self.picks) or stop
        return self.take(range(start, min(stop, known)))

    def take(self, rows: Sequence[int]) -> Target:
        """The same target for a batch made of ``rows`` of this one's images, in that order."""
        if self.terms:
            return self._each(lambda term: term.take(rows))
        if isinstance(self.index, tuple):
            return replace(self, index=tuple(self.index[row] for row in rows))
        if len(self.picks) > 1:
            return replace(self, picks=tuple(self.picks[row] for row in rows))
        return self  # one pick stands for any number of copies

    def of(self, image: int) -> Target:
        """The same target for one image of the batch, whatever the number of its copies."""
        if self.terms:
            return self._each(lambda term: term.of(image))
        if self.picks:
            return replace(self, picks=self.picks[image : image + 1])
        return replace(self, index=self.index[image]) if isinstance(self.index, tuple) else self

    def _each(self, change: Callable[[Target], Target]) -> Target:
        """The sum with every term changed."""
        return replace(self, terms=tuple((weight, change(term)) for weight, term in self.terms))

    def words(self, image: int) -> str:
        """What is explained on one image of the batch, for people."""
        return self.each[image] if self.each else self.text

    def needs(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """The ONNX values that :meth:`score` reads."""
        if self.terms:
            names = (name for term in self.parts for name in term.needs(outputs))
            return tuple(dict.fromkeys(names))
        if self.kind == "kept" and self.look is not None:
            return self.look.reads
        return (self.value,) if self.value else tuple(outputs)

    def score(self, values: Mapping[str, Any]) -> Any:
        """One number per image, shape N, from numpy arrays or torch tensors by ONNX value name.

        Raises:
            TargetError: it differs from image to image and has not been settled, see :func:`settled`; or the
                terms of a sum do not count the same rows.
        """
        if self.terms:
            return self._sum(values)
        if self.kind == "callable":
            assert self.function is not None
            given = tuple(values.values())
            found = self.function(given[0] if len(given) == 1 else given)
            return found.reshape(-1) if found.ndim != 1 else found
        if self.look is not None and not self.picks:
            raise TargetError(
                f"{self.text} is another place on each image; Model.run finds it, or targets.settled does"
            )
        if self.kind == "kept":
            assert self.look is not None
            return self.look.score(values, self.picks)
        value = values[self.value]
        flat = value.reshape(len(value), -1)
        if self.kind == "picked":
            return _picked(flat, self.picks, self.reduction)
        if self.kind in ("class", "predicted"):
            if isinstance(self.index, tuple):
                return flat[range(len(self.index)), self.index]
            return flat[:, self.index]
        if self.kind == "layer":
            # the smallest normal number keeps the root's slope finite for a layer that is silent
            return ((flat * flat).sum(axis=1) + 1e-37) ** 0.5
        if self.kind in ("channel", "neuron"):
            assert self.layer is not None
            axis = self.layer.channel_axis
            assert axis is not None
            picked: list[Any] = [slice(None)] * value.ndim
            if isinstance(self.index, tuple):  # each row has a channel of its own
                value = value.swapaxes(1, axis)
                picked[0], axis = range(len(self.index)), 1
            picked[axis] = self.index
            for place, number in zip(self.layer.spatial_axes, self.position, strict=False):
                picked[place] = number
            part = value[tuple(picked)]
            return part.reshape(len(value), -1).mean(axis=1)
        cells = value[(slice(None), *self.selector)].reshape(len(value), -1)
        if self.reduction == "norm":
            return ((cells * cells).sum(axis=1) + 1e-37) ** 0.5
        if self.reduction in ("max", "min"):
            best = cells.argmax(axis=1) if self.reduction == "max" else cells.argmin(axis=1)
            return cells[range(len(cells)), best]
        return cells.mean(axis=1) if self.reduction == "mean" else cells.sum(axis=1)

    def _sum(self, values: Mapping[str, Any]) -> Any:
        """The scores of the terms, weighted."""
        scores = [weight * term.score(values) for weight, term in self.terms]
        counts = [len(score) for score in scores]
        if len(set(counts)) > 1:  # they would be stretched to each other's length
            raise TargetError(
                f"{self.text}: its terms have {' and '.join(map(str, sorted(set(counts))))} rows; what is "
                "added must have one number an image"
            )
        return sum(scores[1:], scores[0])

    def record(self) -> dict[str, Any]:
        """Everything that says what was explained, as plain data; the terms of a sum likewise."""
        found: dict[str, Any] = {
            "text": self.text,
            "kind": self.kind,
            "value": self.value,
            "index": list(self.index) if isinstance(self.index, tuple) else self.index,
            "each": list(self.each),
            "picked": [dict(pick.record) for pick in self.picks],
        }
        if self.terms:
            found["terms"] = [{"weight": weight, **term.record()} for weight, term in self.terms]
        return found


def joined(parts: Sequence[tuple[float, str]]) -> str:
    """A weighted sum for people: ``0.7 x channel 43 of conv5_3 - class 281 (tabby)``."""
    text = ""
    for weight, words in parts:
        size = abs(weight) if text else weight
        sign = "" if not text else " - " if weight < 0 else " + "
        text += sign + (words if size == 1 else f"{size:g} x {words}")
    return text


def _picked(flat: Any, picks: Sequence[Pick], reduction: str) -> Any:
    """The cells of each image's pick as one number, from N x cells; one pick may stand for all rows."""
    most = max(len(pick.cells) for pick in picks)
    at = np.stack([np.resize(pick.cells, most) for pick in picks])
    cells = flat[np.arange(len(flat))[:, None], at]
    if str(cells.dtype).endswith("float16"):  # its smallest numbers are larger than the share of a cell
        cells = cells.float() if hasattr(cells, "float") else cells.astype(np.float32)
    if reduction == "product":
        found = cells[:, 0]
        for column in range(1, most):
            found = found * cells[:, column]
        return found
    weights = np.stack([(np.arange(most) < len(p.cells)) / len(p.cells) for p in picks])
    return (cells * like(weights, cells)).sum(axis=1)


def like(array: NDArray[Any], value: Any) -> Any:
    """A numpy array as what ``value`` is: an array or a tensor of its type, where it lies."""
    return value.new_tensor(array) if hasattr(value, "new_tensor") else array.astype(value.dtype)


def settled(
    target: Target,
    images: Sequence[str],
    read: Callable[[int, Sequence[str]], Mapping[str, NDArray[Any]]],
    extent: tuple[int, ...],
) -> Target:
    """A target that differs from image to image, once the model has looked at each.

    Args:
        target: with :attr:`Target.look`; any other comes back as it is.
        images: their names.
        read: what the model computes for one image alone: its number and the names of the values.
        extent: lengths of the input's spatial axes.

    Raises:
        TargetError: there is nothing of that sort on one of the images.
    """
    if target.terms and target.looks:
        terms = tuple((weight, settled(term, images, read, extent)) for weight, term in target.terms)
        each = tuple(joined([(w, term.words(i)) for w, term in terms]) for i in range(len(images)))
        return replace(target, terms=terms, each=each)
    if target.look is None or target.picks:
        return target
    picks = []
    for number, name in enumerate(images):
        try:
            picks.append(target.look.pick(read(number, target.look.reads), extent))
        except TargetError as error:
            raise TargetError(f"{name}: {error}" if len(images) > 1 else str(error)) from error
    return replace(target, picks=tuple(picks), each=tuple(pick.text for pick in picks))
