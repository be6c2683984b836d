"""Where pictures go: a file for each photo, in a folder that says how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.errors import OutputError
from convlens.graph import bind
from convlens.results import as_read, read_json, write

if TYPE_CHECKING:
    from convlens.model import Model

RECORD = "stylise.json"
"""The file in the output folder that says what its pictures were made with."""


def places(paths: Sequence[Path], output: Path, roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each photo and the file of its picture; what lies in the output folder is no photo."""
    taken: set[str] = set()
    inside = output.resolve()
    for path in paths:
        if inside in path.resolve().parents:
            continue
        root = next((root for root in roots if root in path.parents), path.parent)
        stem = path.relative_to(root).with_suffix("")
        place, count = stem, 2
        while str(place).lower() in taken:
            place, count = stem.with_name(f"{stem.name}-{count}"), count + 1
        taken.add(str(place).lower())
        yield path, output / place.parent / f"{place.name}.png"


def job_of(model: Model, side: int | None, output_range: tuple[float, float] | None) -> dict[str, Any]:
    """What pictures are made with, as plain data."""
    told = {
        "model": model.sha256,
        "feeds": bind.record(model.graph.bound),
        "card": model.card.input.model_dump(mode="json"),
        "side": side,
        "output_range": output_range,
    }
    known: dict[str, Any] = as_read(told)
    return known


def claim(output: Path, job: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Make the folder, or refuse one in which something could be lost or mixed up."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; expected a folder to write into")
    record = output / RECORD
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        if not resume:
            raise OutputError(
                f"{output}: is not empty and was left as it is; --resume goes on with what is missing; else "
                "choose another, or --overwrite"
            )
        held = read_json(record)
        if held is None:
            raise OutputError(
                f"{output}: holds no pictures made by stylise; choose another folder, or --overwrite"
            )
        differs = [key for key in job if not isinstance(held, dict) or held.get(key) != job[key]]
        if differs:
            raise OutputError(
                f"{output}: its pictures were made otherwise ({', '.join(differs)} differ); give the same "
                "settings, or start afresh with --overwrite"
            )
        return
    output.mkdir(parents=True, exist_ok=True)
    write(record, lambda handle: handle.write(json.dumps(job, indent=1).encode()))
