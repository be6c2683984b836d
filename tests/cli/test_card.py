"""``convlens card``: what is printed and written, and what is refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convlens
from convlens.cli.app import run
from convlens.errors import FINDING, FINE, USAGE
from test_conventions import pictures, trained_on

VIEWS = pictures(6)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and six photos, in folders of which one names their class."""
    folder = tmp_path_factory.mktemp("card")
    trained_on("bytes BGR", VIEWS, folder / "learnt.onnx")
    trained_on("bytes BGR", VIEWS, folder / "random.onnx", learnt=False)
    for number, view in enumerate(VIEWS):
        inside = folder / "photos" / str(number % 2)
        inside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(view).save(inside / f"{number}.png")
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_without_evidence_no_card_is_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "card", place / "random.onnx", "--images", place / "photos", "--json")
    record = json.loads(out, parse_constant=pytest.fail)
    assert code == FINDING
    assert record["verdict"] == "behaviour cannot tell"
    assert record["card"] is None
    assert not (place / "random.card.toml").exists()
    assert record["photos"] == 6
    assert [row["place"] for row in record["ranking"]] == list(range(1, len(record["ranking"]) + 1))
    assert "labels" in record["ranking"][0]["evidence"]  # the folders are named 0 and 1


def test_the_card_that_is_taken_is_the_one_that_is_written(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "made" / "c.toml"
    words: list[Any] = ["card", place / "random.onnx", "--images", place / "photos", "-o", to]
    code, out, _ = said(capsys, *words, "--take", "caffe BGR")
    assert code == FINE
    assert "behaviour cannot tell" in out
    assert str(to) in out
    text = to.read_text()
    assert "# Score " in text
    found = tomllib.loads(text)
    assert found["model"]["how"].startswith("chosen by hand; verdict on 6 photos: behaviour cannot tell")
    assert found["input"]["mean"] == [103.939, 116.779, 123.68]
    way = convlens.load(place / "random.onnx", card=to).preprocess
    expected = VIEWS[..., ::-1].astype(np.float64) - [103.939, 116.779, 123.68]
    assert np.abs(way.array(VIEWS) - np.moveaxis(expected, -1, 1)).max() <= 1e-4  # float32 of numbers to 255
    code, out, err = said(capsys, *words, "--take", "1")
    assert (code, out) == (USAGE, "")
    assert "--overwrite" in err
    assert to.read_text() == text
    assert said(capsys, *words, "--take", "1", "--overwrite")[0] == FINE


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--take", "nonsense"], "no convention 'nonsense' in the ranking"),
        (["--true", "missing.csv"], "cannot be read"),
        (["--layout", "NCHW", "--size", "40"], "does not fit the model"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], why: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(
        capsys, "card", place / "learnt.onnx", "--images", place / "photos", "--limit", "4", *words
    )
    assert (code, out) == (USAGE, "")
    assert why in err
    assert err.count("\n") == 1


def test_true_classes_from_a_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = "".join(f"{n}.png,{n % 5}\n" for n in range(6))
    table = tmp_path / "true.csv"
    words: list[Any] = ["card", place / "learnt.onnx", "--images", place / "photos", "--true", table]
    table.write_text(lines)
    _, out, _ = said(capsys, *words, "--json", "-o", tmp_path / "c.toml")
    assert "labels" in json.loads(out)["ranking"][0]["evidence"]
    for text, why in (("0.png,1\n", "says no class"), (lines.replace(",3", ",9"), "'9' is no class")):
        table.write_text(text)
        code, _, err = said(capsys, *words, "-o", tmp_path / "d.toml")
        assert code == USAGE
        assert why in err
