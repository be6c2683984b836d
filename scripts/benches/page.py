"""docs/benchmarks.md: one section a part, each with the date and the versions that it was measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

_PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "torch", "numpy")
_HEAD = """# Benchmarks

Written by `scripts/bench PART --write`. Seconds depend on the machine; the ratios are to what was measured
beside them, in the same run.
"""


def write(path: Path, title: str, text: str) -> None:
    """Put ``text`` under the heading ``title``, in place of what stood there."""
    page = path.read_text(encoding="utf-8") if path.is_file() else _HEAD
    sections = page.split("\n## ")
    kept = [section for section in sections[1:] if section.splitlines()[0] != title]
    path.write_text(
        "\n## ".join([sections[0], *sorted([*kept, f"{title}\n\n{text.strip()}\n"])]), encoding="utf-8"
    )


def conditions() -> str:
    """Date, versions and machine, in one line."""
    found = {each.metadata["Name"].lower(): each.version for each in distributions()}
    versions = ", ".join(f"{name} {found[name]}" for name in _PACKAGES if name in found)
    return (
        f"{date.today().isoformat()}; Python {platform.python_version()}, {versions}; "
        f"{len(os.sched_getaffinity(0))} cores, CPU."
    )


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table in Markdown; every column but the first to the right."""
    names = list(rows[0])
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
