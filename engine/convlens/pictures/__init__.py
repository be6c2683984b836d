"""Results as pictures, one module a kind of Result. No method is known here by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convlens.pictures.picture import Picture
    from convlens.results import Result

KINDS = {
    "map": "convlens.pictures.maps",
    "sprites": "convlens.pictures.sprites",
    "kernels": "convlens.pictures.kernels",
    "crops": "convlens.pictures.crops",
    "montage": "convlens.pictures.montage",
    "patches": "convlens.pictures.patches",
    "curves": "convlens.pictures.curves",
    "judged": "convlens.pictures.judged",
    "panels": "convlens.pictures.panels",
    "strips": "convlens.pictures.strips",
    "matrix": "convlens.pictures.matrix",
    "scatter": "convlens.pictures.scatter",
    "neighbours": "convlens.pictures.neighbours",
    "evolution": "convlens.pictures.evolution",
    "ranking": None,
}
"""The module that draws each kind; None where the table of rows says it all."""

_LONGEST = 120  # characters of a picture's name; file systems take 255 for the whole file name


def draw(result: Result) -> Iterator[Picture]:
    """Every picture of a Result, in the order in which it should be looked at.

    Names differ also where capitals do not count, and fit into a file name.
    """
    taken: set[str] = set()
    for part in _parts(result):
        module = KINDS.get(part.kind)
        for picture in import_module(module).draw(part) if module is not None else ():
            name = picture.name[:_LONGEST]
            count = 2
            while name.lower() in taken:
                name = f"{picture.name[:_LONGEST]}-{count}"
                count += 1
            taken.add(name.lower())
            yield replace(picture, name=name)


def by_channel(result: Result) -> Iterator[tuple[int, Picture]]:
    """A picture of each channel of one layer, where the kind of the Result has one; nothing else."""
    for part in _parts(result):
        module = KINDS.get(part.kind)
        each = getattr(import_module(module), "by_channel", None) if module is not None else None
        if each is not None:
            yield from each(part)


def _parts(result: Result) -> Iterator[Result]:
    """The Result itself, or what its hint ``parts`` makes of it, where it needs several kinds of pictures.

    Each part is a mapping with ``kind`` and, where they are others, ``main`` and ``hints``.
    """
    for part in result.hints.get("parts", ({},)):
        yield replace(
            result,
            kind=part.get("kind", result.kind),
            main=part.get("main", result.main),
            hints={**result.hints, **part.get("hints", {})},
        )
