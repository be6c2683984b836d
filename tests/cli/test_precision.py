"""``--precision`` on the command line: where it stands, what is said, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import tiny
from convlens.cli.app import run
from convlens.errors import FINE, USAGE


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    model, photos = tiny.tiny(tmp_path / "model"), tiny.photos(tmp_path / "photos")
    return [str(model), str(photos[0]), "--device", "cpu", "-o", str(tmp_path / "out")]


def test_a_result_says_its_precision(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["saliency", *given, "--precision", "bfloat16", "--json"]) == FINE
    how = json.loads(capsys.readouterr().out)["how"]
    assert how["precision"] == "bfloat16"
    assert run(["saliency", *given, "--precision", "bfloat16", "--overwrite"]) == FINE
    assert f"gradients: {how['gradients']}\n" in capsys.readouterr().out


def test_refusals_are_one_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["saliency", *given, "--precision", "float16"]) == USAGE
    assert capsys.readouterr().err.strip().splitlines() == [
        "convlens: precision is 'float16', which is for CUDA, and the model runs on the CPU; use bfloat16"
    ]
    assert run(["lrp", *given, "--precision", "bfloat16"]) == USAGE
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "lrp takes its gradients in float32" in line


def test_methods_side_by_side_list_the_one_that_refuses(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "saliency,integrated-gradients"
    assert run(["attribute", *given, "--methods", methods, "--precision", "bfloat16", "--json"]) == FINE
    assert "integrated-gradients takes its gradients in float32" in capsys.readouterr().out
