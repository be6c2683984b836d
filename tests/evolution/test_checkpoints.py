"""What on the command line is a checkpoint, in which order they go, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import convlens
from cli import tiny
from convlens.cli.app import run
from convlens.errors import FAILED, FINE, USAGE, UsageError
from convlens.evolution.checkpoints import checkpoints_of, told_apart, unordered
from convlens.evolution.scored import classes_of, score
from evolution import trainings
from reference.nets import classifier, saved


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    trainings.from_red_to_green(tmp_path / "run")
    trainings.data(tmp_path)
    return tmp_path


def touched(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_checkpoints_are_told_from_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touched(tmp_path / "run", "e10.onnx", "e2.onnx", "e1.ONNX", "card.toml", "test.npz")
    touched(tmp_path / "photos", "1.png")
    paths, images = told_apart(["photos", "run", "digits.npz"])
    assert [path.name for path in paths] == ["e1.ONNX", "e2.onnx", "e10.onnx"]
    assert images == ["photos", "digits.npz"]
    paths, images = told_apart(["run/e10.onnx", "run/e2.onnx", "photos/*.png"])
    assert [path.name for path in paths] == ["e10.onnx", "e2.onnx"]
    assert images == ["photos/*.png"]
    assert [path.name for path in told_apart(["run/e*.onnx"])[0]] == ["e2.onnx", "e10.onnx"]
    with pytest.raises(UsageError, match=r"none\*.onnx: no file fits this pattern"):
        told_apart(["none*.onnx"])
    bundled, _ = told_apart(["efficientnet-lite0"])
    assert [path.suffix for path in bundled] == [".onnx"]


def test_names_leave_out_what_all_share() -> None:
    def names(*paths: str) -> list[str]:
        return [each.name for each in checkpoints_of([Path(path) for path in paths])]

    assert names("run/net-e1.onnx", "run/net-e10.onnx") == ["e1", "e10"]
    assert names("run/e1.onnx", "run/e12.onnx") == ["e1", "e12"]
    assert names("a/net.onnx", "b/net.onnx") == ["a/net", "b/net"]
    assert names("net.onnx", "net-2.onnx") == ["net", "net-2"]
    with pytest.raises(UsageError, match=r"found one, run/e1.onnx; expected two or more"):
        names("run/e1.onnx")
    with pytest.raises(UsageError, match=r"e1.onnx: given twice"):
        names("e1.onnx", "e2.onnx", "e1.onnx")


def test_numbers_that_do_not_rise_are_said() -> None:
    fine = checkpoints_of([Path("e1.onnx"), Path("e2.onnx"), Path("e10.onnx")])
    assert unordered(fine) is None
    mixed = checkpoints_of([Path("e1.onnx"), Path("e10.onnx"), Path("e2.onnx")])
    assert unordered(mixed) is not None
    assert "(1, 10, 2)" in str(unordered(mixed))
    assert unordered(checkpoints_of([Path("start.onnx"), Path("e2.onnx")])) is None


def test_it_runs_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evolve", "run", "data.npz", "--threads", "1", "-o", "out"]) == FINE
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "linear CKA with e10, 12 of 12 images"
    assert lines[1].split() == ["layer", "e1", "e2", "e10", "settles"]
    assert lines[2].split()[0] == "relu1"
    assert "relu1:0 at e2" in said.out
    assert "12 images are few" in said.err
    record = json.loads((folder / "out" / "evolve.json").read_text())
    assert [row["file"] for row in record["hints"]["tables"]["checkpoints"]] == [
        "net-e1.onnx",
        "net-e2.onnx",
        "net-e10.onnx",
    ]
    assert {path.name for path in (folder / "out").iterdir()} >= {"evolve.npz", "evolve-relu1.png"}
    assert run(["evolve", "run", "data.npz", "-o", "out"]) == USAGE
    assert "not empty and was left as it is" in capsys.readouterr().err


def test_json_and_what_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.photos(folder / "photos", 4)
    tiny.no_picture(folder / "photos" / "bad.png")
    arguments = ["evolve", "run/net-e2.onnx", "run/net-e10.onnx", "photos", "--json", "--threads", "1"]
    assert run([*arguments, "--channel", "relu1:1"]) == FAILED
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["how"]["images"] == {"used": 4, "of": 5}
    assert [row["channel"] for row in found["hints"]["tables"]["followed"]] == [1]
    assert found["findings"]
    assert "skipped: bad.png" in said.err
    assert not (folder / "convlens-evolve").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "no images among what was given"),
        (["data.npz", "data.npz"], "no checkpoints among what was given"),
        (["run/net-e1.onnx", "data.npz"], "found one, run/net-e1.onnx; expected two or more"),
        (["run", "nowhere"], "nowhere: no such file"),
        (["run", "data.npz", "--channel", "relu1:7"], "no channel 7; it has channels 0 to 1"),
        (["run", "data.npz", "--channel", "relu1"], "'relu1' names no channel"),
        (["run", "data.npz", "--channel", "relu9:0"], "no layer 'relu9'"),
        (["run", "data.npz", "--layer", "relu9"], "no layer 'relu9'"),
        (["run", "three.npz"], "3 images; expected 4 or more"),
    ],
)
def test_refusals(arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(folder / "three.npz", inputs=trainings.photos()[:3])
    assert run(["evolve", *arguments]) == USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("convlens: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not (folder / "convlens-evolve").exists()


def test_another_network_is_refused_by_its_first_difference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros((3, 3 * 16), np.float32)
    three = trainings.net([trainings.RED] * 3, nothing, (0, 0, 0))
    trainings.kept(folder / "run", "net-e11", three)
    assert run(["evolve", "run", "data.npz"]) == USAGE
    said = capsys.readouterr().err
    assert "run/net-e1.onnx and run/net-e11.onnx are not checkpoints of one network" in said
    assert "layer 'conv1' is N x 2 x 8 x 8 in one and N x 3 x 8 x 8 in the other" in said
    saved(classifier(1, (3, 8, 8), 3).onnx(), folder / "run", "net-e11")
    assert run(["evolve", "run", "data.npz"]) == USAGE
    assert "are not checkpoints of one network: layer 'conv1'" in capsys.readouterr().err
    saved(classifier(1, (3, 9, 8), 3).onnx(), folder / "run", "net-e11")
    assert run(["evolve", "run", "data.npz"]) == USAGE
    assert "their inputs are 'input' (N x 3 x 8 x 8) and 'input' (N x 3 x 9 x 8)" in capsys.readouterr().err


def test_labels_name_classes_by_name_or_number(tmp_path: Path) -> None:
    model = convlens.load(tiny.tiny(tmp_path))
    assert classes_of(["Red Fox", "3", "white dove", "5", "cat", None, "-1"], model.classes).tolist() == [
        0, 3, 4, -1, -1, -1, -1,
    ]  # fmt: skip
    assert classes_of(["0"], None).tolist() == [-1]
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
    found = score(probabilities, np.array([0, 0, -1]))
    assert (found.accuracy, found.truth) == (0.5, pytest.approx(0.55))
    assert found.surest == pytest.approx(0.7)
    assert score(None, np.array([0])).surest is None
