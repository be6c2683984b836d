"""The zoo graphs and backend tests that the onnx package brings along."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

from convlens_adapters.corpus.items import Item

KINDS = ("light", "simple", "pytorch-converted", "pytorch-operator")


def items() -> Iterator[Item]:
    """Every graph that takes an input and holds numbers."""
    root = Path(str(files("onnx"))) / "backend" / "test" / "data"
    for kind in KINDS:
        for path in sorted((root / kind).rglob("*.onnx")):
            name = (
                path.stem.removeprefix("light_")
                if kind == "light"
                else path.parent.name.removeprefix("test_")
            )
            yield Item(f"{kind}-{name}", partial(_copy, path))


def _copy(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes())
