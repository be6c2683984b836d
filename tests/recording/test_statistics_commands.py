"""Statistics of a recording from the command line: dead, classes, channels --recording, audit --recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli import tiny
from convlens.cli.app import run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, photos of two classes in folders, and their recording."""
    root = tmp_path_factory.mktemp("statistics")
    model = tiny.tiny(root / "model")
    for number in range(12):
        folder = root / "photos" / ("dark" if number % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        array = tiny.pixels(number) // (8 if number % 2 else 1)
        Image.fromarray(array).save(folder / f"{number:02d}.png")
    given = [str(model), str(root / "photos"), "-o", str(root / "rec"), "--threads", "1"]
    assert run(["record", *given]) == 0
    return root


def told(capsys: pytest.CaptureFixture[str], *given: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*given, "--json", "--threads", "1"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_dead(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "dead", str(root / "rec"))
    assert [row["layer"] for row in found["rows"]] == ["edges", "parts"]
    assert found["findings"]
    one = told(capsys, "dead", str(root / "rec"), "parts", "--rare", "0.5")
    assert [row["layer"] for row in one["rows"]] == ["parts"]
    assert run(["dead", str(root / "rec"), "part"]) == 2
    assert "layer 'part' was not recorded; nearest: 'parts'" in capsys.readouterr().err


def test_classes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "classes", str(root / "rec"), "edges", "--top", "2")
    assert [(row["class"], row["images"]) for row in found["rows"]] == [("dark", 6)] * 2 + [("light", 6)] * 2
    assert all(str(row["channel"]).startswith("edges:") for row in found["rows"])


def test_channels_against_a_recording(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photo = str(root / "model" / "tiny.onnx"), str(root / "photos" / "light" / "00.png")
    found = told(capsys, "channels", model, photo, "--recording", str(root / "rec"), "--top", "3")
    assert all(0 <= row["share"] <= 1 for row in found["rows"])
    shares = [row["share"] for row in found["rows"]]
    assert shares == sorted(shares, reverse=True)
    assert run(["channels", model, photo, "--recording", str(root / "rec"), "--layer", "stem"]) == 2
    assert "layer 'stem' was not recorded" in capsys.readouterr().err


def test_an_audit_with_a_recording(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photo = str(root / "model" / "tiny.onnx"), str(root / "photos" / "light" / "00.png")
    given = ["audit", model, photo, "-o", str(root / "report"), "--recording", str(root / "rec")]
    found = told(capsys, *given, "--closer", "1", "--drawn", "0")
    assert [layer["layer"] for layer in found["microscope"]["layers"]] == ["edges", "parts"]
    assert found["microscope"]["images"] == 12
    page = (root / "report" / "microscope" / "parts.html").read_text(encoding="utf-8")
    assert "tells apart" in page
    assert "Morcos et al. 2018" in page
    assert "Not there." not in page
    other = tiny.tiny(root / "other", end="Softmax")
    given = ["audit", str(other), photo, "-o", str(root / "refused"), "--recording", str(root / "rec")]
    assert run(given) == 2
    assert "recorded from" in capsys.readouterr().err
    assert not (root / "refused").exists()
