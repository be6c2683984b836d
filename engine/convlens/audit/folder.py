"""The folder of an audit: whose it is, what of it is finished, and what goes into it last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import cache
from convlens.errors import ConvLensError, OutputError
from convlens.graph import bind
from convlens.results import Result, plain, read_json, write

if TYPE_CHECKING:
    from convlens.audit.entry import Entry
    from convlens.model import Model
    from convlens.registry import Images, Method, Step

_STATE = "unfinished.json"


def part(folder: Path, stem: str, make: Callable[[], Result]) -> Result:
    """A finished part from disk, else made and put there."""
    try:
        return Result.load(folder, stem)
    except ConvLensError:
        result = make()
        result.save(folder, stem, pictures=False)
        return Result.load(folder, stem)


def noted(folder: Path, stem: str, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Finished plain data from disk, else made and put there."""
    path = folder / f"{stem}.json"
    found: Mapping[str, Any] | None = read_json(path)
    if found is None:
        text = json.dumps(plain(make()), indent=1, ensure_ascii=False)
        write(path, lambda file: file.write(text.encode()))
        found = json.loads(text)
    assert found is not None
    return found


def job_key(
    model: Model,
    paths: Sequence[Path],
    steps: Sequence[tuple[Method[Any], Step]],
    seed: int,
    allow_uncertified: bool,
    microscope: Any = None,
) -> str:
    """What makes two audits the same job: model, card, photos, steps, code and versions.

    ``microscope`` is what is looked at channel by channel, as plain data.
    """
    photos = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    planned = [(method.name, asdict(step)) for method, step in steps]
    card = [model.card.model_dump(), bind.record(model.graph.bound)]
    return cache.key_of(
        model.sha256,
        card,
        photos,
        planned,
        seed,
        allow_uncertified,
        microscope,
        cache.versions(),
        cache.sources(),
    )


def unfinished(output: Path, key: str, overwrite: bool) -> bool:
    """Whether the folder holds this very job half done and it is to go on. Changes nothing.

    Raises:
        OutputError: it holds something else.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; expected a folder for the report")
    held = {path.name for path in output.iterdir()} if output.is_dir() else set()
    state = output / _STATE
    if held and not overwrite:
        if read_json(state) == {"key": key}:
            return True
        what = "holds the unfinished audit of another job" if _STATE in held else "is not empty"
        raise OutputError(f"{output}: {what} and was left as it is; choose another folder, or --overwrite")
    return False


def claim(output: Path, key: str) -> None:
    """Make the folder this job's own: what another audit left there goes, everything else stays."""
    output.mkdir(parents=True, exist_ok=True)
    (output / _STATE).unlink(missing_ok=True)
    parts = [path for name in ("results", "pictures") for path in (output / name).glob("[0-9][0-9]-*")]
    for path in (*parts, output / "index.html", output / "audit.json"):
        if path.is_file():
            path.unlink()
    clear(output / "microscope")
    write(output / _STATE, lambda file: file.write(json.dumps({"key": key}).encode()))


def clear(folder: Path) -> None:
    """Take away what another audit left in the folder of its microscope, and nothing else."""
    own = [*folder.glob("*.html")]
    own += [path for what in ("part-[0-9]*.json", "[0-9]*-[0-9]*.webp") for path in folder.glob(f"*/{what}")]
    for path in own:
        path.unlink(missing_ok=True)
    for path in (*folder.glob("*/"), folder):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def finish(
    output: Path,
    record: Mapping[str, Any],
    entries: Sequence[Entry],
    images: Images,
    seen: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Pictures, pages and JSON; the mark of an unfinished audit goes last.

    Args:
        output: the folder.
        record: what the report says.
        entries: the steps.
        images: what went in.
        seen: the layers under the microscope, channel by channel.
    """
    from convlens.report.microscope import layer_page
    from convlens.report.page import page

    folder = output / "pictures"
    folder.mkdir(exist_ok=True)
    for entry in entries:
        entry.result.save_pictures(folder, entry.key)
    for place, layer in enumerate(seen):
        html = layer_page(record, layer, place)
        write(output / layer["page"], partial(_put, html.encode()))
    html = page(record, entries, images)
    write(output / "index.html", lambda file: file.write(html.encode()))
    text = json.dumps(plain(record), indent=1, ensure_ascii=False)
    write(output / "audit.json", lambda file: file.write(text.encode()))
    (output / _STATE).unlink(missing_ok=True)


def _put(content: bytes, file: Any) -> None:
    file.write(content)
