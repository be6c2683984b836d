"""Time and memory of loading a file and of building its PyTorch graph, beside onnx.load and onnxruntime.

Every figure comes from a process of its own, in which everything is imported before the clock starts; of
several rounds the median counts. Memory is the peak above what the process held after the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches.page import conditions, table

TITLE = "Loading"
_CHILD = Path(__file__).with_name("load_child.py")
_WAYS = ("convlens", "onnx", "onnxruntime")
_MB = 1 << 20
_COUNTS = 20 * _MB
"""Bytes from which on memory is held against the size: below, a few modules weigh more than the file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, help="ONNX files or folders; the bundled models")
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure, 1 or more (3)")


def run(options: argparse.Namespace) -> str:
    rows = []
    for file in _files(options.paths):
        print(file, file=sys.stderr)
        try:
            rows.append(_measure(file, options.rounds))
        except subprocess.CalledProcessError as error:
            print(f"  left out: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    if not rows:
        raise SystemExit("no file could be measured; expected ONNX files that both executors take")
    return "\n\n".join([conditions(), _words(rows), table([_row(row) for row in rows])])


def _files(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        from convlens import catalogue

        return [Path(entry.path) for entry in catalogue.entries() if entry.path]
    found = []
    for path in paths:
        found += sorted(path.rglob("*.onnx")) if path.is_dir() else [path]
    return found


def _measure(file: Path, rounds: int) -> dict[str, Any]:
    """Every way in turn, round by round, so that what else the machine does weighs on all alike."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    listed = []
    for _ in range(rounds):
        for way in _WAYS:
            command = [sys.executable, str(_CHILD), way, str(file)]
            made = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
            found[way].append(json.loads(made.stdout.splitlines()[-1]))
        listed.append(_layers(file))
    middle = {
        way: {key: statistics.median(each[key] for each in given) for key in given[0]}
        for way, given in found.items()
    }
    return {
        "file": file,
        **middle["convlens"],
        "onnx": middle["onnx"],
        "onnxruntime": middle["onnxruntime"],
        "layers_wall": statistics.median(wall for wall, _ in listed),
        "layers_cpu": statistics.median(cpu for _, cpu in listed),
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "CONVLENS_CACHE": "off", "OMP_NUM_THREADS": "1"}


def _layers(file: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the command, the start of Python included."""
    start = time.perf_counter()
    made = subprocess.Popen(
        [sys.executable, "-c", "from convlens.cli import main; main()", "layers", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    _, status, usage = os.wait4(made.pid, 0)
    made.returncode = os.waitstatus_to_exitcode(status)
    assert made.stderr is not None
    said = made.stderr.read().decode()
    made.stderr.close()
    if made.returncode:
        raise subprocess.CalledProcessError(made.returncode, "convlens layers", stderr=said or "failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    loads = [row["load_cpu"] for row in rows]
    converts = [row["convert_cpu"] for row in rows]
    lines = [
        f"{len(rows)} files of {min(r['size'] for r in rows) / _MB:.1f} to "
        f"{max(r['size'] for r in rows) / _MB:.0f} MB. *Load* reads, normalises and measures the graph, "
        "*convert* builds the PyTorch graph; CPU seconds, wall in brackets.",
        f"- load: median {statistics.median(loads):.2f} s, worst {max(loads):.2f} s",
        f"- convert: median {statistics.median(converts):.2f} s, worst {max(converts):.2f} s",
        f"- both together, against `onnx.load`: median {_median(rows, 'onnx')}; against making an "
        f"onnxruntime session: median {_median(rows, 'onnxruntime')}",
        f"- `convlens layers`, from the start of Python to its end: median "
        f"{statistics.median(r['layers_cpu'] for r in rows):.2f} s, worst "
        f"{max(r['layers_cpu'] for r in rows):.2f} s",
    ]
    large = [row["peak"] / row["measure"] for row in rows if row["size"] >= _COUNTS]
    if large:
        lines.append(
            f"- peak memory of both together, {len(large)} files of 20 MB and more: median "
            f"{statistics.median(large):.2f}, worst {max(large):.2f} times the file. A file whose weights "
            "are computed in wider numbers than it stores (half precision brought to float32, integer codes "
            "as real numbers) is measured by them at the width in which they are computed."
        )
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _median(rows: Sequence[Mapping[str, Any]], way: str) -> str:
    return f"{statistics.median(_ratio(row, way) for row in rows):.1f} times"


def _ratio(row: Mapping[str, Any], way: str) -> float:
    return float((row["load_cpu"] + row["convert_cpu"]) / max(row[way]["load_cpu"], 1e-3))


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    large = row["size"] >= _COUNTS
    return {
        "file": row["file"].stem,
        "MB": f"{row['size'] / _MB:.1f}",
        "nodes": f"{row['nodes']:.0f}",
        "load": f"{row['load_cpu']:.2f} ({row['load_wall']:.2f})",
        "convert": f"{row['convert_cpu']:.2f} ({row['convert_wall']:.2f})",
        "x onnx.load": f"{_ratio(row, 'onnx'):.1f}",
        "x session": f"{_ratio(row, 'onnxruntime'):.1f}",
        "peak x file": f"{row['peak'] / row['measure']:.2f}" if large else "-",
        "onnx.load": f"{row['onnx']['peak'] / row['size']:.2f}" if large else "-",
        "session": f"{row['onnxruntime']['peak'] / row['size']:.2f}" if large else "-",
        "layers": f"{row['layers_cpu']:.2f} ({row['layers_wall']:.2f})",
    }
