"""The places of a moving patch that change a number most, for tables, boxes and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LISTED = 3  # places listed in each direction


def extremes(
    name: str, base: float, grid: NDArray[Any], starts: Sequence[Sequence[int]], patch: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The places where hiding lowers and raises the target most, none overlapping another.

    Args:
        name: of the image.
        base: the target of the whole image.
        grid: the target with the patch at each position.
        starts: where the positions start, axis by axis.
        patch: its sides.

    Yields:
        ``image``, ``effect`` (``falls`` or ``rises``), ``from``, ``to``, ``value``, ``change``, and ``at``,
        the position in ``grid``.
    """
    change = grid - base
    for effect, order in (
        ("falls", np.argsort(change, axis=None)),
        ("rises", np.argsort(-change, axis=None)),
    ):
        chosen: list[tuple[int, ...]] = []
        for flat in order:
            at = tuple(int(i) for i in np.unravel_index(int(flat), grid.shape))
            value = float(change[at])
            if len(chosen) == _LISTED or not (value < 0 if effect == "falls" else value > 0):
                break
            place = tuple(starts[axis][i] for axis, i in enumerate(at))
            if all(_apart(place, other, patch) for other in chosen):
                chosen.append(place)
                yield {
                    "image": name,
                    "effect": effect,
                    "from": list(place),
                    "to": [start + side for start, side in zip(place, patch, strict=True)],
                    "value": float(grid[at]),
                    "change": value,
                    "at": at,
                }


def _apart(one: Sequence[int], other: Sequence[int], patch: Sequence[int]) -> bool:
    """Whether patches at two places do not overlap."""
    return any(abs(a - b) >= side for a, b, side in zip(one, other, patch, strict=True))


def marks(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """The strongest place in each direction, as boxes for the picture."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["image"] == name:
            first.setdefault(row["effect"], row)
    return [{"from": row["from"], "to": row["to"], "effect": effect} for effect, row in first.items()]


def place_text(row: Mapping[str, Any], extent: Sequence[int], axes: Sequence[str]) -> str:
    """Where a patch lies, in words: by thirds of a picture, exactly along other axes."""
    spans = list(zip(axes, row["from"], row["to"], strict=True))
    exact = ", ".join(
        f"{axis.removesuffix('s')} {a}" if b == a + 1 else f"{axis} {a} to {b - 1}" for axis, a, b in spans
    )
    if list(axes) != ["rows", "columns"]:
        return exact
    thirds = [min(2, int(1.5 * (a + b) / size)) for (_, a, b), size in zip(spans, extent, strict=True)]
    where = f"{('upper', 'middle', 'lower')[thirds[0]]} {('left', 'centre', 'right')[thirds[1]]}"
    return f"the {where} ({exact})"
