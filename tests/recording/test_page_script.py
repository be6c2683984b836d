"""What the page's script computes, run by node where there is one: nearest points, lasso, colours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from convlens.recording.maps import page as paging
from convlens.recording.maps.page import Points, _data

SCRIPTS = Path(paging.__file__).parent / "templates" / "map"
COUNT = 400

node = shutil.which("node")
pytestmark = pytest.mark.skipif(node is None, reason="node is not installed")


def given(**changes: Any) -> Points:
    rng = np.random.default_rng(0)
    place = rng.standard_normal((COUNT, 2)) * [5, 1]
    place[7] = np.nan
    settings: dict[str, Any] = {
        "title": "",
        "text": "",
        "noun": "photo",
        "places": {"features": place},
        "names": [str(i) for i in range(COUNT)],
    }
    return Points(**(settings | changes))


def computed(points: Points, expression: str, tmp_path: Path, *, more: str = "") -> Any:
    """What an expression is with the page's data and functions at hand, but no page."""
    assert node is not None
    page = f"""
      const told = {{ textContent: {json.dumps(json.dumps(_data(points)))} }};
      const document = {{ getElementById: () => told, documentElement: {{}} }};
      const getComputedStyle = () => ({{ getPropertyValue: (name) => (name === "--dark" ? "0" : name) }});
    """
    parts = [(SCRIPTS / f"{name}.js").read_text(encoding="utf-8") for name in ("data", "colours", "view")]
    script = tmp_path / "script.js"
    script.write_text("\n".join([page, *parts, more, f"console.log(JSON.stringify({expression}));"]))
    done = subprocess.run([node, str(script)], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_the_nearest_point_is_the_nearest_of_all(tmp_path: Path) -> None:
    places = np.random.default_rng(1).random((200, 2)) * 1.4 - 0.2
    asked = "sifted(), [[...layout.x], [...layout.y], " + json.dumps(places.tolist())
    asked += ".map(([x, y]) => [nearest(x, y, Infinity), nearest(x, y, 0.03)])]"
    x, y, found = computed(given(), f"({asked})", tmp_path)
    at = np.array([x, y], np.float64).T
    assert np.isnan(at[7]).all()
    away = np.linalg.norm(at[None] - places[:, None], axis=2)
    best = np.nanargmin(away, axis=1)
    within = np.where(np.nanmin(away, axis=1) <= 0.03, best, -1)
    assert found == np.stack([best, within], axis=1).tolist()
    assert len(set(within.tolist())) > 10


def test_the_map_keeps_its_proportions(tmp_path: Path) -> None:
    points = given()
    x, y = computed(points, "[[...layout.x], [...layout.y]]", tmp_path)
    place = points.places["features"]
    low, high = np.nanmin(place, axis=0), np.nanmax(place, axis=0)
    side = (high - low).max()
    expected = (place - (low + high) / 2) / side * [1, -1] + 0.5  # y runs downwards on a screen
    np.testing.assert_allclose(np.array([x, y], np.float64).T, expected, atol=1e-6)


def test_points_that_are_switched_off_are_not_found(tmp_path: Path) -> None:
    labels = ["a" if i % 3 else "b" for i in range(COUNT)]
    asked = "(modes[0].hidden.add(0), sifted(), [...visible].concat(nearest(0.5, 0.5, Infinity)))"
    *visible, found = computed(given(labels=labels), asked, tmp_path)
    assert visible == [int(label == "b") for label in labels]
    assert labels[found] == "b"


def test_the_lasso_takes_what_lies_inside(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    corners, places = rng.random((9, 2)), rng.random((500, 2))
    acting = (SCRIPTS / "acting.js").read_text(encoding="utf-8")
    inside = acting[acting.index("function inside(") : acting.index("function within(")]
    asked = f"{json.dumps(places.tolist())}.map(([x, y]) => inside({json.dumps(corners.tolist())}, x, y))"
    found = np.array(computed(given(), asked, tmp_path, more=inside))
    crossed = _crossings(corners, places) % 2 == 1
    np.testing.assert_array_equal(found, crossed)
    convex = np.array([[0.1, 0.1], [0.9, 0.2], [0.8, 0.9], [0.2, 0.7]])
    asked = f"{json.dumps(places.tolist())}.map(([x, y]) => inside({json.dumps(convex.tolist())}, x, y))"
    found = np.array(computed(given(), asked, tmp_path, more=inside))
    np.testing.assert_array_equal(found, Outline(convex).contains_points(places))
    assert found.any()


def _crossings(corners: np.ndarray[Any, Any], places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many sides a ray to the right meets, side by side."""
    count = np.zeros(len(places), int)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        share = (places[:, 1] - ay) / (by - ay)
        count += (share > 0) & (share <= 1) & (ax + share * (bx - ax) > places[:, 0])
    return count


def test_each_class_has_a_colour_and_a_shape_of_its_own(tmp_path: Path) -> None:
    labels = [f"kind{i % 30}" for i in range(COUNT)]
    asked = "(coloured(), [...modes[0].slots].map((n) => [colourOf(n), shapeOf(n)]))"
    marks = computed(given(labels=labels), asked, tmp_path)
    assert len({tuple(mark) for mark in marks}) == 30
    assert [shape for _, shape in marks[:10]] == ["circle"] * 7 + ["square"] * 3
    assert len({colour for colour, _ in marks[:10]}) == 10


def test_of_many_classes_the_most_frequent_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    chance = np.arange(1, 51) / np.arange(1, 51).sum()
    labels = [f"kind{i}" for i in rng.choice(50, COUNT, p=chance)]
    words, slots = computed(given(labels=labels), "[modes[0].words, [...modes[0].slots]]", tmp_path)
    own = [labels.count(word) for word, slot in zip(words, slots, strict=True) if slot]
    rest = [labels.count(word) for word, slot in zip(words, slots, strict=True) if not slot]
    assert len(own) == 30
    assert min(own) >= max(rest)


def test_numbers_run_over_the_ramp_and_what_is_none_is_grey(tmp_path: Path) -> None:
    value = np.linspace(0, 10, COUNT)
    value[5] = np.nan
    asked = "(mode = modes[0], coloured(), [[mode.low, mode.high, mode.ramp], [...slot], [...order]])"
    (low, high, ramp), slots, order = computed(given(values={"reward": value}), asked, tmp_path)
    finite = np.sort(value[np.isfinite(value)])
    assert [low, high] == pytest.approx(np.quantile(finite, [0.005, 0.995]), abs=0.03)
    assert ramp == "batlow"
    assert slots[5] == 0
    expected = 1 + np.rint(254 * np.clip((value - low) / (high - low), 0, 1))
    np.testing.assert_allclose(np.delete(slots, 5), np.delete(expected, 5), atol=1)
    assert sorted(order) == list(range(COUNT))
    assert {order[-1], order[-2]} == {0, COUNT - 1}  # what is far from the median lies on top


def test_numbers_on_both_sides_of_zero_have_a_scale_with_a_middle(tmp_path: Path) -> None:
    value = np.linspace(-1, 3, COUNT)
    low, high, ramp = computed(
        given(values={"q": value}), "[modes[0].low, modes[0].high, modes[0].ramp]", tmp_path
    )
    assert low == -high
    assert high == pytest.approx(3, abs=0.05)
    assert ramp == "vik"
