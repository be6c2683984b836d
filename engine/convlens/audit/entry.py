"""What an audit consists of while it is made, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convlens.registry import Finding, Method, Step
from convlens.results import Result


@dataclass(frozen=True)
class Entry:
    """One step of the audit, done.

    ``verdict`` is what :class:`convlens.attribution.faithful.verdicts.Judge` says of its maps, None where
    they were not judged.
    """

    key: str
    method: Method[Any]
    step: Step
    result: Result
    findings: tuple[Finding, ...]
    verdict: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What an audit leaves: the report, and what is in it as plain data."""

    report: Path
    record: Mapping[str, Any]

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """Every finding with its evidence."""
        found: Sequence[Mapping[str, Any]] = self.record["findings"]
        return found

    @property
    def skipped(self) -> Sequence[Mapping[str, Any]]:
        """Images that could not be decoded, with the reason."""
        found: Sequence[Mapping[str, Any]] = self.record["skipped"]
        return found
