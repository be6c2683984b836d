"""The table of windows against whole images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from convlens_adapters.corpus.probes import CLOSE, Probed

_GAIN = 1.15
"""From which on windows are used by themselves."""


def page(rows: Sequence[Probed]) -> str:
    """The table as Markdown: counts by way and reason, then a line a file."""
    ways = Counter(row.way for row in rows)
    windows = [row for row in rows if row.way == "incremental"]
    worth = [row for row in windows if row.gain >= _GAIN]
    wrong = [row for row in rows if row.wrong]
    text = [
        "# Windows against whole images",
        "",
        f"{len(rows)} files: {', '.join(f'{n} {way}' for way, n in ways.most_common())}. Of those in windows "
        f"{sum(row.error <= CLOSE for row in windows)} are within {CLOSE:g} of whole images, "
        f"{sum(row.error > CLOSE and not row.wrong for row in windows)} differ by more and are as near to "
        f"float64 as whole images are, {len(wrong)} are wrong; {len(worth)} are "
        f"expected to gain {_GAIN} times or more.",
        "",
        "| not in windows, because | files |",
        "| --- | --- |",
    ]
    reasons = Counter(f"{row.way}: {_kind(row.why)}" for row in rows if row.way != "incremental")
    text += [f"| {_cell(why)} | {count} |" for why, count in reasons.most_common()]
    text += ["", "| windows end at | files |", "| --- | --- |"]
    ends = Counter(_first(row) for row in windows)
    text += [f"| {_cell(end)} | {count} |" for end, count in ends.most_common()]
    text += [
        "",
        "| file | way | parts | gain | error | whole, other batch | float64: windows, whole | why, or end |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=lambda row: row.file):
        truth = ", ".join(f"{number:.1e}" for number in row.truth) if row.truth else ""
        parts = f"{row.cut[0]} of {row.cut[1]}" if row.way == "incremental" else ""
        numbers = [f"{row.gain:.2f}", f"{row.error:.1e}", f"{row.noise:.1e}"]
        cells = [row.file, "WRONG" if row.wrong else row.way, parts]
        cells += numbers if row.way == "incremental" else [""] * len(numbers)
        text.append(f"| {' | '.join(map(_cell, [*cells, truth, row.why or row.stops]))} |")
    return "\n".join(text) + "\n"


def _kind(why: str) -> str:
    return why.split(" (")[0].split(":")[0][:80]


def _first(row: Probed) -> str:
    return ", ".join(sorted(word.rsplit(" ", 1)[0] for word in row.stops.split(", "))) or "the output"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:200]
