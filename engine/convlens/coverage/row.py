"""What is found out about one file, and what many such rows say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Verdict: TypeAlias = Literal["fine", "refused", "wrong", "lost", "not counted"]
"""``fine``: opened, certified, and right in batches where the batch is said to be free. ``refused``:
an error says why. ``wrong``: opened, and out of the certificate's tolerance. ``lost``: crashed or ran
out of time. ``not counted``: no model that onnxruntime runs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How every file is examined.

    Attributes:
        seed: of the random inputs.
        limit: seconds that one file may take.
        threads: inside one forward.
        device: ``auto``, ``cpu`` or ``cuda``.
        card: a card for all files; None takes the one beside each.
        options: single card settings, as :func:`convlens.load` takes them.
        feeds: inputs to bind, by name, in every file that has one of that name.
    """

    seed: int = 0
    limit: float = 300.0
    threads: int | None = None
    device: str = "auto"
    card: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    feeds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """One file.

    Attributes:
        file: as it was found.
        size: bytes of the file and of the weights that lie beside it.
        runtime: empty where onnxruntime runs the file, else why it does not.
        fed: every input with shape and value, and how open sizes were chosen.
        opened: whether the file is loaded and becomes a PyTorch graph.
        certified: whether every value agrees; None where it did not come to that.
        worst: the largest relative error of a value.
        values: how many were compared.
        batch: ``free``, ``one by one`` or ``fixed``; empty where it did not come to that.
        batch_why: the reason, and what was compared.
        differentiable: whether a gradient of an output reaches the input, finite and not all zero.
        gradient: where it was taken, or why there is none.
        open_seconds: loading and converting.
        seconds: everything.
        open_memory: bytes at the peak of loading and converting, above what was there before.
        memory: bytes at the peak of everything.
        why: operator and reason of what did not work, in one line.
        lost: whether the process crashed or was ended.
        weights: files that hold this one's weights.
    """

    file: Path
    size: int = 0
    runtime: str = ""
    fed: str = ""
    opened: bool = False
    certified: bool | None = None
    worst: float | None = None
    values: int = 0
    batch: str = ""
    batch_why: str = ""
    differentiable: bool | None = None
    gradient: str = ""
    open_seconds: float | None = None
    seconds: float = 0.0
    open_memory: int | None = None
    memory: int | None = None
    why: str = ""
    lost: bool = False
    weights: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The outcome in one word."""
        if self.runtime:
            return "not counted"
        if self.lost:
            return "lost"
        if self.certified is False or (self.opened and self.batch == "wrong"):
            return "wrong"
        return "fine" if self.certified and self.batch else "refused"

    def record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "file": str(self.file), "verdict": self.verdict}


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts and shares over ``rows``; every share is of the files that onnxruntime runs."""
    counted = [row for row in rows if row.verdict != "not counted"]
    opening = sorted(row.open_seconds for row in counted if row.open_seconds is not None)
    return {
        "files": len(rows),
        "runs": len(counted),
        "opened": sum(row.opened for row in counted),
        "certified": sum(row.certified is True for row in counted),
        "batch_free": sum(row.batch == "free" for row in counted),
        "differentiable": sum(row.differentiable is True for row in counted),
        "fine": sum(row.verdict == "fine" for row in counted),
        "refused": sum(row.verdict == "refused" for row in counted),
        "wrong": sum(row.verdict == "wrong" for row in counted),
        "lost": sum(row.verdict == "lost" for row in counted),
        "median_open_seconds": opening[len(opening) // 2] if opening else None,
    }
