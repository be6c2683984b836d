"""Fooled photos are files with 8 bits, inside the ball, and fool when the command line reads them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convlens
from convlens.cli.app import run as command
from convlens.errors import CardError, ConvLensError, ModelFileError, ParameterError, UsageError
from convlens.fooling.files import framed
from convlens.images import read_image
from convlens.model import Model
from convlens.results import Result
from reference import nets

SHAPE = (3, 22, 17)
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1, "device": "cpu"}
CROPS = {
    "as it is": {},
    "cropped": {"crop": 0.875, "interpolation": "bicubic"},
    "cropped, not even": {"crop": 0.9},
    "cropped a little": {"crop": 0.97, "interpolation": "lanczos"},
    "cropped a lot": {"crop": 0.33},
    "stretched": {"resize": "stretch"},
    "with borders": {"resize": "pad"},
    "blue first": {"channels": "BGR", "crop": 0.875},
}


def photos(count: int = 3, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (40, 31, 3), np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.saved(nets.classifier(0, SHAPE).onnx(), tmp_path_factory.mktemp("photos"))


@pytest.fixture
def model(file: Path) -> Model:
    return convlens.load(file, **CARD)


def options(settings: dict[str, Any]) -> list[str]:
    given = {**CARD, **settings}
    return [
        part
        for name, value in given.items()
        for part in (f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value))
    ]


@pytest.mark.parametrize("crop", CROPS)
def test_saved_photos_fool_when_the_command_line_reads_them_back(
    crop: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = convlens.load(file, **CARD, **CROPS[crop])
    before = model.run("predict", photos(), top=1).array
    result = model.run("fool", photos())
    assert all(row["fooled"] for row in result.rows)
    result.save(tmp_path)
    files = {what: sorted(tmp_path.glob(f"*-{what}.png")) for what in ("clean", "fooled")}
    assert len(files["clean"]) == len(files["fooled"]) == 3
    for what, paths in files.items():
        assert command(["predict", str(file), *map(str, paths), "--json", *options(CROPS[crop])]) == 0
        rows = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["rank"] == 1]
        told = "before" if what == "clean" else "after"
        assert [row["label"] for row in rows] == [row[told] for row in result.rows]
        assert [row["probability"] for row in rows] == [row[f"probability {told}"] for row in result.rows]
    np.testing.assert_array_equal([row["probability before"] for row in result.rows], before[:, 0])
    views = np.stack([model.preprocess.view(read_image(path)) for path in files["fooled"]])
    np.testing.assert_array_equal(views, result.array)  # bit for bit what was attacked


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_a_change_stays_in_the_ball_and_is_whole(attack: str, norm: str, model: Model) -> None:
    epsilon = 5.0 if norm == "linf" else 60.5
    result = model.run("fool", photos(), attack=attack, norm=norm, epsilon=epsilon)
    clean, fooled = (result.arrays[name] for name in ("clean", "fooled"))
    assert clean.dtype == fooled.dtype == np.uint8
    delta = fooled.astype(np.float64) - clean.astype(np.float64)
    assert result.views is not None
    np.testing.assert_array_equal(clean, result.views)
    np.testing.assert_allclose(result.arrays["linf"], np.abs(delta).max(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(result.arrays["l2"], np.sqrt((delta**2).sum(axis=(1, 2, 3))), rtol=1e-6)
    assert result.arrays[norm].max() <= epsilon * (1 + 1e-6)
    assert result.arrays[norm].min() >= 0.5 * epsilon or attack == "pgd"


def linear_photos(tmp_path: Path, slope: float) -> tuple[Model, np.ndarray[Any, Any]]:
    """Two classes of pictures of 6 x 6, apart by a weighted sum of the levels that starts at ``slope``."""
    rng = np.random.default_rng(2)
    weight = np.zeros((2, 108), np.float32)
    weight[1] = rng.normal(0, 1, 108)
    layer = nets.Dense(weight, np.zeros(2, np.float32))
    view = rng.integers(60, 200, (6, 6, 3), np.uint8)
    flat = np.moveaxis(view, -1, 0).reshape(-1).astype(np.float64)
    layer.bias[0] = float(weight[1].astype(np.float64) @ flat) + slope
    path = nets.saved(nets.Net((3, 6, 6), (layer,)).onnx(), tmp_path, f"linear{slope}")
    return convlens.load(path, range=[0, 255], threads=1), view


@pytest.mark.parametrize("attack", ["deepfool", "carlini-wagner"])
@pytest.mark.parametrize("slope", [0.5, 4.0, 30.0])
def test_a_smallest_change_that_rounding_undoes_is_sought_again(
    slope: float, attack: str, tmp_path: Path
) -> None:
    """On a linear model, fewest steps of one level: those with the largest weights, until they suffice."""
    model, view = linear_photos(tmp_path, slope)
    weight = next(iter(v for n, v in model.graph.constants.items() if v.shape == (2, 108)))[1]
    assert slope / np.sqrt(weight @ weight) * np.abs(weight).max() / np.sqrt(weight @ weight) < 0.9
    steps = 60 if attack == "carlini-wagner" else None
    result = model.run("fool", [Image.fromarray(view)], attack=attack, steps=steps)
    row = result.rows[0]
    assert row["fooled"]
    assert (row["before"], row["after"]) == ("class 0", "class 1")
    gains = np.cumsum(np.sort(np.abs(weight).astype(np.float64))[::-1])
    fewest = int(np.searchsorted(gains, slope)) + 1
    assert np.sqrt(fewest) * (1 - 1e-6) <= row["l2"] <= np.sqrt(fewest) * 1.1 + 1e-6


@pytest.mark.parametrize("crop", [1.0, 0.99, 0.95, 0.9, 0.888, 0.875, 0.8, 0.7, 0.5, 0.25])
@pytest.mark.parametrize("size", [(224, 224), (299, 299), (37, 53), (240, 320), (5, 7)])
def test_a_framed_picture_is_what_the_card_brings_to_itself(
    size: tuple[int, int], crop: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("framed")
    net = nets.Net((3, 4, 4), (nets.conv(np.random.default_rng(0), 3, 2, 3),))
    path = nets.saved(net.onnx(size=("H", "W")), folder)
    prepare = convlens.load(path, **CARD, size=size, crop=crop).preprocess
    views = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    found = framed(prepare, views)
    assert found is not None
    files, (above, before) = found
    np.testing.assert_array_equal(files[:, above : above + size[0], before : before + size[1]], views)
    for view, photo in zip(views, files, strict=True):
        np.testing.assert_array_equal(prepare.view(Image.fromarray(photo)), view)


def test_grey_photos_stay_grey(tmp_path: Path) -> None:
    shape = (1, 14, 14)
    path = nets.saved(nets.classifier(3, shape).onnx(), tmp_path)
    model = convlens.load(path, mean=[0.5], std=[0.25], threads=1, crop=0.875)
    result = model.run("fool", photos(2))
    assert result.array.shape == (2, 14, 14, 1)
    result.save(tmp_path / "out")
    for index, path in enumerate(sorted((tmp_path / "out").glob("*-fooled.png"))):
        np.testing.assert_array_equal(model.preprocess.view(read_image(path)), result.array[index])


def test_arrays_that_are_no_pictures_are_told_of(model: Model) -> None:
    exact = model.images(photos()).array
    result = model.run("fool", exact)
    np.testing.assert_array_equal(result.arrays["clean"], model.run("fool", photos()).arrays["clean"])
    assert not any("8-bit" in text for text in result.how["warnings"])
    other = model.run("fool", exact + np.float32(0.005))
    assert any("no 8-bit pictures" in text for text in other.how["warnings"])


def test_other_models_are_shown_the_same_files(file: Path, model: Model, tmp_path: Path) -> None:
    other = nets.saved(nets.classifier(9, (3, 30, 30)).onnx(), tmp_path, "other")
    (tmp_path / "other.card.toml").write_text(
        "[model]\nname = 'other'\n[input]\nmean = [0.5]\nstd = [0.2]\nresize = 'stretch'\n"
    )
    (tmp_path / "net.card.toml").write_text("[input]\nmean = [0.5]\nstd = [0.2]\n")
    again = nets.saved(nets.classifier(0, SHAPE).onnx(), tmp_path, "net")
    result = model.run("fool", photos(), also=(str(other), str(again)))
    result.save(tmp_path / "out")
    for column, path in enumerate((other, again)):
        seen = [
            convlens.load(path).run("predict", sorted((tmp_path / "out").glob(f"*-{what}.png")), top=1)
            for what in ("clean", "fooled")
        ]
        indices = [each.arrays["index"][:, 0] for each in seen]
        np.testing.assert_array_equal(result.arrays["transfer"][:, column], indices[0] != indices[1])
    for row, changed in zip(result.rows, result.arrays["transfer"], strict=True):
        assert (row["other"] == "not fooled") == (not changed[0])


BAD: dict[str, tuple[dict[str, Any], type[ConvLensError], str]] = {
    "less than a level": ({"epsilon": 0.5}, ParameterError, "whole levels, so expected 1 or more"),
    "a curve below a level": ({"epsilons": (0.5, 2.0)}, ParameterError, "whole levels"),
    "a curve of nothing": ({"epsilons": (0.0, 2.0)}, ParameterError, "epsilons"),
    "a ball of deepfool": (
        {"attack": "deepfool", "epsilon": 3.0},
        ParameterError,
        "deepfool seeks the smallest change; leave it out",
    ),
    "restarts of fgsm": ({"attack": "fgsm", "restarts": 3}, ParameterError, "it is one of pgd's"),
    "another norm": ({"attack": "carlini-wagner", "norm": "linf"}, ParameterError, "measures in l2 alone"),
    "an unknown attack": ({"attack": "pdg"}, ParameterError, "attack is 'pdg'"),
    "no such model": ({"also": ("nowhere.onnx",)}, ModelFileError, "nowhere.onnx: no such file"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_does_not_fit_is_refused_in_one_line(bad: str, model: Model) -> None:
    settings, kind, words = BAD[bad]
    with pytest.raises(kind) as caught:
        model.run("fool", photos(1), **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_models_without_classes_or_a_card_are_refused(model: Model, tmp_path: Path) -> None:
    bare = nets.saved(nets.classifier(1, SHAPE).onnx(), tmp_path, "bare")
    with pytest.raises(CardError, match="how pixels go in is not known"):
        model.run("fool", photos(1), also=(str(bare),))
    (tmp_path / "maps.card.toml").write_text("[input]\nmean = [0.5]\nstd = [0.2]\n")
    net = nets.Net((3, 8, 8), (nets.conv(np.random.default_rng(0), 3, 2, 3),))
    maps = nets.saved(net.onnx(), tmp_path, "maps")
    with pytest.raises(UsageError, match="the model has no class scores"):
        model.run("fool", photos(1), also=(str(maps),))


def test_rows_do_not_depend_on_each_other(model: Model) -> None:
    whole: Result = model.run("fool", photos(3), restarts=2, epsilon=2.0)
    for index in range(3):
        alone = model.run("fool", photos(3)[index : index + 1], restarts=2, epsilon=2.0)
        np.testing.assert_array_equal(alone.array[0], whole.array[index])
