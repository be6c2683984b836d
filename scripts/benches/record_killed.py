"""A large data set: memory beside that of its first thousand images, and the bytes after five kills."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benches.page import table

_CHILD = Path(__file__).with_name("record_child.py")
_MB = 1 << 20
_ALLOWED, _FIRST = 100, 1000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="+", type=Path, help="IDX files of images, the larger first")
    parser.add_argument("--data-model", type=Path, help="the file of a model that takes them")
    parser.add_argument("--mean", default="0.1307", help="of its card (0.1307)")
    parser.add_argument("--std", default="0.3081", help="of its card (0.3081)")
    parser.add_argument("--kills", type=int, default=5, help="at random moments (5)")


def text(options: argparse.Namespace) -> list[str]:
    """Paragraphs and a table."""
    if options.data_model is None:
        raise SystemExit("--data without --data-model; expected the file of a model that takes the images")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        few = _cut(options.data[0], root)
        rows = [_recorded(options, [few], root / "few"), _recorded(options, options.data, root / "whole")]
        kills = _killed(options, root / "killed", rows[-1]["wall"])
        same = _digest(root / "whole") == _digest(root / "killed")
    more = (rows[1]["peak"] - rows[0]["peak"]) / _MB
    said = (
        f"{rows[1]['images']} images of {len(options.data)} files through {Path(options.data_model).stem}, "
        f"each time a process of its own. All take {more:.0f} MB more than {rows[0]['images']}; up to "
        f"{_ALLOWED} MB are allowed. Killed (SIGKILL) {len(kills)} times at random moments, at "
        f"{', '.join(kills)} of the images, and resumed, it ended with "
        f"{'the same bytes' if same else '! OTHER BYTES'} as the run that was not."
    )
    return [said, table([_row(row) for row in rows])]


def _command(options: argparse.Namespace, images: list[Path], folder: Path) -> list[str]:
    given = [sys.executable, str(_CHILD), str(options.data_model), str(folder), *map(str, images)]
    return [*given, "--mean", options.mean, "--std", options.std]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _recorded(options: argparse.Namespace, images: list[Path], folder: Path) -> dict[str, Any]:
    print(f"{len(images)} files", file=sys.stderr)
    command = _command(options, images, folder)
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=_environment())
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def _killed(options: argparse.Namespace, folder: Path, wall: float) -> list[str]:
    """How far each process had come when it was killed; the last one is left to end."""
    shares: list[str] = []
    chance = random.Random(0)
    while len(shares) < options.kills:
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                _command(options, options.data, folder),
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=_environment(),
            )
            while child.poll() is None and not said.tell():  # until its first shard is done
                time.sleep(0.01)
            time.sleep(chance.uniform(0, wall / (options.kills + 1)))
            child.send_signal(signal.SIGKILL)
            child.wait()
            said.seek(0)
            lines = said.read().split()
        if child.returncode != -signal.SIGKILL:
            raise SystemExit(f"ended before it was killed {options.kills} times; give more data")
        shares.append(f"{100 * float(lines[-1]):.0f}%")
        print(f"killed at {shares[-1]}", file=sys.stderr)
    subprocess.run(
        _command(options, options.data, folder), check=True, capture_output=True, env=_environment()
    )
    return shares


def _digest(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _cut(path: Path, folder: Path) -> Path:
    """The first images of an IDX file, without labels."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    _, high, wide = struct.unpack(">3I", data[4:16])
    found = folder / "few-images-idx3-ubyte"
    found.write_bytes(
        data[:4] + struct.pack(">3I", _FIRST, high, wide) + data[16 : 16 + _FIRST * high * wide]
    )
    return found


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "images": str(row["images"]),
        "peak MB": f"{row['peak'] / _MB:.0f}",
        "processor seconds": f"{row['cpu']:.0f}",
        "seconds": f"{row['wall']:.0f}",
        "images a second": f"{row['images'] / row['wall']:.0f}",
    }
