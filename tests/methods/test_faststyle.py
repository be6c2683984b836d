"""faststyle as a whole: the file that it hands out, one training however often stopped, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from PIL import Image

import convlens
from convlens.errors import ConvLensError, ImageError, OutputError, ParameterError, UsageError
from convlens.model import Model
from convlens.results import Result
from convlens.watch import FRAMES, Watch
from reference import nets
from reference.impatient import Impatient

SINGLE = 1e-6
"""Of numbers from 0 to 1: the same float32 file run twice by onnxruntime, alone and in another session."""

CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}
QUICK: dict[str, Any] = {"steps": 6, "side": 16, "width": 2, "blocks": 1, "batch": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(2)
    (folder / "photos").mkdir()
    for name in ("my style", "photos/a", "photos/b", "photos/c", "photos/d"):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
        coarse.resize((40, 36), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(files: Path) -> Model:
    net = nets.classifier(0, (3, 16, 16)).until("relu2").onnx(size=("H", "W"))
    return convlens.load(nets.saved(net, files, "open"), size=[16, 16], **CARD)


def run(model: Model, files: Path, watch: Watch | None = None, **changes: Any) -> Result:
    given = {**QUICK, "style": str(files / "my style.png"), "photos": (str(files / "photos"),), **changes}
    return model.run("faststyle", watch=watch, **given)


def test_the_network_that_comes_out_is_certified_and_paints_what_is_shown(
    model: Model, files: Path, tmp_path: Path
) -> None:
    result = run(model, files)
    assert result.how["warnings"] == []
    assert result.how["layers"] == {"content": "relu2", "style": ["relu1", "relu2"]}
    assert [row["part"] for row in result.rows] == ["loss", "content", "style", "tv"]
    assert result.rows[0]["end"] < result.rows[0]["start"]
    written = {path.name for path in result.save(tmp_path)}
    assert {"my-style.onnx", "my-style.card.toml", "a-painted.png", "faststyle-a.png"} <= written
    painter = convlens.load(tmp_path / "my-style.onnx", threads=1)
    assert painter.certificate().passed
    assert painter.name == "Painter in the style of my-style"
    assert painter.preprocess.size == (16, 16)
    own = onnxruntime.InferenceSession(tmp_path / "my-style.onnx", providers=["CPUExecutionProvider"])
    assert own.get_inputs()[0].shape == ["N", 3, "H", "W"]
    for index, name in enumerate("abc"):
        with Image.open(files / "photos" / f"{name}.png") as image:
            square = image.resize((32, 32), Image.Resampling.BICUBIC, box=(2, 0, 38, 36))
        given = np.moveaxis(np.asarray(square, np.float32) / 255, -1, 0)
        np.testing.assert_array_equal(result.arrays["photo"][index], given)
        (picture,) = own.run(None, {"photo": given[None]})
        np.testing.assert_allclose(result.array[index], picture[0], rtol=0, atol=SINGLE)
        with Image.open(tmp_path / f"{name}-painted.png") as saved:
            expected = np.rint(np.moveaxis(picture[0], 0, -1) * 255)
            assert np.abs(np.asarray(saved) - expected).max() <= 1
    back = Result.load(tmp_path, "faststyle")
    assert back.record() == result.record()


def test_a_stopped_training_hands_out_what_there_is_and_goes_on_to_the_same_file(
    model: Model, files: Path, tmp_path: Path
) -> None:
    whole = run(model, files)
    watch = Impatient(tmp_path)
    watch.patience = 3
    partly = run(model, files, watch)
    assert "--resume" in partly.how["warnings"][0]
    assert len(partly.arrays["loss"]) == 3
    assert partly.attached["my-style.onnx"] != whole.attached["my-style.onnx"]
    with pytest.raises(OutputError, match=r"another job .*parameters"):
        run(model, files, Watch(tmp_path, resume=True), steps=7)
    again = run(model, files, Watch(tmp_path, resume=True))
    assert again.attached == whole.attached
    np.testing.assert_array_equal(again.arrays["loss"], whole.arrays["loss"])
    np.testing.assert_array_equal(again.array, whole.array)
    assert not list(tmp_path.iterdir())


def test_pictures_on_the_way(model: Model, files: Path, tmp_path: Path) -> None:
    run(model, files, Watch(tmp_path, frames=3))
    names = sorted(path.name for path in (tmp_path / FRAMES).iterdir())
    assert names == ["painter-00001.png", "painter-00002.png", "painter-00003.png"]
    with Image.open(tmp_path / FRAMES / names[0]) as image:
        assert image.size == (3 * 16 + 2 * 2, 16)


def test_the_style_is_brought_to_its_side(model: Model, files: Path) -> None:
    assert run(model, files).arrays["style"].shape == (3, 16, 18)
    assert run(model, files, style_side=30).arrays["style"].shape == (3, 30, 33)


def test_a_loss_network_of_one_size(files: Path) -> None:
    path = nets.saved(nets.classifier(0, (3, 20, 20)).onnx(), files, "fixed")
    fixed = convlens.load(path, **CARD)
    own = run(fixed, files, side=None)
    assert own.arrays["photo"].shape == (3, 3, 40, 40)
    assert own.arrays["style"].shape == (3, 20, 20)
    assert own.how["warnings"] == []
    other = run(fixed, files)
    assert other.how["warnings"] == [
        "the loss network takes 20 x 20 pixels only; crops of 16 are resampled on the way"
    ]


def test_a_grey_loss_network_teaches_a_grey_painter(files: Path, tmp_path: Path) -> None:
    net = nets.classifier(0, (1, 16, 16)).until("relu2").onnx(size=("H", "W"))
    grey = convlens.load(nets.saved(net, files, "grey"), size=[16, 16], mean=[0.5], std=[0.25], threads=1)
    result = run(grey, files)
    assert result.array.shape == (3, 1, 32, 32)
    result.save(tmp_path)
    assert convlens.load(tmp_path / "my-style.onnx").preprocess.channels == "GRAY"


def test_a_loss_network_in_half_precision(model: Model, files: Path, tmp_path: Path) -> None:
    proto = nets.classifier(0, (3, 16, 16)).until("relu2").onnx(size=("H", "W"))
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    half = convlens.load(nets.saved(proto, tmp_path), size=[16, 16], **CARD)
    assert half.source.dtype == "float16"
    found, wanted = (run(each, files, steps=1) for each in (half, model))
    for name in ("content", "style_loss"):
        np.testing.assert_allclose(found.arrays[name], wanted.arrays[name], rtol=2e-2)  # ten bits


def test_small_and_broken_photos_are_said(model: Model, files: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    for name in ("e", "f"):
        Image.new("RGB", (12, 30), (90, 60, 30)).save(tmp_path / f"{name}.png")
    said = run(model, files, photos=(str(tmp_path),)).how["warnings"]
    assert len(said) == 2
    assert said[0].startswith("1 of the photos could not be read; the first: ")
    assert said[1].startswith("2 of the photos are smaller than the crops of 16 pixels and were enlarged")


def test_without_photos_those_that_come_along_are_taken(model: Model, files: Path) -> None:
    result = run(model, files, photos=(), steps=1)
    assert result.how["warnings"][0].startswith("learnt from the 4 photos that come along")


def test_bad_files_are_one_clear_line(model: Model, files: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ParameterError, "--style PICTURE", {"style": None}),
        (ImageError, "none.png", {"style": str(tmp_path / "none.png")}),
        (ImageError, "not a picture", {"style": str(tmp_path / "bad.png")}),
        (ImageError, "none of the 1 photos", {"photos": (str(tmp_path),)}),
        (UsageError, "no such file", {"photos": (str(tmp_path / "none"),)}),
        (UsageError, "no layer 'conv9'", {"style_layer": ("conv9",)}),
        (ParameterError, "side", {"side": 4}),
    ]
    for kind, words, changes in cases:
        with pytest.raises(kind, match=words) as caught:
            run(model, files, **changes)
        assert "\n" not in str(caught.value)


def test_a_style_that_was_not_learnt_is_said(model: Model, files: Path) -> None:
    from convlens import registry

    still = run(model, files, steps=1)
    (finding,) = registry.method("faststyle").findings(still)
    assert finding.level == "attention"
    learnt = run(model, files, steps=80, learning_rate=1e-2)
    assert registry.method("faststyle").findings(learnt) == []


def test_a_network_without_places_is_refused(files: Path) -> None:
    net = nets.Net((3, 8, 8), (nets.dense(np.random.default_rng(0), 192, 4),))
    flat = convlens.load(nets.saved(net.onnx(), files, "flat"), **CARD)
    with pytest.raises(ConvLensError, match="no layer whose units have a place"):
        run(flat, files)
