"""Steps a second of the loop that makes pictures, beside the same sub-network bare in torch, and Lucent.

Each is a process of its own; they take turns, a few steps at a time, so that what else the machine does
weighs on all alike, and of all steps the median counts. Bare is a forward and a backward to the input of
what lies below the target, written with torch's own layers: weights frozen, channels last, inputs of the
very sizes that the loop shows. Lucent runs in a virtual environment that is made for it, with this one's
torch, on the same weights.

All three keep the memory that they free: whether it goes back to the system between two layers hangs on
what else happens to lie in the heap, and makes a difference of up to a tenth to any of them.
``--give-back`` leaves that to chance.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benches.page import conditions, table
from benches.turns import FailedError, Process

TITLE = "Pictures"
_LEAST = 0.85
_WARM = 3  # steps at the start that do not count: kernels are chosen and memory is taken
_KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_PACKAGES = ("torch-lucent==0.1.8", "kornia==0.4.1", "decorator")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="vgg16", help="a file or a model of the catalogue (vgg16)")
    parser.add_argument(
        "--layer", default="conv4_2", help="a layer below which it is plain (conv4_2, which is features.19)"
    )
    parser.add_argument("--channel", type=int, default=43, help="of that layer (43)")
    parser.add_argument("--side", type=int, default=224, help="of the picture (224)")
    parser.add_argument("--pictures", type=int, default=1, help="in one batch (1)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each (8)")
    parser.add_argument("--steps", type=int, default=5, help="in one turn (5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--give-back", action="store_true", help="leave the allocator as it is")
    parser.add_argument(
        "--lucent",
        type=Path,
        help="folder for Lucent's environment, made once; without it Lucent is left out",
    )


def run(options: argparse.Namespace) -> str:
    ways = {"ConvLens": _Turns(sys.executable, "convlens", options)}
    ways["bare"] = _Turns(sys.executable, "bare", options)
    if options.lucent is not None:
        python = _environment(options.lucent)
        ways["Lucent"] = _Turns(python, "lucent", options)
    try:
        for number in range(options.rounds):
            print(f"turn {number + 1} of {options.rounds}", file=sys.stderr)
            shapes = ways["ConvLens"].take(options.steps)
            ways["bare"].take(options.steps, shapes)
            if "Lucent" in ways:
                ways["Lucent"].take(options.steps)
    finally:
        for way in ways.values():
            way.end()
    rows = {name: way.found() for name, way in ways.items()}
    return "\n\n".join([conditions(), _words(options, rows), table(_rows(rows))])


class _Turns:
    """A process that takes so many steps when it is told to."""

    def __init__(self, python: str, way: str, options: argparse.Namespace) -> None:
        settings = {key: value for key, value in vars(options).items() if key not in ("lucent", "write")}
        if way == "lucent":
            settings |= _stored(options)
        kept = {} if options.give_back else _KEEPING
        self.process = Process(python, "synthesis_child.py", way, settings, options.threads, kept)
        self.turns: list[list[dict[str, Any]]] = []

    def take(self, steps: int, shapes: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
        """Some steps; the shapes of what went into the network in them."""
        try:
            self.turns.append(self.process.ask({"steps": steps, "shapes": shapes}))
        except FailedError as error:
            raise SystemExit(f"a process ended before its turn: {error}") from None
        return [step["shape"] for step in self.turns[-1]]

    def end(self) -> None:
        """No further turn."""
        self.process.end()

    def found(self) -> dict[str, Any]:
        """Median seconds of a step by the clock and of the processor, the spread, and the side seen."""
        steps = [step for turn in self.turns for step in turn][_WARM:]
        walls, cpus = ([step[key] for step in steps] for key in ("wall", "cpu"))
        quarters = statistics.quantiles(walls, n=4)
        pixels = statistics.mean(step["shape"][-1] * step["shape"][-2] for step in steps)
        return {
            "wall": statistics.median(walls),
            "cpu": statistics.median(cpus),
            "low": quarters[0],
            "high": quarters[2],
            "side": pixels**0.5,
            "steps": len(steps),
        }


def _environment(folder: Path) -> str:
    """Lucent's Python; everything that is not listed comes from this environment."""
    python = folder / "bin" / "python"
    if not python.is_file():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, *_PACKAGES], check=True)
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own, here = (
            subprocess.run([each, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
            for each in (str(python), sys.executable)
        )
        (Path(own) / "shared.pth").write_text(here + "\n", encoding="utf-8")
    return str(python)


def _stored(options: argparse.Namespace) -> dict[str, Any]:
    """What Lucent's process needs of the model: the ONNX file and the value below which it is run."""
    import convlens

    model = convlens.load(options.model)
    return {"model": str(model.path), "layer": model.layers.find(options.layer).name}


def _words(options: argparse.Namespace, rows: Mapping[str, Mapping[str, Any]]) -> str:
    own, bare = rows["ConvLens"], rows["bare"]
    said = (
        f"{options.model}, channel {options.channel} of {options.layer}, {options.pictures} picture"
        f"{'s' if options.pictures > 1 else ''} of {options.side} pixels, preset lucid2017, "
        f"{options.threads} thread{'s' if options.threads > 1 else ''}"
        f"{', memory given back as it comes' if options.give_back else ''}. The loop takes "
        f"{bare['wall'] / own['wall']:.2f} as many steps a second as the bare network, and "
        f"{bare['cpu'] / own['cpu']:.2f} by processor time; at least {_LEAST:.2f} is asked for."
    )
    if "Lucent" in rows:
        found = rows["Lucent"]
        said += (
            f" Lucent ({', '.join(_PACKAGES[:2])}, its own transforms) takes "
            f"{own['wall'] / found['wall']:.2f} as many as ConvLens, and shows the network "
            f"{found['side']:.0f} pixels a side."
        )
    return said


def _rows(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    bare = rows["bare"]
    return [
        {
            "": name,
            "steps a second": f"{1 / row['wall']:.2f}",
            "ms a step": f"{1000 * row['wall']:.0f}",
            "middle half, ms": f"{1000 * row['low']:.0f} - {1000 * row['high']:.0f}",
            "processor ms": f"{1000 * row['cpu']:.0f}",
            "to bare": f"{bare['wall'] / row['wall']:.2f}",
            "to bare, processor": f"{bare['cpu'] / row['cpu']:.2f}",
            "pixels a side": f"{row['side']:.0f}",
            "steps": str(row["steps"]),
        }
        for name, row in rows.items()
    ]
