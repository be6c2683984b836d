"""A painter from training to pictures on the command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli import tiny
from convlens import stylise as package
from convlens.cli.app import run
from convlens.errors import FAILED, FINE, MODEL, STOPPED, USAGE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.photos(tmp_path / "frames")
    return tmp_path


def test_a_painter_is_trained_and_runs_over_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.tiny(folder / "model")
    train = ["faststyle", str(model), "--style", "frames/photo0.png", "--photos", "frames", "-o", "trained"]
    assert run([*train, "--steps", "2", "--width", "2", "--blocks", "0", "--threads", "1"]) == FINE
    assert "files in trained" in capsys.readouterr().out
    frames = ["stylise", "trained/photo0.onnx", "frames", "-o", "painted", "--threads", "1"]
    assert run(frames) == FINE
    said = capsys.readouterr()
    assert (said.out, said.err) == ("3 pictures written to painted\n", "")
    for number in range(3):
        with Image.open(f"painted/photo{number}.png") as image:
            assert image.size == (48, 40)
            assert len(np.unique(np.asarray(image))) > 4
    assert run(frames) == USAGE
    assert "--resume goes on" in capsys.readouterr().err
    Path("painted/photo1.png").unlink()
    assert run([*frames, "--resume", "--json"]) == FINE
    record = json.loads(capsys.readouterr().out)
    assert (record["written"], record["kept"], record["stopped"]) == (1, 2, False)
    assert record["files"] == [str(Path("painted/photo1.png"))]


def test_what_is_no_picture_and_what_makes_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.tiny(folder / "model")
    assert run(["stylise", str(model), "frames"]) == MODEL
    said = capsys.readouterr()
    assert said.err.startswith("convlens: the network gives no picture: ")
    assert said.err.count("\n") == 1
    assert run(["stylise", str(model), "nowhere"]) == USAGE
    assert "nowhere: no such file" in capsys.readouterr().err
    assert not Path("convlens-stylise").exists()


def test_a_broken_frame_and_an_early_end(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["faststyle", str(tiny.tiny(folder / "model")), "--style", "frames/photo0.png"]
    train += ["--photos", "frames", "--steps", "1", "--width", "1", "--blocks", "0", "-o", "trained"]
    assert run([*train, "--threads", "1"]) == FINE
    bad = tiny.no_picture(folder / "frames" / "bad.png")
    capsys.readouterr()
    assert run(["stylise", "trained/photo0.onnx", "frames", "-o", "painted"]) == FAILED
    said = capsys.readouterr()
    assert said.err == "convlens: skipped: frames/bad.png: not a picture that can be decoded\n"
    assert said.out == "3 pictures written to painted\n"
    bad.unlink()
    read = package.read_image

    def pressed(path: Path) -> Image.Image:
        if path.name == "photo0.png":
            os.kill(os.getpid(), signal.SIGINT)
        return read(path)

    monkeypatch.setattr(package, "read_image", pressed)
    assert run(["stylise", "trained/photo0.onnx", "frames", "-o", "other"]) == STOPPED
    assert "--resume goes on" in capsys.readouterr().out
