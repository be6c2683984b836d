"""Which part of its input an operator reads for one output position: the rules and their types.

Along one axis, output position ``i`` reads the input positions from ``i * stride + first`` to
``i * stride + last``, both included. A convolution with kernel k, stride s, dilation d and p zeros
of padding in front has ``stride = s``, ``first = -p``, ``last = (k - 1) d - p``; an upsampling by 2
has ``stride = 1/2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Window:
    """What one output position reads along one axis, in input positions."""

    stride: Fraction
    first: Fraction
    last: Fraction

    @classmethod
    def kernel(cls, size: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Window:
        """Window of a convolution or a pooling with ``pad`` positions of padding in front."""
        return cls(Fraction(stride), Fraction(-pad), Fraction((size - 1) * dilation - pad))

    @classmethod
    def transposed(cls, size: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Window:
        """Window of a transposed convolution, which spreads each input over ``size`` outputs."""
        return cls(
            Fraction(1, stride),
            Fraction(pad - (size - 1) * dilation, stride),
            Fraction(pad, stride),
        )


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Each output position reads the same position of every input, under numpy's broadcasting."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Windows along some axes of input 0; the axes in ``mixed`` are read whole, the rest pointwise.

    ``loose`` says that the windows are near the truth and not sure to hold it: they move with sizes
    that are open, or all numbers together have some say in each, as in the step of a quantisation.
    """

    windows: Mapping[int, Window]
    mixed: frozenset[int] = frozenset({1})
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Reduce:
    """The given axes of input 0 are read whole; they vanish where ``keepdims`` is false."""

    axes: frozenset[int] | None
    keepdims: bool = True


@dataclass(frozen=True, slots=True)
class Permute:
    """Axis ``a`` of the output is axis ``order[a]`` of input 0; -1 is a new axis of size one."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Regroup:
    """Axis ``i`` of the output holds numbers of axes ``groups[i]`` of input 0, in their order.

    An axis that stands alone in one group is kept as it is; those that are merged or split are read
    whole. An empty group is a new axis of size one.
    """

    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Inputs are laid end to end along ``axis``; the other axes are pointwise."""

    axis: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number from all numbers of a batch, such as the step of a quantisation.

    Whatever it is combined with keeps its own window, which is then loose.
    """


@dataclass(frozen=True, slots=True)
class Each:
    """A rule of its own for every output."""

    rules: tuple[Pointwise | Kernel | Scalar, ...]


@dataclass(frozen=True, slots=True)
class Everything:
    """Each output position may read everything of its own image. Always true, never precise."""


Rule: TypeAlias = Pointwise | Kernel | Reduce | Permute | Regroup | Join | Scalar | Each | Everything


@dataclass(frozen=True, slots=True)
class Spread:
    """How an operator that makes an axis longer by a whole factor is computed on a cut of it.

    The ``factor`` outputs that start at ``factor * i`` are those that follow ``trim[0]`` outputs of the
    node on a cut from ``i - front`` to ``i + back``, and are followed by ``trim[1]`` others.
    """

    factor: int
    front: int = 0
    back: int = 0
    trim: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Crop:
    """How an operator with a :class:`Kernel` rule is computed on a cut of its input, padding included.

    Attributes:
        padding: the number that stands beyond the border of the input.
        settings: attributes that the node gets, so that it pads nothing itself.
        uneven: whether outputs near the border are weighed by how much of the input they see.
        moves: whether the node only moves numbers, so that the cut itself is the output.
        steps: of what moves numbers, which positions of the cut are the output, by axis.
        repeats: whether the number at the border stands beyond it, not ``padding``.
        spread: of an operator that makes axes longer, by axis.
        scales: what a resize gets instead of sizes.
    """

    padding: float
    settings: Mapping[str, int | str | tuple[int, ...]] = field(default_factory=dict)
    uneven: bool = False
    moves: bool = False
    steps: Mapping[int, int] = field(default_factory=dict)
    repeats: bool = False
    spread: Mapping[int, Spread] = field(default_factory=dict)
    scales: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """What a unit sees of the model's input along input axis ``axis``.

    Unit ``i`` sees input positions ``first + i * step`` to ``last + i * step``. ``whole`` says that
    it may see all of the axis, and then the numbers mean nothing. ``loose`` says that what it sees is
    near there, and not sure to be there.
    """

    axis: int
    step: Fraction = field(default_factory=lambda: Fraction(1))
    first: Fraction = field(default_factory=Fraction)
    last: Fraction = field(default_factory=Fraction)
    whole: bool = False
    loose: bool = False

    def through(self, window: Window) -> Field:
        """The field of a unit that reads ``window`` of units with this field (Araujo et al. 2019)."""
        if self.whole:
            return self
        return Field(
            self.axis,
            self.step * window.stride,
            self.first + self.step * window.first,
            self.last + self.step * window.last,
            loose=self.loose,
        )

    def loosened(self) -> Field:
        """The same, said to be loose; what is whole is always true."""
        return self if self.whole else replace(self, loose=True)

    def all(self) -> Field:
        """The field of a unit that reads every unit along this axis."""
        return Field(self.axis, whole=True)

    def hull(self, other: Field) -> Field:
        """The smallest field that covers both; whole where the two do not move in step."""
        if self.whole or other.whole or self.axis != other.axis or self.step != other.step:
            return self.all()
        first, last = min(self.first, other.first), max(self.last, other.last)
        return Field(self.axis, self.step, first, last, loose=self.loose or other.loose)
