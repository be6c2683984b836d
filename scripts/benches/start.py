"""What starting costs: commands from the start of Python to its end, and what a file costs before it is used.

Every figure comes from a process of its own, and all take turns, round by round; bytecode is compiled once
before, as an installed package has it. *Load* reads and normalises the file, *layers* measures its graph,
*convert* builds the PyTorch graph, *certificate* holds that against onnxruntime at every value, and *kept*
is the same certificate from the disk cache in a further process, which needs no PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches.page import conditions, table

TITLE = "Start-up"
_CHILD = Path(__file__).with_name("start_child.py")
_MAIN = "from convlens.cli import main; main()"
_MB = 1 << 20
_BUNDLED = "efficientnet-lite0"
_PARTS = {"numpy", "onnx", "onnx_ir", "onnxruntime", "pydantic", "pydantic_core", "PIL", "torch", "click"}
_ASKED = "`--help` under 0.3 s, `layers` of a file of 100 MB under 1.5 s"
_STEPS = ("load", "layers", "convert", "certificate", "kept")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, help="ONNX files of the second table; bundled models")
    parser.add_argument("--rounds", type=int, default=5, help="processes a command (5)")
    parser.add_argument("--model-rounds", type=int, default=1, help="processes a model (1)")
    parser.add_argument("--photo", type=Path, default=Path("models/photos/coffee.png"))


def run(options: argparse.Namespace) -> str:
    from convlens import catalogue

    files = options.paths or [Path(entry.path) for entry in catalogue.entries() if entry.path]
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(Path(folder))
        commands = _commands(options.photo, max(files, key=lambda file: file.stat().st_size))
        first = _table(commands, options.rounds, environment)
        second = [_model(file, options.model_rounds, environment) for file in files]
    words = (
        f"Commands from the start of Python to its end: median of {options.rounds}, lowest - highest in "
        f"brackets, and peak memory in all; {_ASKED} is asked for. *Imports* are what Python says that they "
        "take, at which it is slower by the telling, and the packages that take most of it. `predict` finds "
        "its certificate kept, as any run after the first."
    )
    notes = (
        "Seconds of the processor from a file to its certificate, wall in brackets, imports not counted; "
        "*kept* is the certificate from the disk cache. *MB* is the peak above what was held after the "
        "imports; *MB kept* the same of the process that finds the certificate."
    )
    return "\n\n".join([conditions(), words, table(first), notes, table(second)])


def _environment(folder: Path) -> dict[str, str]:
    """One thread, a cache folder of its own, and bytecode beside it."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **found,
        "OMP_NUM_THREADS": "1",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "CONVLENS_CACHE": str(folder / "cache"),
    }


def _commands(photo: Path, largest: Path) -> dict[str, list[str]]:
    size = largest.stat().st_size / _MB
    return {
        "--version": ["--version"],
        "--help": ["--help"],
        "occlusion --help": ["occlusion", "--help"],
        "methods": ["methods"],
        f"layers {_BUNDLED}": ["layers", _BUNDLED],
        f"layers {largest.stem} ({size:.0f} MB)": ["layers", str(largest)],
        f"predict {_BUNDLED}, one photo": ["predict", _BUNDLED, str(photo), "--json"],
    }


def _table(
    commands: Mapping[str, Sequence[str]], rounds: int, environment: Mapping[str, str]
) -> list[dict[str, str]]:
    python = [sys.executable, "-c", _MAIN]
    imports = {}
    for name, words in commands.items():
        print(name, file=sys.stderr)
        _timed([*python, *words], environment)  # bytecode and certificate
        imports[name] = _imports([sys.executable, "-X", "importtime", "-c", _MAIN, *words], environment)
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            found[name].append(_timed([*python, *words], environment))
    return [
        {
            "command": name,
            "seconds": _spread([wall for wall, _, _ in each]),
            "processor": _spread([cpu for _, cpu, _ in each]),
            "MB": f"{max(peak for _, _, peak in each) / _MB:.0f}",
            "imports": imports[name],
        }
        for name, each in found.items()
    ]


def _timed(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, int]:
    """Wall and CPU seconds of a process, and its peak memory in bytes."""
    start = time.perf_counter()
    made = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(made.pid, 0)
    wall = time.perf_counter() - start
    made.returncode = os.waitstatus_to_exitcode(status)
    if made.returncode:
        raise subprocess.CalledProcessError(made.returncode, list(command))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def _imports(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Milliseconds of all imports, and of the packages with the largest share."""
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    own: dict[str, int] = {}
    for line in made.stderr.splitlines():
        if not line.startswith("import time:") or "[us]" in line:
            continue
        micro, _, name = line.removeprefix("import time:").split("|")
        package = name.strip().split(".")[0]
        package = package if package in {*_PARTS, "convlens"} else "others"
        own[package] = own.get(package, 0) + int(micro)
    total = sum(own.values())
    most = sorted(own, key=lambda package: -own[package])[:3]
    return f"{total / 1000:.0f} ms: " + ", ".join(f"{name} {own[name] / total:.0%}" for name in most)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def _model(file: Path, rounds: int, environment: Mapping[str, str]) -> dict[str, str]:
    print(file, file=sys.stderr)
    found = []
    for number in range(rounds):
        cache = f"{environment['CONVLENS_CACHE']}-{number}"
        own = {**environment, "CONVLENS_CACHE": cache}
        found.append({**_child("made", file, own), **_child("kept", file, own)})
    middle = {key: statistics.median(each[key] for each in found) for key in found[0]}
    row = {"file": file.stem, "size": f"{file.stat().st_size / _MB:.1f}", "nodes": f"{middle['nodes']:.0f}"}
    row |= {step: f"{middle[f'{step}_cpu']:.2f} ({middle[f'{step}_wall']:.2f})" for step in _STEPS}
    return {**row, "MB": f"{middle['peak'] / _MB:.0f}", "MB kept": f"{middle['kept_peak'] / _MB:.0f}"}


def _child(way: str, file: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, str(_CHILD), way, str(file)]
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    if made.returncode:
        raise SystemExit(f"{file}: could not be measured; {made.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return answer
