"""Sizes of axes that are not numbers yet: whole polynomials over the symbols of the model's inputs.

``N``, ``2 N`` and ``H W`` are sizes; what cannot be said so (half of an unknown H, rounded) is a fresh
symbol of its own, which equals only itself. Two sizes that compare equal are therefore equal for
every input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, TypeAlias

_Monomial: TypeAlias = tuple[str, ...]
_FRESH = count()


class Size:
    """A polynomial with at least one symbol; plain numbers stay ``int``. Combines with ``+ - * //``."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[_Monomial, int]) -> None:
        """Take coefficients by monomial; :func:`symbol`, :func:`fresh` and arithmetic make them."""
        self.terms = dict(terms)

    def __repr__(self) -> str:
        return " + ".join("*".join([str(n), *names]) for names, n in sorted(self.terms.items()))

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __add__(self, other: Any) -> Any:
        if not _countable(other):
            return NotImplemented
        total = dict(self.terms)
        for names, n in _terms(other).items():
            total[names] = total.get(names, 0) + n
        return _tidy(total)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + other * -1

    def __rsub__(self, other: Any) -> Any:
        return self * -1 + other

    def __mul__(self, other: Any) -> Any:
        if not _countable(other):
            return NotImplemented
        total: dict[_Monomial, int] = {}
        for a, n in self.terms.items():
            for b, m in _terms(other).items():
                names = tuple(sorted(a + b))
                total[names] = total.get(names, 0) + n * m
        return _tidy(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        found = divide(self, other)
        return fresh() if found is None else found

    def __rfloordiv__(self, _other: Any) -> Any:
        return fresh()

    def __mod__(self, other: Any) -> Any:
        return fresh() if divide(self, other) is None else 0

    def __rmod__(self, _other: Any) -> Any:
        return fresh()

    def symbols(self) -> set[str]:
        """The names that occur in it."""
        return {name for names in self.terms for name in names}

    def only(self) -> str | None:
        """Its name where it is nothing but one symbol."""
        [*pairs] = self.terms.items()
        return pairs[0][0][0] if len(pairs) == 1 and pairs[0][1] == 1 and len(pairs[0][0]) == 1 else None


Extent: TypeAlias = "int | Size"
Extents: TypeAlias = tuple[Extent, ...]


def symbol(name: str) -> Size:
    """The size of that name."""
    return Size({(name,): 1})


def fresh() -> Size:
    """A size of which nothing is known, not even whether it equals another."""
    return symbol(f"?{next(_FRESH)}")


def product(sizes: Iterable[Extent]) -> Extent:
    """All of them multiplied; 1 for none."""
    total: Extent = 1
    for size in sizes:
        total = total * size
    return total


def divide(a: Extent, b: Extent) -> Extent | None:
    """``a / b`` where that is a size for every input, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    if not _terms(b) or (isinstance(b, int) and not b):
        return None
    divisor = _terms(b)
    if len(divisor) == 1:
        [(names, n)] = divisor.items()
        parts = {m: _without(m, names) for m in _terms(a)}
        if any(rest is None for rest in parts.values()) or any(c % n for c in _terms(a).values()):
            return None
        return _tidy({rest: _terms(a)[m] // n for m, rest in parts.items() if rest is not None})
    lead = max(divisor)  # a quotient of one term, if there is one, takes leading term to leading term
    for names, n in _terms(a).items():
        rest = _without(names, lead)
        if rest is not None and n % divisor[lead] == 0:
            quotient = _tidy({rest: n // divisor[lead]})
            if quotient * b == a:
                return quotient
    return None


def _without(names: _Monomial, gone: _Monomial) -> _Monomial | None:
    left = list(names)
    for name in gone:
        if name not in left:
            return None
        left.remove(name)
    return tuple(left)


def _countable(value: object) -> bool:
    return isinstance(value, Size) or (not isinstance(value, float) and hasattr(value, "__index__"))


def _terms(value: Any) -> Mapping[_Monomial, int]:
    return value.terms if isinstance(value, Size) else {(): int(value)}


def _tidy(terms: Mapping[_Monomial, int]) -> Extent:
    left = {names: n for names, n in terms.items() if n}
    if not left:
        return 0
    return left[()] if list(left) == [()] else Size(left)
