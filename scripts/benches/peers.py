"""What ConvLens is measured against, in an environment of its own, and the models that all of them run."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from benches.turns import FailedError, Way
from numpy.typing import NDArray

_HERE = Path(__file__).parent
_TORCH = ("torch==2.13.0",)
_ALONE = ("torchvision==0.28.0", "dianna==1.8.1")  # theirs would bring another torch, and what RISE needs not
_PACKAGES = (
    "captum==0.9.0",
    "grad-cam==1.5.7",
    "quantus==0.6.0",
    "onnxscript==0.7.2",  # torch's exporter
    "xarray==2026.9.0",  # DIANNA
    "scikit-image==0.26.0",  # DIANNA, Quantus
)
_SAME = ("numpy", "onnx", "onnxruntime")  # as here

SIDES = {"inception_v3": 299}
"""Pixels a side of the models that do not take 224."""


@dataclass(frozen=True)
class Peers:
    """Their interpreter, the folder of exported models, and how many threads each process may use."""

    python: str
    models: Path
    threads: int
    cache: str

    def way(self, script: str, way: str, **settings: Any) -> Way:
        """A competitor of their environment."""
        return Way(self.python, script, way, {**settings, "threads": self.threads}, self.threads)

    def own(self, script: str, way: str, **settings: Any) -> Way:
        """A competitor of this environment."""
        own = {"CONVLENS_CACHE": self.cache}
        return Way(sys.executable, script, way, {**settings, "threads": self.threads}, self.threads, own)

    def file(self, name: str) -> str:
        """The ONNX file of a model."""
        return str(self.models / f"{name}.onnx")


def arguments(parser: argparse.ArgumentParser, models: Sequence[str]) -> None:
    """The options that all parts with peers have."""
    parser.add_argument(
        "--models",
        nargs="+",
        default=list(models),
        help=f"of torchvision, random weights ({', '.join(models)})",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--threads", type=int, default=1, help="in each process (1)")
    parser.add_argument(
        "--peers", type=Path, default=Path(".venv-peers"), help="their environment, made once (.venv-peers)"
    )
    parser.add_argument(
        "--exports", type=Path, help="where the exported models go (a folder of the peers' environment)"
    )


@contextmanager
def peers_of(options: argparse.Namespace) -> Iterator[Peers]:
    """Environment and models, made where they are missing; certificates are kept as long as this is open."""
    python = environment(options.peers)
    models = options.exports or options.peers / "exports"
    missing = [name for name in options.models if not (models / f"{name}.onnx").is_file()]
    if missing:
        print(f"exporting {', '.join(missing)}", file=sys.stderr)
        models.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [python, "-W", "ignore", str(_HERE / "peers_export.py"), str(models), *missing], check=True
        )
    with tempfile.TemporaryDirectory() as cache:
        found = Peers(python, models.absolute(), options.threads, cache)
        for name in options.models:
            certified(found, name)
        yield found


def certified(peers: Peers, name: str) -> None:
    """Let ConvLens hold its graph against onnxruntime once, as it does on first sight of a file."""
    try:
        peers.own("peers_certify.py", "certify", model=peers.file(name)).start().end()
    except FailedError as error:
        print(f"{name}: {error}", file=sys.stderr)


def environment(folder: Path) -> str:
    """The peers' Python, made where it is missing or made for other versions."""
    here = [f"{name}=={_installed(name)}" for name in _SAME]
    steps = (["--no-deps", *_ALONE[:1]], [*_PACKAGES, *here, *_TORCH], ["--no-deps", *_ALONE[1:]])
    python, mark = folder.absolute() / "bin" / "python", folder / ".installed"
    stamp = hashlib.sha256(repr(steps).encode()).hexdigest()
    if python.is_file() and mark.is_file() and mark.read_text() == stamp:
        return str(python)
    print(f"installing the peers into {folder} (some minutes)", file=sys.stderr)
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in (_TORCH, *steps):
        subprocess.run([*install, *step], check=True)
    mark.write_text(stamp)
    return str(python)


def _installed(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return version(f"{name}-gpu")


def versions(python: str, *names: str) -> str:
    """Versions of packages of the peers' environment, for people."""
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([python, "-c", ask, *names], capture_output=True, text=True, check=True)
    return ", ".join(f"{name} {each}" for name, each in zip(names, found.stdout.split(), strict=True))


def picture(name: str, seed: int = 0) -> NDArray[np.float32]:
    """Something like a photo as the model takes it, 1 x 3 x side x side: patches of colour, and noise."""
    side = SIDES.get(name, 224)
    rng = np.random.default_rng(seed)
    found = np.zeros((3, side, side))
    for cells in (4, 8, 16, 32):
        coarse = rng.normal(size=(3, cells + 1, cells + 1))
        index = np.minimum(np.arange(side) * cells // side, cells)
        found += coarse[:, index][:, :, index] * 4 / cells**0.5
    found += rng.normal(size=found.shape) * 0.3
    return ((found - found.mean()) / found.std()).astype(np.float32)[None]
