"""A finished recording changed as a whole: whoever opens it finds the old one or the new one.

The new files are made in a folder within the recording, which gets its final name when all of them are there;
that is the moment at which the recording is the new one. Moving them into place comes after it, and whoever
opens a recording ends what was stopped in between.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from convlens.recording.store import MANIFEST

NEXT = ".next"
"""The folder of complete new files."""

APPENDED = ".append"
"""The folder in which what is appended is recorded first."""

_MAKING = ".next.tmp"


def holds(folder: Path) -> bool:
    """Whether there is anything in a folder but what was left of making new files."""
    return any(path.name != _MAKING for path in folder.iterdir())


def making(folder: Path) -> Path:
    """An empty folder for the new files."""
    path = folder / _MAKING
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def commit(folder: Path) -> None:
    """The files that were made are the recording from here on."""
    _on_disk(folder / _MAKING)
    os.replace(folder / _MAKING, folder / NEXT)
    _on_disk(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Move new files into place, if there are any; the manifest comes last."""
    path = folder / NEXT
    if not path.is_dir():
        return
    shutil.rmtree(folder / APPENDED, ignore_errors=True)
    names = sorted((one.name for one in path.iterdir()), key=lambda name: name == MANIFEST)
    for name in names:
        try:
            os.replace(path / name, folder / name)
        except FileNotFoundError:
            continue  # another process does the same
        _on_disk(folder)
    shutil.rmtree(path, ignore_errors=True)


def dropped(folder: Path) -> None:
    """Forget new files, complete or not, where a folder is written afresh."""
    for name in (NEXT, _MAKING, APPENDED):
        shutil.rmtree(folder / name, ignore_errors=True)


def _on_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
