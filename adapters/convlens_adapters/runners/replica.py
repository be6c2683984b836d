"""One copy of a model somewhere in a cluster: what it has to know, and the shards that it does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

import onnx

from convlens import cache
from convlens.errors import ConvLensError, UsageError
from convlens.graph import bind
from convlens.graph.external import external_files
from convlens.model import load
from convlens.recording.joined import reopened
from convlens.recording.recorder import Recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.cards import Card
    from convlens.model import Model
    from convlens.recording.plan import Plan
    from convlens.recording.source import Source


@dataclass(frozen=True)
class Job:
    """What every replica is told; it lies once in the cluster's store.

    Attributes:
        path: the model's file, as the driver sees it.
        files: name in the model's folder and contents, the latter as references; the model itself first.
        sha256: of the model.
        card: its card.
        feeds: what its other inputs are bound to.
        device: as for :func:`convlens.model.load`.
        cores: of one replica, the threads of a forward.
        workers: threads that decode ahead.
        plan: what is recorded.
        lies: what the data set is opened from; None where its rows are sent along.
        count: how many items it has.
        fingerprint: of the data set.
        versions: what :func:`versions` says where the job was made.
    """

    path: str
    files: Mapping[str, Any]
    sha256: str
    card: Card
    feeds: Mapping[str, NDArray[Any]]
    device: str
    cores: int
    workers: int
    plan: Plan
    lies: Mapping[str, Any] | None
    count: int
    fingerprint: str
    versions: Mapping[str, str]


def contents(path: Path) -> dict[str, Path]:
    """The file of a model and those that hold its weights, by name in the model's folder."""
    proto = onnx.load(path, load_external_data=False)
    return {one.relative_to(path.parent).as_posix(): one for one in (path, *external_files(path, proto))}


def versions() -> dict[str, str]:
    """What has to be the same on every node."""
    return {**cache.versions(), "convlens's code": cache.sources()}


class Replica:
    """One copy of the model; an actor of Ray, and a plain object everywhere else."""

    def __init__(self) -> None:
        """Nothing is known yet, so that an actor whose process died can be started anew at any time."""
        self._told: Any = None

    def ready(self, told: Sequence[Any]) -> None:
        """Load the model and open the data set.

        Args:
            told: a reference to the :class:`Job`; within a sequence, so that Ray leaves it a reference.

        Raises:
            ConvLensError: this node has other versions, cannot load the model, or sees another data set.
        """
        self._told = told
        _ = self._recorder
        if self._job.lies is not None:
            _ = self._source

    def shard(self, told: Sequence[Any], first: int, stop: int) -> bytes:
        """The part of items ``first`` to ``stop``, packed."""
        self._told = told
        (part,) = self._recorder.parts(self._source, [(first, stop)])
        return part.to_bytes()

    def rows(
        self, told: Sequence[Any], first: int, stop: int, pieces: Sequence[tuple[Any, int, int]], columns: Any
    ) -> bytes:
        """The part of rows that lie in the cluster's store, packed.

        Args:
            told: as for :meth:`ready`.
            first: number of the first row.
            stop: number after the last.
            pieces: reference to a block of rows, first row in it, first row after.
            columns: what stands in which column.
        """
        import ray

        from convlens_adapters.sources.ray_rows import Rows

        self._told = told
        model = self._recorder.model
        blocks = ray.get([block for block, _, _ in pieces])
        cut = [(block, a, b) for block, (_, a, b) in zip(blocks, pieces, strict=True)]
        (part,) = self._recorder.parts(Rows(cut, first, columns, model.source), [(first, stop)])
        return part.to_bytes()

    @cached_property
    def _job(self) -> Job:
        import ray

        found: Job = ray.get(self._told[0])
        return found

    @cached_property
    def _recorder(self) -> Recorder:
        job = self._job
        own = versions()
        if own != job.versions:
            differing = [n for n in {**own, **job.versions} if own.get(n) != job.versions.get(n)]
            told = ", ".join(
                f"{name} {own.get(name, 'missing')} instead of {job.versions.get(name, 'none')}"
                for name in differing
            )
            raise UsageError(f"a node has {told}; install the same versions on every node")
        return Recorder(self._model(), job.plan, job.workers)

    def _model(self) -> Model:
        job = self._job
        path = Path(job.path)
        if path.is_file():
            try:
                found = self._load(path)
                if found.sha256 == job.sha256:
                    return found
            except ConvLensError:
                pass  # another file of that name on this node
        found = self._load(self._brought())
        if found.sha256 != job.sha256:
            raise ConvLensError(f"{job.path}: arrived damaged on a node; run it again")
        return found

    def _load(self, path: Path) -> Model:
        job = self._job
        feeds = {name: array.copy() for name, array in job.feeds.items()}
        found = load(path, job.card, job.device, job.cores, feeds)
        if bind.record(found.graph.bound) != bind.record(job.feeds):
            raise ConvLensError(
                f"{job.path}: its inputs are bound to other numbers on a node; run it locally"
            )
        return found

    def _brought(self) -> Path:
        """The model's files written out here, from the cluster's store."""
        import ray

        folder = Path(tempfile.mkdtemp(prefix="convlens-"))
        finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, held in self._job.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ray.get(held))
        return folder / next(iter(self._job.files))

    @cached_property
    def _source(self) -> Source:
        job, model = self._job, self._recorder.model
        told = job.lies or {"images": []}
        where = f"{', '.join(told['images'][:3])}: on a node of the cluster"
        try:
            found = reopened(told, model.source, model.card)
            same = len(found) == job.count and found.fingerprint() == job.fingerprint
        except (ConvLensError, OSError) as error:
            raise UsageError(
                f"{where} it cannot be opened ({error}); put it where every node sees it, or read it with Ray"
            ) from error
        if not same:
            raise UsageError(
                f"{where} another data set lies there ({len(found)} items instead of {job.count}, or other "
                "ones); put the same one where every node sees it, or read it with Ray"
            )
        return found
