"""A recording on disk: finished shards while it is made, Parquet tables when it is done.

Every file appears whole or not at all, and the manifest comes last: where it is, the rest is too.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convlens.errors import OutputError
from convlens.recording.part import Part
from convlens.recording.plan import differing
from convlens.results import read_json

MANIFEST = "manifest.json"
SHARDS = "shards"
_JOB = "job.json"


class Shards:
    """The finished shards of a recording that is being made."""

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        """``job`` is what makes two recordings the same."""
        self.folder = folder
        self.job = dict(job)

    def unfinished(self, resume: bool, overwrite: bool) -> bool:
        """Whether the folder holds this very job half done and it is to go on. Changes nothing.

        Raises:
            OutputError: it holds something else, or ``resume`` was not said.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder}: is a file; expected a folder for the recording")
        if overwrite or not self.folder.is_dir() or not self._begun():
            return False
        held = read_json(self.folder / _JOB)
        if (self.folder / MANIFEST).exists() or held is None:
            raise OutputError(
                f"{self.folder}: is not empty and was left as it is; choose another, or --overwrite"
            )
        differs = differing(held, self.job)
        if differs:
            raise OutputError(
                f"{self.folder}: holds another recording unfinished ({', '.join(differs)} differ); "
                "choose another folder, or --overwrite"
            )
        if not resume:
            raise OutputError(
                f"{self.folder}: holds this recording unfinished; --resume goes on with it, --overwrite "
                "starts afresh"
            )
        return True

    def _begun(self) -> bool:
        """Whether the folder holds more than what a recording leaves that was stopped as it claimed it."""
        left = {f".{_JOB}.tmp", SHARDS}
        return any(path.name not in left for path in self.folder.iterdir()) or any(
            (self.folder / SHARDS).glob("*")
        )

    def claim(self) -> None:
        """Make the folder this job's own; what a recording left there goes, everything else stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.folder / MANIFEST, self.folder / _JOB, *self.folder.glob("*.parquet")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / SHARDS, ignore_errors=True)
        (self.folder / SHARDS).mkdir()
        put(self.folder / _JOB, json.dumps(self.job, indent=1).encode())

    def path(self, first: int) -> Path:
        """Where the shard that begins with item ``first`` lies."""
        return self.folder / SHARDS / f"{first:012d}.npz"

    def get(self, first: int) -> Part | None:
        """A finished shard, None where there is none or it is damaged."""
        try:
            return Part.from_bytes(self.path(first).read_bytes())
        except (OSError, ValueError):
            return None

    def add(self, part: Part) -> None:
        """Put a finished shard there.

        Raises:
            OutputError: the disk is full.
        """
        put(self.path(part.first), part.to_bytes())

    def end(self) -> None:
        """Clear away what only an unfinished recording needs."""
        (self.folder / _JOB).unlink(missing_ok=True)
        shutil.rmtree(self.folder / SHARDS, ignore_errors=True)


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, on the disk itself when this returns.

    Raises:
        OutputError: the disk is full.
    """

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(data)

    put_by(path, fill)


def put_by(path: Path, fill: Callable[[Path], None]) -> None:
    """The same for what ``fill`` writes to the path that it is given.

    Raises:
        OutputError: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        fill(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"{path.parent}: no space is left; what is finished is kept - make room and go on with "
                "--resume"
            ) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
