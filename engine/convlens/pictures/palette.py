"""Colours for classes, as many as there are, the first ones told apart by people with any colour vision."""

from __future__ import annotations

import colorsys

UNKNOWN = (184, 184, 192)
"""Of what belongs to no class."""

FIRST: tuple[tuple[int, int, int], ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (222, 205, 36), (90, 62, 140), (140, 86, 60), (40, 40, 46),
)  # fmt: skip
"""Okabe & Ito 2008 with a darker yellow; then violet, brown and black."""

_TURN = 0.381966  # of the circle of hues: no two of the first hundred are the same


def distinct(count: int) -> list[tuple[int, int, int]]:
    """``count`` colours: the fixed ones, then hues around the circle, lighter and darker in turn."""
    found = list(FIRST[:count])
    for place in range(len(found), count):
        light, strong = ((0.45, 0.75), (0.62, 0.6), (0.34, 0.55))[place % 3]
        red, green, blue = colorsys.hls_to_rgb(place * _TURN % 1.0, light, strong)
        found.append((round(255 * red), round(255 * green), round(255 * blue)))
    return found
