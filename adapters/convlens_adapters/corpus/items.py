"""What a group of the corpus is made of, and how its files are built: each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Build = Callable[[Path], None]
_LATE = "not done in"


@dataclass(frozen=True)
class Item:
    """One file: its name without suffix, and the function that writes it to a path."""

    name: str
    build: Build


def build(items: Iterable[Item], folder: Path, limit: float = 180.0) -> dict[str, str]:
    """Write every item's file into ``folder``; what is there already is kept.

    Args:
        items: what to build.
        folder: where ``NAME.onnx`` goes.
        limit: seconds that one file may take.

    Returns:
        The reason for each file that could not be built, by name. Reasons are kept beside the files as
        ``NAME.failed``, so that a second run does not try again; running out of time is tried again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    for item in items:
        path, note = folder / f"{item.name}.onnx", folder / f"{item.name}.failed"
        if note.exists() and note.read_text(encoding="utf-8").startswith(_LATE):
            note.unlink()  # a quicker machine, or one with less to do, may be done in time
        if not path.exists() and not note.exists():
            start = time.monotonic()
            reason = _apart(item, path, limit)
            if reason is not None:
                path.unlink(missing_ok=True)
                note.write_text(reason, encoding="utf-8")
            say(f"{item.name}: {reason or 'built'} ({time.monotonic() - start:.0f} s)")
        if note.exists():
            failed[item.name] = note.read_text(encoding="utf-8")
    return failed


def say(line: str) -> None:
    """A line of progress, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _apart(item: Item, path: Path, limit: float) -> str | None:
    """Build in a child, so that a crash or a hang costs one file; the reason, None where it worked."""
    context: Any = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(item, path, sender))
    child.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            return f"{_LATE} {limit:.0f} s"
        reason: str | None = receiver.recv()
        return reason
    except EOFError:
        child.join()
        return f"the process ended with code {child.exitcode}"
    finally:
        if child.is_alive():
            child.join(5)
        if child.is_alive():
            child.kill()
        child.join()


def _child(item: Item, path: Path, sender: multiprocessing.connection.Connection) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    partial = path.with_suffix(".part")
    try:
        item.build(partial)
        partial.rename(path)
        sender.send(None)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:300]
        sender.send(f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})")


def spread(values: Sequence[int], index: int) -> int:
    """The value whose turn it is, so that opsets change from file to file, the same in every run."""
    return values[index % len(values)]
