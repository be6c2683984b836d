"""Curves, bars and stems: what is drawn where, in which colours, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.pictures.picture import Picture
from convlens.pictures.plots import COLOURS, INK
from convlens.report.page import embed
from convlens.results import Result

NAMES = ("cat.png", "dog.png")


def result(panels: list[dict[str, Any]], arrays: dict[str, Any], **more: Any) -> Result:
    images = more.pop("images", NAMES)
    held = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    hints = {"curves": panels, "title": "a test", **more}
    return Result(
        "drawn", "curves", next(iter(held)), held, dict.fromkeys(held, "number"), images, hints=hints
    )


def rows_of(picture: Picture, colour: str) -> NDArray[Any]:
    """The mean row of the pixels in exactly this colour, column by column where there are any."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    hit = (np.asarray(picture.image) == wanted).all(axis=2)
    columns = np.flatnonzero(hit.any(axis=0))
    return np.array([np.flatnonzero(hit[:, column]).mean() for column in columns])


def panel(**changes: Any) -> dict[str, Any]:
    lines = [{"array": "a", "label": "first"}, {"array": "b", "label": "second"}]
    return {"x": "x", "lines": lines, "x_label": "shift (pixels)", "y_label": "distance", **changes}


X = np.linspace(0, 10, 30)


def test_heights_are_where_the_numbers_say() -> None:
    flat = {"x": X, "a": np.full((2, 30), 0.2), "b": np.full((2, 30), 0.8)}
    third = {"lines": [*panel()["lines"], {"array": "c", "label": "third"}]}
    found = result([panel(y_range=[0, 1], **third)], {**flat, "c": np.full(30, 0.5)})
    picture = found.pictures[0]
    low, high, middle = (np.median(rows_of(picture, COLOURS[k])) for k in range(3))
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high, abs=1.5)


def test_each_image_has_its_own_picture_of_its_own_row() -> None:
    a = np.stack([np.zeros(30), np.ones(30)])
    found = result([panel(y_range=[0, 1])], {"x": X, "a": a, "b": np.full(30, 0.5)})
    first, second = found.pictures
    assert (first.index, second.index) == (0, 1)
    assert np.median(rows_of(first, COLOURS[0])) > np.median(rows_of(first, COLOURS[1]))
    assert np.median(rows_of(second, COLOURS[0])) < np.median(rows_of(second, COLOURS[1]))
    assert "first 0 at 0, 0 at 10" in first.alt
    assert "first 1 at 0, 1 at 10" in second.alt


def test_images_lie_over_each_other_with_their_mean_in_bold() -> None:
    a = np.stack([np.full(30, 0.2), np.full(30, 0.8)])
    lines = [{"array": "a", "label": "probability"}]
    found = result([panel(lines=lines, y_range=[0, 1])], {"x": X, "a": a}, over="images")
    (picture,) = found.pictures
    assert picture.index is None
    assert "mean of 2 0.5 at 0, 0.5 at 10" in picture.alt
    mean = np.median(rows_of(picture, INK))
    sole = result([panel(lines=lines, y_range=[0, 1])], {"x": X, "a": a[:1]}, over="images", images=NAMES[:1])
    assert np.median(rows_of(sole.pictures[0], INK)) > mean
    assert "mean" not in sole.pictures[0].alt


def test_extremes_between_the_ends_are_told() -> None:
    a = np.stack([np.sin(X), np.cos(X)])
    found = result([panel(lines=[{"array": "a", "label": "wave"}])], {"x": X, "a": a})
    at = X[np.sin(X).argmax()]
    assert f"highest {np.sin(X).max():.3g} at {at:.3g}" in found.pictures[0].alt


def test_marked_stems_are_drawn_apart_and_told() -> None:
    a = np.ones((2, 200))
    a[0, 17], a[1, 150] = 5, 7
    marks = {"marks": [[17], [150]], "marks_label": "spikes", "background": "b", "background_label": "others"}
    stem = {"kind": "stem", "array": "a", "label": "mean activation", "x_label": "channel", **marks}
    found = result([stem], {"a": a, "b": np.ones(200)})
    first, second = found.pictures
    assert "spikes: 17 at 5" in first.alt
    assert "spikes: 150 at 7" in second.alt
    wanted = [int(COLOURS[1][at : at + 2], 16) for at in (1, 3, 5)]
    middle = first.image.width / 2
    for picture, left in ((first, True), (second, False)):
        below = np.asarray(picture.image)[picture.image.height // 4 :]
        columns = np.flatnonzero((below == wanted).all(axis=2).any(axis=0))
        assert columns.size
        assert (columns < middle).all() == left


def test_bars_are_named_and_told() -> None:
    lines = [{"array": "a", "label": "eyes"}, {"array": "b", "label": "random parts", "band": "sd"}]
    bars = {"kind": "bars", "title": "change", "lines": lines, "categories": ["conv1", "conv2"]}
    arrays = {"a": [0.2, 0.4], "b": [0.3, 0.5], "sd": [0.05, 0.02]}
    (picture,) = result([bars], arrays, images=()).pictures
    assert "change: eyes: conv1 0.2, conv2 0.4; random parts: conv1 0.3, conv2 0.5." in picture.alt
    assert rows_of(picture, COLOURS[0]).size > 50
    assert rows_of(picture, COLOURS[1]).size > 50


@pytest.mark.parametrize("all_of_them", [True, False])
def test_numbers_that_are_none_leave_gaps(all_of_them: bool) -> None:
    """One kind of them an image: not a number, beyond the largest, beyond the smallest."""
    a = np.stack([np.sin(X), np.cos(X), np.sin(2 * X)])
    a[:, :: 1 if all_of_them else 3] = [[np.nan], [np.inf], [-np.inf]]
    panels = [panel(), {"kind": "stem", "array": "a", "marks": [0, 3]}, {**panel(x=None), "kind": "bars"}]
    for over in ("images", None):
        for picture in result(panels, {"x": X, "a": a, "b": a}, over=over, images=(*NAMES, "ape")).pictures:
            assert "nan" not in picture.alt.split()
            picture.composed()


@pytest.mark.parametrize(("points", "images"), [(1, 1), (1, 9), (2, 2), (1280, 1), (1280, 9)])
def test_any_number_of_points_images_and_panels(points: int, images: int) -> None:
    x = np.arange(points)
    arrays = {"x": x, "a": np.random.default_rng(0).normal(size=(images, points)), "b": np.zeros(points)}
    names = tuple(f"_{'long ' * 12}$x^{i} 猫.png" for i in range(images))
    count = 13 if points == images == 1 else 2
    over = result([panel(title="$" * 90)] * count, arrays, images=names, over="images")
    single = result([panel(lines=panel()["lines"][:1])], arrays, images=names[:1])
    assert len(over.pictures) == (2 if count == 13 else 1)
    for picture in (*over.pictures, *single.pictures):
        assert max(picture.image.size) <= 2048
        assert picture.narrow is not None
        assert picture.narrow().width < 720
        picture.composed()


def test_a_picture_is_the_same_twice_and_whatever_the_user_has_set() -> None:
    import matplotlib

    found = result([panel()], {"x": X, "a": np.stack([X, X]), "b": X})
    before = [np.asarray(picture.image) for picture in found.pictures]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.color": "green"}):
        held = dict(matplotlib.rcParams)
        again = result([panel()], {"x": X, "a": np.stack([X, X]), "b": X})
        for one, other in zip(before, again.pictures, strict=True):
            np.testing.assert_array_equal(one, np.asarray(other.image))
        assert dict(matplotlib.rcParams) == held


def test_nothing_is_left_in_the_process() -> None:
    code = (
        "import sys; import convlens.pictures.curves; assert 'matplotlib' not in sys.modules; "
        "import numpy as np; from convlens.results import Result; "
        "r = Result('m', 'curves', 'a', {'a': np.ones(3)}, {}, hints={'curves': [{'lines': "
        "[{'array': 'a', 'label': 'one'}]}]}); print(len(r.pictures), 'matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["1", "False"]


def test_letters_are_embedded_without_loss() -> None:
    import base64
    import io

    from PIL import Image

    picture = result([panel()], {"x": X, "a": np.stack([X, X]), "b": X}).pictures[0]
    held = Image.open(io.BytesIO(base64.b64decode(embed(picture).split(",")[1])))
    np.testing.assert_array_equal(np.asarray(held.convert("RGB")), np.asarray(picture.image))
