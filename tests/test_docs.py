"""What the documentation tells people to type works as it is written there."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import convlens
from convlens import registry

ROOT = Path(__file__).parents[1]
SAME = 1e-6  # one product of float32 numbers


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


@pytest.fixture
def gradient_input() -> Iterator[None]:
    """The method that CONTRIBUTING.md walks through, registered for the length of a test."""
    module = ModuleType("gradient_input_of_the_guide")
    sys.modules[module.__name__] = module
    before = dict(registry.methods())
    exec(compile(blocks("CONTRIBUTING.md", "python")[0], "CONTRIBUTING.md", "exec"), module.__dict__)
    yield
    registry._METHODS.clear()
    registry._METHODS.update(before)
    del sys.modules[module.__name__]


@pytest.mark.usefixtures("gradient_input")
def test_the_method_of_the_guide_works(tmp_path: Path, bundled: Path) -> None:
    model = convlens.load("efficientnet-lite0")
    photo = bundled / "photos" / "chelsea.png"
    found = model.run("gradient-input", photo, 282)
    gradient = model.run("saliency", photo, 282).array
    expected = gradient * model.images(photo).array
    assert np.abs(found.array - expected).max() <= SAME * np.abs(expected).max()
    assert [path.suffix for path in found.save(tmp_path)] == [".npz", ".png", ".json"]


def test_the_python_of_the_readme_works(
    tmp_path: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").write_bytes((bundled / "photos" / "chelsea.png").read_bytes())
    names: dict[str, object] = {}
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), names)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".npz", ".json", ".png"}
    tap = names["tap"]
    assert tap.value.shape == tap.gradient.shape  # type: ignore[attr-defined]
    assert float(tap.gradient.abs().max()) > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"


def test_public_names_are_sorted_and_there() -> None:
    assert list(convlens.__all__) == sorted(convlens.__all__)
    for name in convlens.__all__:
        assert getattr(convlens, name) is not None


def test_the_registry_can_be_asked_before_and_after_methods_are_loaded() -> None:
    before = convlens.methods()
    module = importlib.import_module("convlens.methods.predict")
    assert list(convlens.methods()) == list(before)
    assert isinstance(before["predict"], module.Predict)
