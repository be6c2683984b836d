"""Classes over regions of segmenters, peaks of maps, and class heads: nets whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.errors import LayerError, TargetError
from convlens.model import Model
from convlens.results import Result
from graph.nets import opened, refused
from reference import coloured
from reference.coloured import GREEN, LABELS, RED, moved, picture
from reference.others import Maker

CARD: dict[str, Any] = {"labels": LABELS, "mean": [0.0], "std": [1.0]}


def mask(*squares: tuple[int, ...]) -> NDArray[np.bool_]:
    found = np.zeros((coloured.HEIGHT, coloured.WIDTH), bool)
    for top, bottom, left, right in squares:
        found[top:bottom, left:right] = True
    return found


def found(model: Model, text: str, images: NDArray[Any] | None = None) -> Result:
    return model.run("saliency", picture() if images is None else images, text)


def check(
    result: Result, image: int, colour: int | None, cells: NDArray[np.bool_], gain: float = 1.0
) -> None:
    """The gradient of a mean over cells is the gain over their number in these cells, in one colour."""
    expected = np.zeros((3, *cells.shape))
    if colour is not None:
        expected[colour] = cells * gain / cells.sum()
    np.testing.assert_allclose(result.array[image], expected, rtol=1e-5, atol=1e-8)  # float32


TABLE: dict[str, tuple[int | None, NDArray[np.bool_], float]] = {
    # text: colour that is read, cells, expected score
    "1": (0, mask((0, 16, 0, 20)), mask(*RED).mean()),
    "tomato": (0, mask((0, 16, 0, 20)), mask(*RED).mean()),
    "leaf@segment": (1, mask(*GREEN), 1.0),
    "2@segment": (1, mask(*GREEN), 1.0),
    "tomato@segment": (0, mask(*RED), 1.0),
    "Tomato@ 3, 4": (0, mask(RED[0]), 1.0),
    "tomato@13,18": (0, mask(RED[1]), 1.0),
    "@3,7": (0, mask(RED[0]), 1.0),
    "@10,3": (1, mask(*GREEN), 1.0),
    "tomato@0:4,2:5": (0, mask((0, 4, 2, 5)), 4 / 12),
    "leaf@:,0:10": (1, mask((0, 16, 0, 10)), 25 / 160),
    "scores=tomato@segment": (0, mask(*RED), 1.0),
    "scores=2": (1, mask((0, 16, 0, 20)), 25 / 320),
    "scores:1@0:4,2:5": (0, mask((0, 4, 2, 5)), 4 / 12),
    "nothing@segment": (None, mask((0, 16, 0, 20)), 0.5),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return opened(coloured.segmenter(), tmp_path_factory.mktemp("plain"), **CARD)


@pytest.mark.parametrize("text", TABLE)
def test_the_table(plain: Model, text: str) -> None:
    colour, cells, score = TABLE[text]
    result = found(plain, text)
    check(result, 0, colour, cells)
    np.testing.assert_allclose(result.arrays["score"], [score], rtol=1e-5)


@pytest.mark.parametrize(("end", "gain"), [("softmax", 4.0), ("last", 4.0), ("index", 1.0), ("one", 8.0)])
def test_however_the_maps_end(tmp_path: Path, end: str, gain: float) -> None:
    """The scores before a softmax, or before an index of the largest, are what is explained."""
    card = {**CARD, "labels": ["tomato"]} if end == "one" else CARD
    model = opened(coloured.segmenter(end), tmp_path, **card)
    check(found(model, "tomato@segment"), 0, 0, mask(*RED), gain)
    check(found(model, "@3,4"), 0, 0, mask(RED[0]), gain)


def test_images_have_segments_of_their_own(plain: Model) -> None:
    both = np.concatenate([picture(), moved()])
    result = found(plain, "@3,4", both)
    check(result, 0, 0, mask(RED[0]))
    check(result, 1, 1, mask(RED[0]))
    target = result.how["target"]
    assert target["each"] == [
        "class 1 (tomato) over its segment at 3,4 (20 of 320 cells)",
        "class 2 (leaf) over its segment at 3,4 (20 of 320 cells)",
    ]
    assert [one["class"] for one in target["picked"]] == [1, 2]
    assert target["picked"][1] == {"class": 2, "cells": 20, "of": 320, "label": "leaf"}
    alone = found(plain, "@3,4", moved())
    np.testing.assert_array_equal(alone.array[0], result.array[1])


def test_a_segment_stays_where_it_was_when_the_input_changes(plain: Model) -> None:
    """Hiding a part of the segment lowers the score; the region does not shrink with it."""
    result = plain.run("occlusion", picture(), "tomato@3,4", patch=2, stride=2, fill="0")
    covered = picture(red=[RED[0]])[0, 0]
    for i, row in enumerate(result.arrays["rows_at"]):
        for j, column in enumerate(result.arrays["columns_at"]):
            hidden = covered[row : row + 2, column : column + 2].sum()
            assert result.array[0, i, j] == pytest.approx(1 - hidden / 20, abs=1e-6)


def test_cells_larger_than_pixels(tmp_path: Path) -> None:
    """Cells of 2 x 2 pixels: those whose middles lie in the box."""
    model = opened(coloured.segmenter("halved"), tmp_path, **CARD)
    result = found(model, "tomato@2:6,4:8")
    check(result, 0, 0, mask((2, 6, 4, 8)))
    assert result.how["target"]["picked"][0]["cells"] == 4
    check(found(model, "tomato@4:5,7:8"), 0, 0, mask((4, 6, 6, 8)))  # smaller than a cell: the nearest


def test_cells_of_a_net_without_padding(tmp_path: Path) -> None:
    """Output cell 0 sees pixels 0 to 4: its middle is pixel 2, wherever the output's size would put it."""
    model = opened(coloured.segmenter("cut"), tmp_path, **CARD)
    assert model.target("scores:1@peak").look is not None
    check(found(model, "tomato@2:3,2:3"), 0, 0, mask((0, 5, 0, 5)))
    check(found(model, "tomato@13:14,17:18"), 0, 0, mask((11, 16, 15, 20)))
    check(found(model, "tomato@5:6,9:10"), 0, 0, mask((3, 8, 7, 12)))


def test_a_signal_has_stretches(tmp_path: Path) -> None:
    """Cells of two samples each; one number is a point, one range a stretch."""
    model = opened(coloured.stretches(), tmp_path, labels=["silence", "first", "second"])
    x = np.zeros((1, 2, 40), np.float32)
    x[0, 0, 4:10], x[0, 0, 20:30], x[0, 1, 12:16] = 1, 1, 1
    for text, lead, first, last in [
        ("@5", 0, 4, 10),
        ("@13", 1, 12, 16),
        ("first@25", 0, 20, 30),
        ("second@segment", 1, 12, 16),
        ("first@8:12", 0, 8, 12),
    ]:
        expected = np.zeros((2, 40))
        expected[lead, first:last] = 1 / (last - first)
        np.testing.assert_allclose(found(model, text, x).array[0], expected, rtol=1e-6, err_msg=text)


def test_channels_last(tmp_path: Path) -> None:
    """Photos and maps with their channels last; the maps are not taken for 16 classes."""
    m = Maker()
    m.add("Transpose", "x", "turned", perm=[0, 3, 1, 2])
    m.stored["w"] = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)[:, :, None, None]
    m.stored["b"] = np.float32([0.5, 0, 0])
    m.add("Conv", "turned w b", "scores")
    m.add("Transpose", "scores", "maps", perm=[0, 2, 3, 1])
    model = opened(m.model(["N", 16, 20, 3], "maps"), tmp_path, **CARD)
    result = found(model, "@3,4", np.moveaxis(picture(), 1, -1))
    expected = np.zeros((16, 20, 3))
    expected[..., 0] = mask(RED[0]) / 20
    np.testing.assert_allclose(result.array[0], expected, rtol=1e-6)


def test_the_peak_of_a_map(tmp_path: Path) -> None:
    model = opened(coloured.segmenter("cut"), tmp_path, **CARD)
    image = picture(red=[(6, 11, 9, 14)])  # one window of 5 x 5 is all red
    for text in ("scores:1@peak", "tomato@peak", "scores=1@peak"):
        result = found(model, text, image)
        check(result, 0, 0, mask((6, 11, 9, 14)))
        assert result.how["target"]["picked"][0]["at"] == [8.0, 11.0]
        assert result.how["target"]["each"][0].endswith("at its peak, 8,11")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tomato@0,0", ["class 0 (nothing) is predicted there, not class 1 (tomato)", "leave the class out"]),
        ("tomato@16,3", ["lies outside the input", "16 x 20"]),
        ("tomato@0:17,:", ["lies outside the input"]),
        ("tomato@3", ["2 spatial axes, found 1"]),
        ("tomato@4:4,:", ["nothing lies in 4:4"]),
        ("tomato@there", ["@there: no place", "row,column", "segment, peak"]),
        ("tomato@", ["after @"]),
        ("tomahto@segment", ["no class called 'tomahto'", "'tomato'"]),
        ("7@segment", ["no class 7", "0 to 2"]),
        ("@segment", ["of which class?", "CLASS@segment"]),
        ("@box:3", ["no output looks like boxes"]),
        ("scors=1", ["no output or layer 'scors'", "'scores'"]),
        ("scores:1@3:4", ["2 spatial axes, found 1"]),
        ("scores:1@segment", ["after a channel comes row,column of the layer, peak"]),
        ("scores:9@peak", ["no channel 9", "0 to 2"]),
    ],
)
def test_what_cannot_be_meant(plain: Model, text: str, words: list[str]) -> None:
    with refused(LayerError if text == "scores:9@peak" else TargetError, *words):
        found(plain, text)


def test_a_place_that_nobody_looked_up(plain: Model) -> None:
    with refused(TargetError, "another place on each image", "Model.run"):
        plain.target("@3,4").score({"scores": np.zeros((1, 3, 16, 20), np.float32)})


def test_a_class_that_is_nowhere(plain: Model) -> None:
    with refused(TargetError, "no cell of scores is predicted as class 2 (leaf)", "class 0 (nothing) on 94%"):
        found(plain, "leaf@segment", picture(green=[], red=[RED[0]]))
    both = np.concatenate([picture(), picture(green=[])])
    with refused(TargetError, "input 1: no cell"):
        found(plain, "leaf@segment", both)


def test_a_model_of_one_score_a_class_has_no_places(tmp_path: Path) -> None:
    model = opened(coloured.two_heads(), tmp_path, **CARD)
    with refused(TargetError, "one score a class for the whole input", "leave the place out"):
        model.target("tomato@segment")


HEADS: dict[str, tuple[int, float]] = {
    # text: colour, weight of its mean
    "kind=tomato": (1, 2.0),
    "kind=0": (0, 1.0),
    "colour=0": (0, 5.0),
    "colour=1": (1, 7.0),
    "colour=predicted": (0, 5.0),
    "kind=predicted": (1, 2.0),
}


@pytest.mark.parametrize("text", HEADS)
def test_every_head_by_its_name(tmp_path: Path, text: str) -> None:
    model = opened(coloured.two_heads(), tmp_path, **CARD)
    colour, weight = HEADS[text]
    check(found(model, text), 0, colour, mask((0, 16, 0, 20)), weight)


def test_heads_that_do_not_exist(tmp_path: Path) -> None:
    model = opened(coloured.two_heads(), tmp_path, **CARD)
    with refused(TargetError, "no class 2", "colour has classes 0 to 1"):
        model.target("colour=2")
    with refused(TargetError, "colour has no class called 'leaf'", "type an index"):
        model.target("colour=leaf")
    with refused(TargetError, "no class called 'leef'", "'leaf'"):
        model.target("kind=leef")


def test_the_class_of_each_image_in_a_head(tmp_path: Path) -> None:
    model = opened(coloured.two_heads(), tmp_path, **CARD)
    result = found(model, "colour=predicted", np.concatenate([picture(), picture(red=[])]))
    assert [one["class"] for one in result.how["target"]["picked"]] == [0, 1]
    assert result.how["target"]["each"][1] == "the predicted class of colour, class 1"
    check(result, 1, 1, mask((0, 16, 0, 20)), 7.0)
