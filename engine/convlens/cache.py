"""What may be kept between runs, in the user's cache folder. Anything damaged is simply made again.

``CONVLENS_CACHE`` names another folder; ``off`` keeps nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convlens.results import write

_PACKAGES = ("convlens", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "torch")


def folder() -> Path | None:
    """The cache folder, None where nothing is to be kept."""
    chosen = os.environ.get("CONVLENS_CACHE", "")
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("convlens")


def get(kind: str, key: str) -> Any:
    """What was put under ``key``, None where there is nothing or it cannot be read."""
    root = folder()
    if root is None:
        return None
    try:
        return json.loads((root / kind / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def put(kind: str, key: str, value: Any) -> None:
    """Keep ``value`` (plain data) under ``key``; a folder that cannot be written is no error."""
    root = folder()
    if root is None:
        return
    try:
        (root / kind).mkdir(parents=True, exist_ok=True)
        write(root / kind / f"{key}.json", lambda file: file.write(json.dumps(value).encode()))
    except OSError:
        return


def key_of(*parts: Any) -> str:
    """A short key that changes whenever one of ``parts`` does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that decide what comes out, without importing them."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def sources() -> str:
    """A hash of this package's own code, so that nothing outlives a change of it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
