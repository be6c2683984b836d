"""A long search under watch: what it says on the way, pictures of it, and how it is stopped and taken up.

A method that searches step by step asks its job's watch after each step whether it was asked to stop, shows
it what there is, and leaves states that a later run takes up. None of it changes what is found.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.errors import OutputError
from convlens.results import as_read, read_json, write

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

STATES = "search"
"""The folder of states inside the output folder; it is there while a search is unfinished."""

PREVIEW = "preview.png"
FRAMES = "frames"

_TOLD = 0.2  # seconds between two texts
_SHOWN = 3.0  # seconds between two previews
_STORED = 30.0  # seconds between two states


@dataclass
class Watch:
    """How one run of a method is followed.

    Attributes:
        folder: where states, preview and frames go; nothing is written without it.
        frames: how many pictures on the way are kept, evenly over all steps.
        resume: whether states of an unfinished run of the same job are taken up.
        tell: is given a few words on how far it is, for people.
        draw: makes one picture of several arrays as the search holds them.
        stopped: whether somebody asked for an end (Ctrl-C); a search looks at it after each step.
    """

    folder: Path | None = None
    frames: int = 0
    resume: bool = False
    tell: Callable[[str], None] = field(default=lambda _text: None)
    draw: Callable[[NDArray[Any], tuple[int, ...]], Image.Image] | None = None
    stopped: bool = False
    _last: dict[str, float] = field(default_factory=dict)

    def begin(self, job: Mapping[str, Any]) -> None:
        """Claim the folder for a job, or find the same job unfinished in it.

        Raises:
            OutputError: the folder holds the unfinished search of another job.
        """
        if self.folder is None:
            return
        states = self.folder / STATES
        told = as_read(job)
        if self.resume and states.is_dir():
            held = read_json(states / "job.json")
            if held != told:
                differs = [key for key in told if held is None or held.get(key) != told[key]]
                raise OutputError(
                    f"{self.folder}: holds the unfinished search of another job ({', '.join(differs)} "
                    "differ); give the same settings, or start afresh with --overwrite"
                )
            return
        if states.is_dir():
            shutil.rmtree(states)
        states.mkdir(parents=True)
        write(states / "job.json", lambda handle: handle.write(json.dumps(told).encode()))

    def end(self) -> None:
        """Clear away what only an unfinished search needs; a run that was stopped keeps its states."""
        if self.folder is None:
            return
        (self.folder / PREVIEW).unlink(missing_ok=True)
        if not self.stopped:
            shutil.rmtree(self.folder / STATES, ignore_errors=True)

    def state(self, key: str) -> bytes | None:
        """What :meth:`keep` left under ``key``, None where there is nothing."""
        path = self._state(key)
        return path.read_bytes() if path is not None and path.is_file() else None

    def keep(self, key: str, fill: Callable[[Any], Any], now: bool = False) -> None:
        """Leave a state under ``key``; every half minute, or ``now``. ``fill`` writes it into a file."""
        path = self._state(key)
        if path is not None and (now or self._due("keep", _STORED)):
            write(path, fill)

    def see(
        self,
        key: str,
        done: int,
        total: int,
        score: float,
        pictures: Callable[[], NDArray[Any]],
        size: tuple[int, ...],
    ) -> None:
        """Show the pictures after step ``done`` of ``total``.

        Args:
            key: of the search, part of the file names.
            done: steps that are over, from 1.
            total: steps of the whole search.
            score: the objective.
            pictures: gives N pictures as the search holds them.
            size: of the finished pictures, for those that are still smaller.
        """
        if self._due("tell", _TOLD) or done == total:
            self.tell(f"{score:.4g}")
        if self.folder is None or self.draw is None:
            return
        number = _frame(done, total, self.frames)
        if number is not None:
            folder = self.folder / FRAMES
            folder.mkdir(parents=True, exist_ok=True)
            drawn = self.draw(pictures(), size)
            write(folder / f"{key}-{number:05d}.png", lambda file: drawn.save(file, format="PNG"))
        if self._due("see", _SHOWN):
            shown = self.draw(pictures(), size)
            write(self.folder / PREVIEW, lambda file: shown.save(file, format="PNG"))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C asks for an end after the step that runs; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            del number, frame
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            self.tell("stopping")

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._last.setdefault(what, now) < seconds:
            return False
        self._last[what] = now
        return True

    def _state(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / STATES / f"{key}.state"


def _frame(done: int, total: int, frames: int) -> int | None:
    """The number of the frame that is taken after step ``done``, None where none is; the last one always."""
    if frames < 1:
        return None
    frames = min(frames, total)
    number = done * frames // total
    return number if number != (done - 1) * frames // total else None
