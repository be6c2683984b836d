"""Strips of sorted numbers and matrices with names: colours where they belong, sizes, words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.pictures.colour import Scale, paint, symmetric
from convlens.results import Result


def result(kind: str, arrays: dict[str, NDArray[Any]], **hints: Any) -> Result:
    return Result("drawn", kind, next(iter(arrays)), arrays, dict.fromkeys(arrays, "numbers"), hints=hints)


def strips(values: NDArray[Any], rows: list[dict[str, Any]]) -> Result:
    hints = {
        "title": "how often",
        "strips": rows,
        "columns": [{"array": "values", "title": "share"}],
        "scale": {"low": 0.0, "high": 1.0, "label": "share"},
    }
    return result("strips", {"values": values}, **hints)


def test_a_strip_stands_in_order() -> None:
    """Three channels, a third of the strip each, from the smallest to the largest."""
    row = {"label": "conv1", "note": "1 never", "from": 1, "to": 4}
    (picture,) = strips(np.array([0.7, 1.0, 0.0, 0.5, 0.2]), [row]).pictures
    pixels = np.asarray(picture.image)
    wanted = paint(np.array([0.0, 0.5, 1.0]), Scale(0.0, 1.0, "share")).tolist()
    line = pixels[19 + 5]
    found = [colour for colour in line.tolist() if colour in wanted]
    assert [colour for colour, _ in _runs(found)][:3] == wanted
    assert [count for _, count in _runs(found)][:3] == [100, 100, 100]
    assert picture.alt == "How often. conv1: 1 never."
    assert picture.scale == Scale(0.0, 1.0, "share")


def _runs(values: list[Any]) -> list[tuple[Any, int]]:
    runs: list[tuple[Any, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


@pytest.mark.parametrize(("count", "pictures"), [(1, 1), (80, 1), (81, 2), (200, 3)])
def test_many_strips_are_several_pictures(count: int, pictures: int) -> None:
    rows = [{"label": f"layer{n}", "note": "", "from": n, "to": n + 1} for n in range(count)]
    found = strips(np.linspace(0, 1, count), rows).pictures
    assert len(found) == pictures
    assert len({picture.name for picture in found}) == pictures
    assert max(max(picture.image.size) for picture in found) <= 2048


@pytest.mark.parametrize("fill", [np.nan, 0.0, -3.0])
def test_matrices_of_anything(fill: float) -> None:
    values = np.full((3, 2), fill)
    values[1, 1] = 2.0
    told = {
        "array": "values",
        "label": "d'",
        "rows": [{"label": "a" * 90, "index": 1}, {"label": "b", "index": 0}],
        "columns": [{"label": "conv1:7", "index": 1}],
        "marks": "marks",
        "marks_label": "sure",
    }
    arrays = {"values": values, "marks": (values == 2).astype(np.int8)}
    (picture,) = result("matrix", arrays, title="classes", matrix=told).pictures
    scale = symmetric(values[[1, 0]][:, [1]], "d'; in a frame: sure", 100).pale()
    assert picture.scale == scale
    colour = tuple(paint(np.array(2.0), scale).tolist())
    assert colour in set(map(tuple, np.asarray(picture.image).reshape(-1, 3).tolist()))
    assert "conv1:7 2.00" in picture.alt
    picture.composed()
