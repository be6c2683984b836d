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
    "ranking": None,
}
"""The module that draws each kind; None where the table of rows says it all."""

_LONGEST = 120  # characters of a picture's name; file systems take 255 for the whole file name


def draw(result: Result) -> Iterator[Picture]:
    """Every picture of a Result, in the order in which it should be looked at.

    Names differ also where capitals do not count, and fit into a file name.
    """
    module = KINDS.get(result.kind)
    if module is not None:
        taken: set[str] = set()
        for picture in import_module(module).draw(result):
            name = picture.name[:_LONGEST]
            count = 2
            while name.lower() in taken:
                name = f"{picture.name[:_LONGEST]}-{count}"
                count += 1
            taken.add(name.lower())
            yield replace(picture, name=name)
