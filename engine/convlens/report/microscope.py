"""A page a layer: every channel with its pictures and facts, beside the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convlens.report.page import templates
from convlens.results import plain

_NARROW = 240
"""Pixels of a channel's pictures together from which on it takes the width of the page."""


def layer_page(record: Mapping[str, Any], layer: Mapping[str, Any], place: int) -> str:
    """The page as HTML; its pictures are files beside it, which load when they come into view.

    Args:
        record: of the whole report.
        layer: one of the microscope, with its units.
        place: of the layer among all that have a page.
    """
    told = plain(record["microscope"])
    pages = told["layers"]
    before, after = (pages[at] if 0 <= at < len(pages) else None for at in (place - 1, place + 1))
    units = layer["units"]
    wide = {unit["number"] for unit in units if sum(each["width"] for each in unit["pictures"]) > _NARROW}
    jumps = [
        ("Looked at closer", [unit["number"] for unit in units if unit["number"] in wide]),
        ("Marked as unusual", [unit["number"] for unit in units if unit["marks"]]),
    ]
    html: str = (
        templates()
        .get_template("microscope.html")
        .render(
            record=plain(record),
            told=told,
            layer=plain(layer),
            before=before,
            after=after,
            base=_base,
            wide=wide,
            jumps=jumps,
        )
    )
    return html


def _base(page: str) -> str:
    """The address of a page of the microscope from another."""
    return page.rsplit("/", 1)[-1]
