"""Results as pictures, one module a kind of Result. No method is known here by name."""

from __future__ import annotations

from collections.abc import Iterator
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


def draw(result: Result) -> Iterator[Picture]:
    """Every picture of a Result, in the order in which it should be looked at."""
    module = KINDS.get(result.kind)
    if module is not None:
        yield from import_module(module).draw(result)
