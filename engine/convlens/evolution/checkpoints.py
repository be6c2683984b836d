"""Checkpoints of one training: which of what was typed they are, their order, and that they fit together."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import catalogue
from convlens.errors import UsageError
from convlens.graph.layers import shape_text

if TYPE_CHECKING:
    from convlens.graph.layers import Layer
    from convlens.model import Model

_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Checkpoint:
    """One file of a training.

    Attributes:
        path: where it lies.
        name: its name for people, unique among them.
        number: the last number in its file name, such as the epoch; None where there is none.
    """

    path: Path
    name: str
    number: int | None


def told_apart(given: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Checkpoints and images from what was typed, each in the order given.

    Checkpoints are files and patterns that end in ``.onnx``, folders with such files in them, sorted by the
    numbers in their names, and names of the catalogue; everything else is images.

    Raises:
        UsageError: a pattern that nothing fits.
    """
    paths: list[Path] = []
    images: list[str] = []
    for text in given:
        path = Path(text)
        inside = _sorted(path.iterdir()) if path.is_dir() else []
        if inside:
            paths += inside
        elif path.suffix.lower() == _SUFFIX and has_magic(text) and not path.exists():
            found = _sorted(map(Path, glob(text)))
            if not found:
                raise UsageError(f"{text}: no file fits this pattern")
            paths += found
        elif path.suffix.lower() == _SUFFIX and not path.is_dir():
            paths.append(path)
        elif not path.exists() and any(entry.name == text for entry in catalogue.entries()):
            paths.append(catalogue.locate(text))
        else:
            images.append(text)
    return paths, images


def checkpoints_of(paths: Sequence[Path]) -> list[Checkpoint]:
    """The files as checkpoints, in the order given.

    Raises:
        UsageError: there are less than two, or one comes twice.
    """
    if len(paths) < 2:
        found = f"found one, {paths[0]}" if paths else "found none"
        raise UsageError(
            f"checkpoints: {found}; expected two or more ONNX files of one training, or a folder of them"
        )
    twice = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if twice is not None:
        raise UsageError(f"{twice}: given twice; expected each checkpoint once")
    return [Checkpoint(path, name, _number(path)) for path, name in zip(paths, _names(paths), strict=True)]


def unordered(checkpoints: Sequence[Checkpoint]) -> str | None:
    """What should be said where the numbers in the names do not rise, None where they do."""
    numbers = [each.number for each in checkpoints if each.number is not None]
    if len(numbers) < len(checkpoints) or len(set(numbers)) < len(numbers) or numbers == sorted(numbers):
        return None
    listed = ", ".join(map(str, numbers))
    return f"the numbers in the checkpoints' names do not rise ({listed}); a folder is sorted by them"


def check_alike(first: Model, other: Model) -> None:
    """Refuse a checkpoint of another network; weights may differ, which is the point.

    Raises:
        UsageError: the first layer that differs, and in what.
    """
    pair = f"{first.path} and {other.path} are not checkpoints of one network"
    if first.source.record() != other.source.record():
        raise UsageError(f"{pair}: their inputs are {_input(first)} and {_input(other)}")
    for own, theirs in zip(first.layers, other.layers, strict=False):
        differs = _difference(own, theirs)
        if differs is not None:
            raise UsageError(f"{pair}: {differs}")
    if len(first.layers) != len(other.layers):
        counts = f"{len(first.layers)} and {len(other.layers)} layers"
        longer = max((first, other), key=lambda model: len(model.layers))
        extra = longer.layers[min(len(first.layers), len(other.layers))]
        raise UsageError(f"{pair}: they have {counts}; only {longer.path} has {extra.alias!r}")


def _difference(own: Layer, theirs: Layer) -> str | None:
    for what in ("name", "op"):
        if getattr(own, what) != getattr(theirs, what):
            return f"where one has {own.op} {own.alias!r}, the other has {theirs.op} {theirs.alias!r}"
    if own.shape != theirs.shape:
        shapes = f"{shape_text(own.shape)} in one and {shape_text(theirs.shape)} in the other"
        return f"layer {own.alias!r} is {shapes}"
    if own.parameters != theirs.parameters:
        counts = f"{own.parameters:,} parameters in one and {theirs.parameters:,} in the other"
        return f"layer {own.alias!r} has {counts}"
    if own.field != theirs.field:
        return f"units of layer {own.alias!r} see another part of the input in one than in the other"
    return None


def _input(model: Model) -> str:
    return f"{model.source.name!r} ({shape_text(model.source.shape)})"


def _sorted(paths: Any) -> list[Path]:
    """ONNX files by the numbers in their names: e2 before e10."""
    found = [path for path in paths if path.suffix.lower() == _SUFFIX and path.is_file()]
    return sorted(found, key=lambda path: _natural(path.as_posix()))


def _natural(text: str) -> tuple[list[Any], str]:
    """Texts and numbers in turn, so that any two can be compared."""
    parts = re.split(r"(\d+)", text.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], text


def _number(path: Path) -> int | None:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def _names(paths: Sequence[Path]) -> list[str]:
    """File names without what all begin with, up to the last sign that is no letter or digit."""
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        root = os.path.commonpath([path.absolute().parent for path in paths])
        stems = [path.absolute().relative_to(root).with_suffix("").as_posix() for path in paths]
    if len(set(stems)) < len(stems):  # they differ in their endings alone
        return [path.name for path in paths]
    cut = 0
    for place, signs in enumerate(zip(*stems, strict=False)):
        if len(set(signs)) > 1:
            break
        if not signs[0].isalnum():
            cut = place + 1
    return [stem[cut:] or stem for stem in stems]
