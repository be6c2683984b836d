"""A folder of models, each in a process of its own, so that one that crashes or hangs stops no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.coverage.measure import give_way
from convlens.coverage.row import Row, Settings
from convlens.errors import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_GRACE = 5.0  # seconds for a process to go away by itself


def find_models(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are, folders as the ``.onnx`` files below them, sorted.

    Raises:
        UsageError: a path that does not exist, or nothing found.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".onnx" and p.is_file())
            if not inside:
                raise UsageError(f"{path}: a folder without models; expected .onnx files in it or below it")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder; expected ONNX files, or folders of them")
    return list(dict.fromkeys(found))


def survey(
    paths: Sequence[Path],
    settings: Settings,
    jobs: int = 1,
    advance: Callable[[float], None] = lambda _share: None,
    tell: Callable[[Row], None] = lambda _row: None,
) -> list[Row]:
    """Examine every file, ``jobs`` at a time.

    Args:
        paths: the files; one that turns out to hold another's weights is left out of the outcome.
        settings: how each is examined.
        jobs: how many at the same time, each in a process of its own.
        advance: called with the share that is done.
        tell: called with each row as soon as it is there.

    Returns:
        A row a file, in the order of ``paths``.
    """
    threads = settings.threads or max(1, (os.cpu_count() or 1) // max(jobs, 1))
    settings = replace(settings, threads=threads)
    context = _context()
    done = 0

    def one(path: Path) -> Row:
        nonlocal done
        row = _apart(path, settings, context)
        done += 1
        tell(row)
        advance(done / len(paths))
        return row

    with ThreadPoolExecutor(max_workers=max(jobs, 1)) as pool:
        rows = list(pool.map(one, paths))
    weights = {(row.file.parent / name).resolve() for row in rows for name in row.weights}
    return [row for row in rows if row.file.resolve() not in weights]


def _context() -> Any:
    """Processes that start quickly, as copies of one that has imported everything, where there are such."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["convlens.coverage.worker"])
    return context


def _apart(path: Path, settings: Settings, context: Any) -> Row:
    """The file's row, from a child; a child that dies or takes too long is a row that says so."""
    start = time.monotonic()
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(path, settings, sender), daemon=True)
    child.start()
    sender.close()
    row = Row(path, size=path.stat().st_size, lost=True)
    try:
        if receiver.poll(settings.limit):
            row = receiver.recv()
        else:
            row.why = f"not done in {settings.limit:g} s (--limit)"
            child.kill()
    except EOFError:
        child.join(_GRACE)
        row.why = f"the process {_ending(child.exitcode)}"
    finally:
        child.join(_GRACE)
        if child.is_alive():
            child.kill()
            child.join()
        child.close()
        receiver.close()
    if row.lost:
        row.seconds = time.monotonic() - start
    return row


def _child(path: Path, settings: Settings, sender: Connection) -> None:
    """Runs in the child: quiet, and the first to go where memory runs out."""
    give_way()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    from convlens.coverage.worker import work

    sender.send(work(path, settings))
    sender.close()


def _ending(code: int | None) -> str:
    if code is None:
        return "went away"
    if code == -int(getattr(signal, "SIGKILL", 9)):
        return "was killed, which is what happens where memory runs out"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended with code {code}"
