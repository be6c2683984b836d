"""Boxes of detectors in every common form, chosen by class, number or point: nets with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from convlens.errors import TargetError
from convlens.model import Model
from convlens.results import Result
from convlens.targets import settled
from convlens.targets.boxes import overlaps_with
from convlens.targets.coordinates import Reading, reading
from graph.nets import opened, refused
from reference import coloured
from reference.coloured import CELLS, RED, corners, logits, moved, picture, sigmoid

NAMES = ["tomato", "leaf"]
CARD: dict[str, Any] = {"labels": NAMES, "mean": [0.0], "std": [1.0]}
SHARES = sigmoid(logits(picture()[0]))  # 20 x 2


def best_at(row: int, column: int, shares: NDArray[Any] = SHARES) -> tuple[int, int]:
    """Box and class with the largest share, of the boxes that contain a pixel's middle, by a plain loop."""
    found = []
    for number, (left, top, right, bottom) in enumerate(corners().tolist()):
        if left <= column + 0.5 <= right and top <= row + 0.5 <= bottom:
            found += [(float(shares[number, label]), number, label) for label in range(shares.shape[1])]
    most = max(share for share, _, _ in found)
    return next((number, label) for share, number, label in found if share == most)


def slope(number: int, label: int, factor: NDArray[Any] | float) -> NDArray[np.float64]:
    """The gradient of a cell's share: ``factor`` times 8 over the 16 pixels of the cell, in its colour."""
    expected = np.zeros((3, coloured.HEIGHT, coloured.WIDTH))
    row, column = CELLS[number]
    expected[label, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] = factor * 8 / 16
    return expected


def picked(result: Result, image: int = 0) -> dict[str, Any]:
    one: dict[str, Any] = result.how["target"]["picked"][image]
    return one


def run(model: Model, text: str, images: NDArray[Any] | None = None) -> Result:
    return model.run("saliency", picture() if images is None else images, text)


NORMAL = corners() / np.float32([coloured.WIDTH, coloured.HEIGHT, coloured.WIDTH, coloured.HEIGHT])
NORMAL_CENTRED = coloured.centred() / np.float32(
    [coloured.WIDTH, coloured.HEIGHT, coloured.WIDTH, coloured.HEIGHT]
)
FORMS: dict[str, tuple[onnx.ModelProto, float, str]] = {
    # the model, factor of its score, how the boxes are read
    "numbers first": (coloured.yolo(), 1.0, "middle, width, height in pixels"),
    "objectness": (coloured.yolo("objectness"), 0.5, "middle, width, height in pixels"),
    "in shares": (coloured.yolo(boxes=NORMAL_CENTRED), 1.0, "middle, width, height in shares of the picture"),
    "corners": (coloured.yolo(boxes=corners()), 1.0, "left, upper, right, lower in pixels"),
    "corners in shares": (
        coloured.yolo(boxes=NORMAL),
        1.0,
        "left, upper, right, lower in shares of the picture",
    ),
    "apart, each by itself": (coloured.apart(nothing=False), 1.0, "left, upper, right, lower in pixels"),
    "listed": (coloured.listed(), 1.0, "left, upper, right, lower in pixels"),
    "suppressed": (coloured.suppressed(), 1.0, "left, upper, right, lower in pixels"),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Model]:
    names = [*NAMES, "stone"] if request.param == "listed" else NAMES  # 4 + 2 could be read as two scores
    card = {**CARD, "labels": names}
    return request.param, opened(FORMS[request.param][0], tmp_path_factory.mktemp("form"), **card)


@pytest.mark.parametrize("text", ["@3,5", "tomato@3,5", "0@3,5", "tomato", "@12,4", "leaf@12,4", "leaf"])
def test_a_box_in_every_form(form: tuple[str, Model], text: str) -> None:
    name, model = form
    _, factor, words = FORMS[name]
    if "@" in text and not text.startswith(("tomato", "leaf", "0")):
        number, label = best_at(*map(int, text[1:].split(",")))
    elif "@" in text:
        label = 1 if text.startswith("leaf") else 0
        one_class = np.where(np.arange(2) == label, SHARES, -1)
        number, _ = best_at(*map(int, text.split("@")[1].split(",")), one_class)
    else:
        label = NAMES.index(text)
        number = int(SHARES[:, label].argmax())
    share = SHARES[number, label]
    result = run(model, text)
    record = picked(result)
    left, top, right, bottom = corners()[number].tolist()
    assert record["at"] == pytest.approx([top, left, bottom, right], abs=1e-2)
    assert (record["class"], record["label"], record["read_as"]) == (label, NAMES[label], words)
    assert record["score"] == pytest.approx(factor * share, rel=1e-5)
    if name != "suppressed":  # what is kept has other numbers
        assert record["box"] == number
    # apart: the score before the sigmoid is explained
    before = name == "apart, each by itself"
    score = logits(picture()[0])[number, label] if before else factor * share
    np.testing.assert_allclose(result.arrays["score"], [score], rtol=1e-4)
    expected = slope(number, label, 1.0 if before else factor * share * (1 - share))
    np.testing.assert_allclose(result.array[0], expected, rtol=1e-4, atol=1e-7)  # float32 through a sigmoid


def test_words(tmp_path: Path) -> None:
    result = run(opened(coloured.yolo(), tmp_path, **CARD), "@3,5")
    number, _ = best_at(3, 5)
    left, top, right, bottom = (round(v) for v in corners()[number].tolist())
    words = f"class 0 (tomato), box {number} (rows {top} to {bottom}, columns {left} to {right}, score "
    assert result.how["target"]["each"][0].startswith(words)
    assert result.how["target"]["text"] == "the best box at 3,5"


def test_a_box_by_its_number(tmp_path: Path) -> None:
    model = opened(coloured.yolo("objectness"), tmp_path, **CARD)
    result = run(model, "leaf@box:11")
    share = SHARES[11, 1]
    np.testing.assert_allclose(result.arrays["score"], [0.5 * share], rtol=1e-5)
    np.testing.assert_allclose(result.array[0], slope(11, 1, 0.5 * share * (1 - share)), rtol=1e-4, atol=1e-7)
    with refused(TargetError, "@box:20", "boxes 0 to 19"):
        run(model, "@box:20")


def test_images_have_boxes_of_their_own(tmp_path: Path) -> None:
    model = opened(coloured.yolo(), tmp_path, **CARD)
    both = np.concatenate([picture(), moved()])
    result = run(model, "@12,4", both)
    shares = [sigmoid(logits(image)) for image in both]
    for i, own in enumerate(shares):
        assert (picked(result, i)["box"], picked(result, i)["class"]) == best_at(12, 4, own)
    alone = run(model, "@12,4", both[1:])
    np.testing.assert_array_equal(alone.array[0], result.array[1])
    small = model.run("saliency", both, "@12,4", batch_size=1)
    np.testing.assert_allclose(small.array, result.array, rtol=1e-5)


def test_boxes_follow_their_images(tmp_path: Path) -> None:
    """Parts of a batch, in any order and repeated, read what was picked on their own images."""
    model = opened(coloured.yolo(), tmp_path, **CARD)
    both = np.concatenate([picture(), moved(), picture(red=[], green=RED)])
    values = model.runner.run({"x": both}, ["found"])
    target = settled(
        model.target("@12,4"), ["a", "b", "c"], lambda i, _: {"found": values["found"][i : i + 1]}, (16, 20)
    )
    whole = target.score(values)
    for rows in ([2, 0], [1, 1, 2], [0]):
        part = {"found": values["found"][rows]}
        np.testing.assert_array_equal(target.take(rows).score(part), whole[rows])
    np.testing.assert_array_equal(target.rows(1, 3).score({"found": values["found"][1:]}), whole[1:])
    np.testing.assert_array_equal(target.rows(2, 9).score({"found": values["found"][2:]}), whole[2:])
    copies = {"found": np.repeat(values["found"][1:2], 5, axis=0)}
    one = target.of(1)
    for same in (one, one.rows(0, 5), one.rows(3, 8), one.take([0, 0, 0, 0, 0])):
        np.testing.assert_array_equal(same.score(copies), np.repeat(whole[1], 5))
    tensors = {"found": torch.from_numpy(values["found"])}
    np.testing.assert_allclose(target.score(tensors).numpy(), whole, rtol=1e-6)


def test_a_class_that_stands_for_nothing(tmp_path: Path) -> None:
    """Softmax over three with nothing first: it is never picked, and labels are those of the others."""
    model = opened(coloured.apart(), tmp_path, **CARD)
    result = run(model, "@3,5")
    assert picked(result)["class"] == 1
    assert picked(result)["label"] == "tomato"
    named = opened(coloured.apart(), tmp_path, **{**CARD, "labels": ["background", *NAMES]})
    again = run(named, "@3,5")
    assert picked(again) == picked(result)
    np.testing.assert_array_equal(again.array, result.array)
    np.testing.assert_array_equal(run(model, "tomato@3,5").array, result.array)
    bare = opened(coloured.apart(), tmp_path, mean=[0.0], std=[1.0])
    full = picture(red=[(0, 16, 0, 20)], green=[])  # everywhere something: which one is nothing?
    with refused(TargetError, "one class stands for nothing", "name a class"):
        run(bare, "@3,5", full)
    assert picked(run(bare, "1@3,5", full))["class"] == 1


def test_a_suppression_under_occlusion(tmp_path: Path) -> None:
    """A box is found again by its place: hiding another square changes nothing, hiding its own ends it."""
    model = opened(coloured.suppressed(), tmp_path, **CARD)
    result = model.run("occlusion", picture(), "tomato@3,5", patch=4, stride=4, fill="0")
    number, label = best_at(3, 5)
    row, column = CELLS[number]
    base = SHARES[number, label]
    np.testing.assert_allclose(result.arrays["baseline"], [base], rtol=1e-5)
    for at, value in np.ndenumerate(result.array[0]):
        hidden = picture()
        hidden[0, :, at[0] * 4 : at[0] * 4 + 4, at[1] * 4 : at[1] * 4 + 4] = 0
        values = model.runner.run({"x": hidden}, ["found", "scores", "labels"])
        lap = overlaps_with(values["found"][:, [1, 0, 3, 2]].astype(float), corners()[number][[1, 0, 3, 2]])
        expected = max((lap * values["scores"] * (values["labels"] == label)).tolist(), default=0.0)
        assert value == pytest.approx(expected, abs=1e-5)
    assert result.array[0, row, column] < 0.5 * base
    assert result.array[0, 3, 4] == pytest.approx(base, rel=1e-5)


def test_a_suppression_that_keeps_nothing(tmp_path: Path) -> None:
    model = opened(coloured.suppressed(), tmp_path, **CARD)
    with refused(TargetError, "finds nothing on this image"):
        run(model, "@3,5", np.zeros_like(picture()))
    target = model.target("@3,5")
    assert target.alone
    kept = model.run("saliency", np.concatenate([picture(), moved()]), "@3,5")
    assert [one["class"] for one in kept.how["target"]["picked"]] == [0, 1]


def test_the_score_of_a_kept_box_is_the_same_on_numpy_and_torch(tmp_path: Path) -> None:
    model = opened(coloured.suppressed(), tmp_path, **CARD)
    names = ["found", "scores", "labels"]
    values = model.runner.run({"x": picture()}, names)
    target = settled(model.target("@3,5"), ["a"], lambda _i, _names: values, (16, 20))
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    assert target.score(values).shape == (1,)
    np.testing.assert_allclose(target.score(tensors).numpy(), target.score(values))
    empty = {name: value[:0] for name, value in values.items()}
    np.testing.assert_array_equal(target.score(empty), [0])


def test_windows_of_a_detector_without_boxes(tmp_path: Path) -> None:
    model = opened(coloured.windows(), tmp_path, mean=[0.0], std=[1.0])
    result = run(model, "@4,5", picture(red=[(4, 10, 4, 10)], green=[]))
    record = picked(result)
    assert (record["class"], record["at"], record["cell"]) == (1, [4, 4, 10, 10], [2, 2])
    expected = np.zeros((3, 16, 20))
    expected[0, 4:10, 4:10] = 8 / 36
    np.testing.assert_allclose(result.array[0], expected, rtol=1e-5, atol=1e-8)
    assert picked(run(model, "prob=1@4,5"))["class"] == 1
    assert "window rows 4 to 9, columns 4 to 9" in result.how["target"]["each"][0]


def test_outputs_named_as_one_library_names_them(tmp_path: Path) -> None:
    """Rows first; what its class numbers are called nobody knows, so they stay numbers."""
    result = run(opened(coloured.tensorflow(), tmp_path, **CARD), "@3,5")
    number, label = best_at(3, 5)
    left, top, right, bottom = corners()[number].tolist()
    record = picked(result)
    assert record["at"] == pytest.approx([top, left, bottom, right], abs=1e-2)
    assert (record["box"], record["class"]) == (number, label + 1)
    assert "label" not in record
    assert record["read_as"] == "upper, left, lower, right in shares of the picture"
    share = SHARES[number, label]
    np.testing.assert_allclose(
        result.array[0], slope(number, label, share * (1 - share)), rtol=1e-4, atol=1e-7
    )


def test_a_box_that_is_certain(tmp_path: Path) -> None:
    """Its score is written beside the box, after the sigmoid, so that its gradient all but vanishes."""
    model = opened(coloured.yolo(), tmp_path, **CARD)
    (warning,) = run(model, "@3,5", 3 * picture()).how["warnings"]
    assert "after a sigmoid or softmax" in warning
    assert run(model, "@3,5").how["warnings"] == []
    before = opened(coloured.apart(nothing=False), tmp_path, **CARD)
    assert run(before, "@3,5", 3 * picture()).how["warnings"] == []


def test_a_box_that_is_hardly_one(tmp_path: Path) -> None:
    """Said for every method; a picture of nothing has no detections, but every anchor has a score."""
    model = opened(coloured.yolo(), tmp_path, **CARD)
    empty = np.zeros_like(picture())
    for method in ("saliency", "occlusion"):
        (warning,) = model.run(method, np.concatenate([picture(), empty]), "@3,5").how["warnings"]
        assert "the best box at 3,5 has a score of only 0.018 on 1 of 2 images" in warning  # sigmoid(-4)
    assert model.run("occlusion", picture(), "@3,5").how["warnings"] == []


def test_what_is_no_box(tmp_path: Path) -> None:
    model = opened(coloured.yolo(), tmp_path, **CARD)
    for text, words in {
        "@segment": ["the model gives boxes"],
        "@0:3,0:3": ["the model gives boxes", "@box:NUMBER"],
        "leek@3,5": ["no class called 'leek'", "'leaf'"],
        "@30,5": ["lies outside the input"],
        "5": ["no class scores"],
    }.items():
        with refused(TargetError, *words):
            run(model, text)
    bare = opened(coloured.yolo("objectness"), tmp_path, mean=[0.0], std=[1.0])
    with refused(TargetError, "number of labels", "--target 'found[0,:,4].max'"):
        run(bare, "@3,5")


def test_six_numbers_that_mean_two_things(tmp_path: Path) -> None:
    """With two labels, score and class of a box could be the scores of the two."""
    model = opened(coloured.listed(), tmp_path, **CARD)
    with refused(TargetError, "score and class", "give no labels"):
        run(model, "@3,5")
    bare = opened(coloured.listed(), tmp_path, mean=[0.0], std=[1.0])
    assert picked(run(bare, "@3,5"))["class"] == 0


def test_numbers_that_are_no_scores(tmp_path: Path) -> None:
    """Keypoints behind the scores, as pose detectors have them, are no classes."""
    model = opened(coloured.yolo(boxes=coloured.centred()), tmp_path, mean=[0.0], std=[1.0])
    values = model.runner.run({"x": picture()}, ["found"])
    values["found"][:, 5] = 12.0
    look = model.target("@3,5").look
    assert look is not None
    with refused(TargetError, "not class scores alone", "name a cell"):
        look.pick(values, (16, 20))


RANDOM = np.random.default_rng(0)
SPREAD = RANDOM.uniform(0, 300, (60, 2))
SIZES = RANDOM.uniform(5, 60, (60, 2))
CENTRED = np.concatenate([SPREAD, SIZES], axis=1)
CORNERED = np.concatenate([SPREAD - SIZES / 2, SPREAD + SIZES / 2], axis=1)
SCALE = np.array([320, 240, 320, 240])


@pytest.mark.parametrize(
    ("boxes", "order", "normal"),
    [
        (CENTRED, "centres", False),
        (CORNERED, "corners", False),
        (CENTRED / SCALE, "centres", True),
        (CORNERED / SCALE, "corners", True),
    ],
)
def test_coordinates_told_from_numbers(boxes: NDArray[Any], order: str, normal: bool) -> None:
    found = reading(boxes, (240, 320), rows_first=False, kept=False)
    assert found == Reading(order, normal)
    np.testing.assert_allclose(found.corners(boxes, (240, 320)), CORNERED[:, [1, 0, 3, 2]], rtol=1e-6)


def test_coordinates_that_are_not_clear() -> None:
    few = np.array([[10.0, 10, 20, 20], [15, 12, 30, 40]])
    with refused(TargetError, "can be read as corners as well as middles"):
        reading(few, (240, 320), rows_first=False, kept=False)
    assert reading(few, (240, 320), rows_first=False, kept=True).order == "corners"
    raw = RANDOM.normal(0, 1, (60, 4))
    with refused(TargetError, "not decoded"):
        reading(raw, (240, 320), rows_first=False, kept=False)
    rows_first = CORNERED[:, [1, 0, 3, 2]]
    found = reading(rows_first, (240, 320), rows_first=True, kept=True)
    np.testing.assert_allclose(found.corners(rows_first, (240, 320)), rows_first)


def test_overlap_by_hand() -> None:
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(overlaps_with(boxes, np.array([0.0, 0, 2, 2])), [1, 1 / 7, 0, 0])
