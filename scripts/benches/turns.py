"""Competitors in processes of their own, taking turns, so that what else runs weighs on all alike.

Each round has one turn of each, in an order that moves on by one a round; ratios are formed within a round.
Nobody loads, tries or computes while another has its turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

_HERE = Path(__file__).parent
_LIMIT = 900.0  # seconds for one answer


class FailedError(Exception):
    """A competitor gave up, in one line."""


class Process:
    """A script that answers a line of JSON by a line of JSON.

    Args:
        python: the interpreter.
        script: a file of this folder.
        way: what it does, its first argument.
        settings: its second, as JSON.
        threads: for OpenMP and MKL.
        environment: further variables.
        limit: seconds that an answer may take.
    """

    def __init__(
        self,
        python: str,
        script: str,
        way: str,
        settings: Mapping[str, Any],
        threads: int,
        environment: Mapping[str, str] | None = None,
        limit: float = _LIMIT,
    ) -> None:
        """Start it."""
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._limit = limit
        number = str(threads)
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(_HERE / script), way, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": number,
                "MKL_NUM_THREADS": number,
                "OPENBLAS_NUM_THREADS": number,
                **(environment or {}),
            },
        )

    def ask(self, question: Mapping[str, Any]) -> Any:
        """The answer.

        Raises:
            FailedError: there is none.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = Timer(self._limit, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise FailedError(self._last_words())
        return json.loads(line)

    def end(self) -> None:
        """No further question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"ended with {code}{': ' + lines[-1][:200] if lines else ''}"


@dataclass(frozen=True)
class Turn:
    """One turn.

    Attributes:
        cpu: seconds of the processor, user and system, of all its threads.
        wall: seconds by the clock.
        peak: bytes held at most, above what was held before the model was loaded.
        resident: bytes held at most, in all.
        says: what the work itself says of the turn.
        array: what came out, where it was asked for.
    """

    cpu: float
    wall: float
    peak: int
    resident: int
    says: Mapping[str, Any] = field(default_factory=dict)
    array: Path | None = None


@dataclass(frozen=True)
class Way:
    """One competitor: the script that holds it, under which interpreter, and what it is told at the start."""

    python: str
    script: str
    way: str
    settings: Mapping[str, Any]
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Competitor:
        """The process, ready for its first turn.

        Raises:
            FailedError: it does not get that far.
        """
        process = Process(self.python, self.script, self.way, self.settings, self.threads, self.environment)
        competitor = Competitor(process)
        try:
            competitor.ready()
        except FailedError:
            competitor.end()
            raise
        return competitor


class Competitor:
    """A process that takes a turn when it is told to; see ``turns_child.py``."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def ready(self) -> None:
        """Wait until it has loaded what it needs.

        Raises:
            FailedError: it cannot.
        """
        self._answer({"ready": True})

    def take(self, ask: Mapping[str, Any], keep: Path | None = None) -> Turn:
        """One turn; ``keep`` is where what comes out goes, as ``.npy``.

        Raises:
            FailedError: the work failed.
        """
        found = self._answer({"ask": dict(ask), "keep": str(keep) if keep is not None else None})
        array = Path(found["array"]) if found["array"] is not None else None
        return Turn(*(found[key] for key in ("cpu", "wall", "peak", "resident", "says")), array)

    def end(self) -> None:
        """No further turn."""
        self._process.end()

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._process.ask(question)
        if "failed" in found:
            raise FailedError(found["failed"])
        return found


Ask = Mapping[str, Any]


def rounds(
    ways: Mapping[str, Way],
    asks: Mapping[str, Ask],
    count: int,
    folder: Path,
    fewer: Mapping[str, int] | None = None,
    warm: Mapping[str, Ask] | None = None,
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """So many turns of each, and why some have none.

    Args:
        ways: the competitors by name.
        asks: what each is asked in every turn.
        count: rounds.
        folder: for what comes out of the first turn of each, ``NAME.npy``.
        fewer: competitors that take part in the first rounds only, and in how many.
        warm: what is asked of competitors before the first round, uncounted.
    """
    found: dict[str, list[Turn]] = {name: [] for name in ways}
    failed: dict[str, str] = {}
    running: dict[str, Competitor] = {}
    try:
        for name, way in ways.items():
            try:
                running[name] = way.start()
                if name in (warm or {}):
                    running[name].take((warm or {})[name])
            except FailedError as error:
                failed[name] = str(error)
                if name in running:
                    running.pop(name).end()
        for number in range(count):
            print(f"round {number + 1} of {count}", file=sys.stderr)
            names = [name for name in running if number < (fewer or {}).get(name, count)]
            start = number % max(1, len(names))
            for name in names[start:] + names[:start]:
                keep = folder / f"{name.replace(' ', '-')}.npy" if number == 0 else None
                try:
                    found[name].append(running[name].take(asks[name], keep))
                except FailedError as error:
                    failed[name] = str(error)
                    running.pop(name).end()
                    found[name] = []
    finally:
        for competitor in running.values():
            competitor.end()
    return {name: turns for name, turns in found.items() if turns}, failed


@dataclass(frozen=True)
class Ratio:
    """A ratio formed round by round: its median and between what it lies."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({min(self.values):.2f} - {max(self.values):.2f})"


def ratio(slow: Sequence[Turn], fast: Sequence[Turn], scale: float = 1.0, key: str = "cpu") -> Ratio:
    """How many times as long ``slow`` takes as ``fast``, by rounds in which both took part.

    ``scale`` is what a turn of ``slow`` has to be multiplied by to be as much work as one of ``fast``.
    """
    pairs = zip(slow, fast, strict=False)
    return Ratio([scale * getattr(one, key) / getattr(other, key) for one, other in pairs])


def rates(own: Sequence[Turn], other: Sequence[Turn], key: str = "cpu") -> Ratio:
    """Of how much each did in a second, by rounds; both say their ``count``."""
    each = ([turn.says["count"] / getattr(turn, key) for turn in turns] for turns in (own, other))
    return Ratio([one / two for one, two in zip(*each, strict=False)])


def middle(turns: Sequence[Turn], key: str = "cpu") -> float:
    """The median of seconds or bytes."""
    return float(statistics.median(getattr(turn, key) for turn in turns))


def most(turns: Sequence[Turn]) -> str:
    """Peak memory in MB: above the imports, and in all."""
    peak, resident = (max(getattr(turn, key) for turn in turns) / (1 << 20) for key in ("peak", "resident"))
    return f"{peak:.0f} / {resident:.0f}"
