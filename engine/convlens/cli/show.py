"""How commands print: tables for people, JSON for machines, a progress bar on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from convlens.errors import OutputError


def print_json(value: Any) -> None:
    """Data as JSON on stdout; a number that is not finite becomes null, which JSON can hold."""
    from convlens.results import plain

    click.echo(json.dumps(plain(value), indent=1, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, Any]], right: frozenset[str] = frozenset()) -> None:
    """Rows under the names of their columns; numbers, and the columns in ``right``, to the right."""
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    numeric = [
        column in right
        or all(isinstance(row.get(column), (int, float)) or row.get(column) is None for row in rows)
        for column in columns
    ]
    for line in (columns, *cells):
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def print_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """What should be known, a line each with its evidence."""
    for finding in findings:
        click.echo(f"- {finding['text']} ({finding['evidence']})")


def text(value: Any) -> str:
    """One cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ",".join(text(item) for item in value)
    return str(value)


def check_folder(folder: Path, overwrite: bool, resume: bool = False) -> None:
    """Refuse an output folder in which something could be lost.

    Raises:
        OutputError: it is a file, or it is not empty, ``overwrite`` is false and there is no unfinished
            search in it to go on with.
    """
    from convlens.watch import STATES

    if resume and not overwrite and (folder / STATES).is_dir():
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; expected a folder to write into")
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty and was left as it is; choose another, or --overwrite")


def warn_of_weights(model: Any) -> None:
    """Say on stderr what is wrong with the weights."""
    from convlens.graph.unsound import unsound_words

    words = unsound_words(model.graph)
    if words is not None:
        click.echo(f"convlens: {words}", err=True)


class Bar:
    """Moved by calling it with the share that is done; tells a few words beside it."""

    def __init__(self, label: str, update: Callable[..., None] = lambda **_shown: None) -> None:
        """``update`` redraws it with ``completed`` or ``description``."""
        self._label = label
        self._update = update

    def __call__(self, share: float) -> None:
        """Move."""
        self._update(completed=share)

    def tell(self, text: str) -> None:
        """Put words beside the label."""
        self._update(description=f"{self._label} {text}")


@contextmanager
def progress(label: str) -> Iterator[Bar]:
    """A bar on stderr; none off a terminal."""
    if not sys.stderr.isatty():
        yield Bar(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield Bar(label, lambda **shown: bar.update(task, **shown))
