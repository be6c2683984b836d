"""Every file of the corpus with patches laid over its input: in windows against whole images.

Run by ``scripts/corpus --probes``. Each file has a process of its own, with limits of time and memory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convlens.coverage.measure import give_way

CLOSE = 1e-5
"""Of an output's largest magnitude: what windows and whole images may differ by."""

_ROUNDING = 4.0
"""How much farther from float64 windows may be than whole images, where both are off by more than that."""

_MEMORY = 6 << 30


@dataclass(slots=True)
class Probed:
    """What was found for one file.

    Attributes:
        file: below the corpus' folder.
        way: ``incremental``, ``dense`` (no windows were found), ``given up`` (they differ by more than a run
            lets pass, so that it goes on dense), ``skipped`` (nothing to hide) or ``lost``.
        why: of all but the first.
        cut: parts in windows, and of how many.
        gain: estimated cost of a dense probe over that of one in windows.
        error: largest difference at an output, of its largest magnitude, at the best and at the deepest cut.
        noise: the same for whole images against whole images in a batch of another size; of a file that was
            given up against whole images without onnxruntime's fusions, which round otherwise.
        truth: distances of windows and of whole images, with onnxruntime's fusions and without, from float64;
            only where ``error`` is above :data:`CLOSE`.
        coarse: whether values are in half precision or rounded to codes, where one step is much.
        stops: the operators at which windows end.
        seconds: everything.
    """

    file: str
    way: str = "dense"
    why: str = ""
    cut: tuple[int, int] = (0, 0)
    gain: float = 1.0
    error: float = 0.0
    noise: float = 0.0
    truth: tuple[float, float] | None = None
    coarse: bool = False
    stops: str = ""
    seconds: float = 0.0

    @property
    def wrong(self) -> bool:
        """Whether windows are farther from whole images than rounding explains."""
        if self.way == "given up":
            return not self.coarse and self.error > _ROUNDING * self.noise
        if self.way != "incremental" or self.error <= CLOSE:
            return False
        if self.truth is None:
            return not self.coarse
        windows, whole = self.truth
        return not windows <= max(CLOSE, _ROUNDING * whole)

    def words(self) -> str:
        """One line."""
        if self.way != "incremental":
            return f"{self.file}: {self.way} ({self.why})"
        return f"{self.file}: {self.cut[0]} of {self.cut[1]} parts in windows, error {self.error:.1e}"


def held(
    files: Sequence[Path], root: Path, kept: Path, limit: float, tell: Callable[[Probed], None]
) -> list[Probed]:
    """Hold windows against whole images for every file.

    Args:
        files: the models.
        root: folder of the corpus' files.
        kept: rows found so far, a line each; a file that has one is not run again.
        limit: seconds that one file may take.
        tell: called with each new row.
    """
    done = {}
    if kept.exists():
        for line in kept.read_text(encoding="utf-8").splitlines():
            row = Probed(**json.loads(line))
            done[row.file] = row
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    if os.name != "nt":
        context.set_forkserver_preload(["convlens_adapters.corpus.probing"])
    for path in files:
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in done:
            continue
        done[name] = row = _apart(path, name, limit, context)
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        tell(row)
    return list(done.values())


def _apart(path: Path, name: str, limit: float, context: Any) -> Probed:
    start = time.monotonic()
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(path, name, sender), daemon=True)
    child.start()
    sender.close()
    row = Probed(name, "lost")
    try:
        if receiver.poll(limit):
            row = receiver.recv()
        else:
            row.why = f"not done in {limit:g} s"
            child.kill()
    except EOFError:
        child.join()
        row.why = f"the process ended with code {child.exitcode}"
    finally:
        child.join(5)
        if child.is_alive():
            child.kill()
            child.join()
        receiver.close()
    row.seconds = round(time.monotonic() - start, 1)
    return row


def _child(path: Path, name: str, sender: Any) -> None:
    give_way()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    from convlens_adapters.corpus.probing import probe_file

    row = Probed(name)
    probe_file(path, row)
    sender.send(row)
