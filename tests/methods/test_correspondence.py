"""``correspondence`` against loops over single features, and on parts whose meaning is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import convlens
from convlens import registry
from convlens.errors import LayerError, ParameterError, UsageError
from convlens.model import Model
from convlens.preprocess import Preprocess
from reference import correspondence, deconvnet, nets, occlusion
from reference.others import OTHERS

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
CARD: dict[str, Any] = {"mean": MEAN, "std": STD, "threads": 1}
NET = nets.classifier(0, (3, 22, 17))
SHARE = 1e-5
BOXES = {"nose": (4, 10, 3, 9), "ear": (12, 17, 6, 14)}
TEXT = "nose=4:10,3:9; ear = 12:17, 6:14"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(NET.onnx(), tmp_path_factory.mktemp("models")), **CARD)


def images(count: int = 3) -> Any:
    return nets.pictures(0, count, NET.shape, np.float32)


def test_every_number_is_that_of_the_loops(model: Model) -> None:
    given = images()
    result = model.run(
        "correspondence", given, parts=TEXT, layers="conv1,relu2,dense1", draws=2, batch_size=2
    )
    fill = np.asarray(occlusion.pixel(127.5, NET.shape, MEAN, STD))
    for p, box in enumerate(BOXES.values()):
        for k, layer in enumerate(("conv1", "relu2", "dense1")):
            net = NET.until(layer)
            signs = [
                correspondence.changes(
                    lambda x, net=net: deconvnet.forward(net, x).top,
                    image.astype(np.float64),
                    fill,
                    box,
                    SHARE,
                )
                for image in given
            ]
            assert result.arrays["distance"][p, k] == pytest.approx(correspondence.consistency(signs))
            apart = [correspondence.hamming(signs[i], signs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
            np.testing.assert_allclose(result.arrays["pairs"][p, k], apart)
            hidden = correspondence.covered(given[1].astype(np.float64), fill, box)
            before, after = (deconvnet.forward(net, x).top for x in (given[1].astype(np.float64), hidden))
            share = np.linalg.norm(before - after) / np.linalg.norm(before)
            assert result.arrays["change"][1, p, k] == pytest.approx(share, rel=1e-4)


def test_random_places_are_boxes_of_the_same_size(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is covered is seen by the model: as many pixels as the part has, elsewhere in each image."""
    from convlens.attribution.masking.covering import Cover

    seen: list[Any] = []
    original = Cover.changes

    def watched(self: Any, index: int, starts: Any, sides: Any) -> Any:
        seen.append((index, starts, sides))
        return original(self, index, starts, sides)

    monkeypatch.setattr(Cover, "changes", watched)
    result = model.run("correspondence", images(), parts=TEXT, draws=40, depths=1)
    assert [index for index, _, _ in seen] == [0, 1, 2]
    assert all(len(starts) == len(sides) == 2 * 41 for _, starts, sides in seen)
    for number, box in enumerate(BOXES.values()):
        own = slice(number * 41 + 1, (number + 1) * 41)
        places = set()
        for _, starts, sides in seen:
            assert (starts[own.start - 1], sides[own.start - 1]) == (
                [box[0], box[2]],
                [box[1] - box[0], box[3] - box[2]],
            )
            for (row, column), (high, wide) in zip(starts[own], sides[own], strict=True):
                assert (high, wide) == (box[1] - box[0], box[3] - box[2])
                assert 0 <= row <= 22 - high
                assert 0 <= column <= 17 - wide
                places.add((row, column))
        assert len(places) > 60, "the places are not spread"
    np.testing.assert_allclose(result.arrays["random_mean"], result.arrays["random"].mean(axis=(0, 1)))


@pytest.mark.parametrize("fill", ["grey", "inpaint"])
def test_windows_say_what_whole_images_say(fill: str, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of different sizes, some at the border, in windows and whole, all at once and a few at a time."""
    from convlens.attribution.sets import changed

    parts = f"{TEXT}; corner = 0:5,13:17"
    given = {"parts": parts, "layers": "conv1,relu2,dense1", "draws": 9, "fill": fill, "batch_size": 4}
    dense = model.run("correspondence", images(), **given, exact="dense")
    assert [each["computed"] for each in dense.hints["each"]] == ["dense: asked for"] * 3
    probed = []
    original = changed.probe

    def watched(*args: Any) -> Any:
        probed.append(len(args[4]))
        return original(*args)

    monkeypatch.setattr(changed, "probe", watched)
    for held, probes in ((changed._HELD, [30] * 3), (20_000, [10] * 9)):
        monkeypatch.setattr(changed, "_HELD", held)
        probed.clear()
        result = model.run("correspondence", images(), **given, exact="incremental")
        assert probed == probes
        for each in result.hints["each"]:
            assert each["computed"].startswith("incremental: ")
            assert "parts in windows; 3 positions computed whole too differ by" in each["computed"]
        for key, array in dense.arrays.items():
            np.testing.assert_allclose(result.arrays[key], array, rtol=0, atol=1e-5, err_msg=key)


def test_the_order_of_the_images_does_not_matter(model: Model) -> None:
    given = images(4)
    one = model.run("correspondence", given, parts=TEXT, draws=3)
    other = model.run("correspondence", given[::-1].copy(), parts=TEXT, draws=3)
    for key in ("distance", "random", "random_mean", "random_sd"):
        np.testing.assert_allclose(one.arrays[key], other.arrays[key], atol=1e-12, err_msg=key)
    np.testing.assert_allclose(one.arrays["change"], other.arrays["change"][::-1], rtol=1e-5)


def test_the_same_thing_at_different_places_is_found(tmp_path: Path) -> None:
    """One pattern in noise, elsewhere each time: behind a pool over space, covering it means the same."""
    rng = np.random.default_rng(5)
    first = nets.conv(rng, 3, 24, 3, pad=1)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["conv"], ["mean"]),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 3, 24, 24]}, ["mean"], {"w": first.weight})
    loaded = convlens.load(nets.saved(proto, tmp_path), **CARD)
    given = rng.normal(0, 1, (4, 3, 24, 24)).astype(np.float32)
    pattern = rng.normal(1, 4, (3, 6, 6)).astype(np.float32)
    boxes = {}
    for index, (row, column) in enumerate(((2, 3), (14, 8), (9, 17), (16, 1))):
        given[index, :, row : row + 6, column : column + 6] = pattern
        boxes[f"input {index}"] = [f"{row}:{row + 6}", f"{column}:{column + 6}"]
    result = loaded.run(
        "correspondence", given, parts={"pattern": boxes}, layers="mean", draws=20, fill="mean"
    )
    assert result.array[0, 0] < 0.2 < result.arrays["random_mean"][0]
    assert result.rows[0]["draws below"] == 0
    (finding,) = registry.method("correspondence").findings(result)
    assert "more alike than any random place" in finding.text


def test_a_part_without_effect_is_not_called_alike(tmp_path: Path) -> None:
    """Where nothing changes all signs are zero and agree; that tells nothing of the part."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Slice", ["input", "from", "to", "axis"], ["left"]),
        helper.make_node("Conv", ["left", "w"], ["conv"]),
    ]
    stored = {"w": rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)}
    stored |= {n: np.array([k], np.int64) for n, k in (("from", 0), ("to", 8), ("axis", 3))}  # type: ignore[misc]
    proto = nets.model_of(nodes, {"input": ["N", 3, 12, 20]}, ["conv"], stored)
    loaded = convlens.load(nets.saved(proto, tmp_path), **CARD)
    given = rng.normal(0, 1, (3, 3, 12, 20)).astype(np.float32)
    result = loaded.run("correspondence", given, parts="right=2:10,12:19", layers="conv", fill="0")
    assert result.array[0, 0] == 0
    assert (result.arrays["change"] == 0).all()
    (finding,) = registry.method("correspondence").findings(result)
    assert "too little" in finding.text


def photos(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for name, size in (("cat.png", (44, 34)), ("dog.png", (40, 60))):
        path = folder / name
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
        paths.append(path)
    return paths


FILES = {
    "parts.csv": "image,part,left,top,right,bottom\ncat.png,nose,10,8,20,16\ndog.png,nose,4,30,16,40\n",
    "parts.toml": '[nose]\n"cat.png" = [10, 8, 20, 16]\ndog = [4, 30, 16, 40]\n',
    "parts.json": json.dumps({"nose": {"cat": [10, 8, 20, 16], "dog.png": [4, 30, 16, 40]}}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_boxes_of_photos_are_found_in_what_the_model_sees(name: str, resize: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(FILES[name], encoding="utf-8")
    path = nets.saved(NET.onnx(), tmp_path)
    loaded = convlens.load(path, **CARD, resize=resize)
    result = loaded.run("correspondence", photos(tmp_path), parts=str(file), draws=2, depths=1)
    assert result.hints["covered"] == ["nose"]
    boxes = [((10, 8, 20, 16), (44, 34)), ((4, 30, 16, 40), (40, 60))]
    for index, (box, size) in enumerate(boxes):
        marked = np.zeros((size[1], size[0], 3), np.uint8)
        marked[box[1] : box[3], box[0] : box[2]] = 255
        seen = loaded.preprocess.view(Image.fromarray(marked))[..., 0] > 127
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        (top, bottom), (left, right) = result.hints["boxes"][index][0]
        assert abs(top - rows[0]) <= 1
        assert abs(bottom - rows[-1] - 1) <= 1
        assert abs(left - columns[0]) <= 1
        assert abs(right - columns[-1] - 1) <= 1
    assert result.pictures[-1].name == "covered"
    assert "nose in rows" in result.pictures[-1].alt


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(44, 34), (17, 90), (300, 22)])
def test_corners_of_a_photo_are_placed_where_the_view_has_them(resize: str, size: tuple[int, int]) -> None:
    """The whole photo in the view: its middle lies in the middle, and a stretched one fills it."""
    how = Preprocess("NCHW", "RGB", (22, 17), 0, 1, (0,), (1,), resize, 0.8, "bilinear", "float32")
    left, top, right, bottom = how.placed((0, 0, *size), size)
    assert (left + right) / 2 == pytest.approx(17 / 2, abs=1)
    assert (top + bottom) / 2 == pytest.approx(22 / 2, abs=1)
    if resize == "stretch":
        assert (left, top, right, bottom) == (0, 0, 17, 22)
    elif resize == "pad":
        assert (right - left, bottom - top)[0 if size[0] / 17 > size[1] / 22 else 1] in (17, 22)
    else:
        assert left <= 0
        assert top <= 0
        assert right >= 17
        assert bottom >= 22


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no name": ({"parts": "4:10,3:9"}, ParameterError, "NAME=FROM:TO"),
    "no box": ({"parts": "nose="}, ParameterError, "NAME=FROM:TO"),
    "nothing": ({"parts": " ; "}, ParameterError, "names no part"),
    "too few axes": ({"parts": "nose=4:10"}, ParameterError, r"1 axes; expected 2 \(rows, columns\)"),
    "outside": ({"parts": "nose=4:10,3:90"}, ParameterError, "3 to 90 along columns; .* within 0 to 17"),
    "the wrong way": ({"parts": "nose=10:4,3:9"}, ParameterError, "10 to 4 along rows"),
    "words": ({"parts": "nose=left,top"}, ParameterError, "left, top, right, bottom in pixels"),
    "no such file": ({"parts": "no/such.csv"}, ParameterError, "cannot be read"),
    "an image without a box": (
        {"parts": {"nose": {"input 0": [1, 1, 5, 5]}}},
        ParameterError,
        "no box for input 1",
    ),
    "a layer that is none": ({"layers": "conv7"}, LayerError, "conv7"),
}


@pytest.mark.parametrize("which", BAD)
def test_what_cannot_be_done_is_refused(which: str, model: Model) -> None:
    settings, kind, text = BAD[which]
    with pytest.raises(kind, match=text) as caught:
        model.run("correspondence", images(2), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.toml", "[nose"), ("a.json", "{"), ("a.json", "[1]"), ("a.csv", "cat.png,nose"), ("a.json", "{}")],
)
def test_broken_files_are_refused(name: str, text: str, model: Model, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ParameterError, match="parts") as caught:
        model.run("correspondence", images(2), parts=str(file))
    assert "\n" not in str(caught.value)


def test_one_image_alone_is_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="two or more, found one"):
        model.run("correspondence", images(1))


def test_stretches_of_signals(tmp_path: Path) -> None:
    loaded = convlens.load(nets.saved(OTHERS["waveform"].make(), tmp_path), threads=1)
    result = loaded.run("correspondence", OTHERS["waveform"].arrays(3), parts="onset=20:60", draws=2)
    assert result.hints["boxes"][0] == [[[20, 60]]]
    with pytest.raises(ParameterError, match="a box of a photo; expected FROM:TO for each axis"):
        loaded.run("correspondence", OTHERS["waveform"].arrays(2), parts={"onset": [1, 2, 3, 4]})
