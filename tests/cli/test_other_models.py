"""What commands say of models that are no plain photo classifiers, and of numbers that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cli import tiny
from convlens.cli.app import run
from convlens.errors import FAILED, FINE, USAGE
from graph.nets import put
from reference.others import OTHERS

UNIT = ("--range", "0,1")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return tiny.photos(tmp_path / "photos")[0]


def saved(proto: onnx.ModelProto, folder: Path) -> str:
    return str(put(proto, folder))


def test_an_audit_says_what_it_lacks_where_there_are_no_classes(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = saved(tiny.network(features=True), tmp_path), str(tmp_path / "out")
    assert run(["audit", path, str(photo), "-o", out, *UNIT]) == FINE
    said = capsys.readouterr().out
    assert "no class scores, so this report does not say where" in said
    target = said.split("--target ")[1].split(")")[0].strip("'")
    assert run(["saliency", path, str(photo), "--target", target, "-o", str(tmp_path / "map"), *UNIT]) == FINE
    assert "no class scores, so this report does not say where" in (tmp_path / "out/index.html").read_text()


def test_weights_that_are_no_numbers_are_said_by_every_command(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = tiny.network()
    (weight,) = (w for w in proto.graph.initializer if w.name == "head.weight")
    numbers = numpy_helper.to_array(weight).copy()
    numbers[0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(numbers, weight.name))
    path = saved(proto, tmp_path)
    assert run(["predict", path, str(photo), *UNIT]) == FINE
    assert "weights that are not finite: head.weight" in capsys.readouterr().err
    assert run(["saliency", path, str(photo), "--json", *UNIT]) == FINE
    said = capsys.readouterr()
    assert "none is predicted: scores are not finite" in json.loads(said.out)["rows"][0]["target"]
    assert run(["audit", path, str(photo), "-o", str(tmp_path / "out"), *UNIT]) == FINE
    assert "scores are not numbers" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_no_numbers(bad: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tiny.network(), tmp_path)
    np.save(tmp_path / "x.npy", np.full((3, tiny.SIDE, tiny.SIDE), bad, np.float32))
    assert run(["predict", path, str(tmp_path / "x.npy"), *UNIT]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "x.npy: holds NaN or infinity" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("setting", [("--mean", "0.5"), UNIT])
def test_pixels_are_not_spoken_of_where_none_go_in(
    setting: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = OTHERS["waveform"]
    path = saved(other.make(), tmp_path)
    np.save(tmp_path / "x.npy", other.arrays(1)[0])
    for job in (["predict"], ["audit", "-o", str(tmp_path / "out")]):
        assert run([job[0], path, str(tmp_path / "x.npy"), *job[1:], *setting]) == USAGE
        said = capsys.readouterr().err
        assert f"{setting[0][2:]} is for photos" in said
        assert "leave it out" in said
    assert not (tmp_path / "out").exists()


def test_arrays_without_a_card_can_be_hidden_as_the_message_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tiny.network(), tmp_path)
    np.save(tmp_path / "x.npy", np.ones((3, tiny.SIDE, tiny.SIDE), np.float32))
    words: list[Any] = ["occlusion", path, str(tmp_path / "x.npy"), "-o", str(tmp_path / "out")]
    assert run(words) == USAGE
    said = capsys.readouterr().err
    assert "arrays were given" in said
    for way in (["--kind", "image"], ["--fill", "mean"], ["--range", "0,1"]):
        assert " ".join(way[:2] if way[0] != "--range" else way[:1]) in said
        assert run([*words, *way, "--overwrite"]) == FINE


def test_gradients_through_quantisers_are_said(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = tiny.network()
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    )
    for at, node in enumerate(proto.graph.node):
        if node.name == "" and node.output[0] == "edges":
            node.output[0] = "rough"
            step = onnx.helper.make_node("QuantizeLinear", ["rough", "scale", "zero"], ["codes"])
            back = onnx.helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["edges"])
            proto.graph.node.insert(at + 1, step)
            proto.graph.node.insert(at + 2, back)
            break
    path = saved(proto, tmp_path)
    words = "straight-through estimator at 1 quantiser"
    assert run(["saliency", path, str(photo), "-o", str(tmp_path / "map"), *UNIT]) == FINE
    assert f"gradients: {words}" in capsys.readouterr().out
    assert run(["audit", path, str(photo), "-o", str(tmp_path / "out"), *UNIT]) == FINE
    assert f"gradients: {words}" in capsys.readouterr().out
    assert words in (tmp_path / "out/index.html").read_text()
    assert run(["occlusion", path, str(photo), "-o", str(tmp_path / "hidden"), *UNIT]) == FINE
    assert "gradients:" not in capsys.readouterr().out


def test_frequencies_are_counted_per_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for which, unit in (("waveform", "sample"), ("board", "point")):
        other = OTHERS[which]
        (tmp_path / which).mkdir()
        path = saved(other.make(), tmp_path / which)
        assert run(["filters", path, "--json"]) == FINE
        assert f"cycles per {unit}" in json.loads(capsys.readouterr().out)["arrays"]["high"]["unit"]
