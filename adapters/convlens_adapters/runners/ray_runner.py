"""Shards on a Ray cluster: one copy of the model per GPU or per so many cores, all references, no copies.

The model's files and what is to be done lie once in the cluster's store. A data set that every node can
open is opened there, and a shard is two numbers; rows that Ray Data reads stay where they were read, and a
shard is references to them. Parts come back as references too and are fetched one at a time; a copy has one
shard under way and one waiting, so that what is finished and not yet on disk is bounded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from convlens.errors import ConvLensError, UsageError
from convlens.recording.joined import lies
from convlens.recording.part import Part
from convlens_adapters.runners.cluster import joined
from convlens_adapters.runners.replica import Job, Replica, contents, versions
from convlens_adapters.sources.ray_rows import RaySource

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.plan import Plan
    from convlens.recording.run import Run
    from convlens.recording.source import Source

Task = tuple[str, tuple[Any, ...]]

_AHEAD = 2  # shards that a copy of the model has, under way or waiting
_AGAIN = 2  # times that a copy is started anew, and a shard done anew, after its process died


def open_runner(workers: int = 1, threads: int | None = None) -> Run:
    """The runner of ``convlens record --runner ray``.

    Args:
        workers: threads of each copy of the model that decode ahead.
        threads: cores of one copy; one without it.
    """
    return on_ray(cores=threads or 1, workers=workers)


def on_ray(
    *, cores: int = 1, workers: int = 1, replicas: int | None = None, address: str | None = None
) -> Run:
    """Shards on a Ray cluster.

    A copy of the model takes a GPU where the cluster has some and the model may use one, else ``cores``
    cores. Copies for which there is no room yet join in when there is.

    Args:
        cores: of one copy of the model, and threads of its forward.
        workers: threads of each copy that decode ahead of it.
        replicas: copies of the model; as many as the cluster has room for without it.
        address: of the cluster; without it that of ``RAY_ADDRESS``, else one is started on this machine.
    """

    def run(model: Model, plan: Plan, source: Source, shards: Sequence[tuple[int, int]]) -> Iterable[Part]:
        if not shards:
            return
        with joined(address) as ray:
            job = ray.put(_job(ray, model, plan, source, cores, workers))
            actors = _replicas(ray, model, source, cores, min(replicas or len(shards), len(shards)))
            tasks = _tasks(source, shards)
            try:
                yield from _parts(ray, job, actors, tasks)
            finally:
                tasks.close()  # and with it what Ray Data does, while there is a cluster
                for actor in actors:
                    ray.kill(actor)

    return run


def _job(ray: Any, model: Model, plan: Plan, source: Source, cores: int, workers: int) -> Job:
    rows = isinstance(source, RaySource)
    return Job(
        path=str(model.path.resolve()),
        files={name: ray.put(path.read_bytes()) for name, path in contents(model.path).items()},
        sha256=model.sha256,
        card=model.card,
        feeds=dict(model.graph.bound),
        device=model.device,
        cores=cores,
        workers=workers,
        plan=plan,
        lies=None if rows else lies(source),
        count=len(source),
        fingerprint="" if rows else source.fingerprint(),
        versions=versions(),
    )


def _replicas(ray: Any, model: Model, source: Source, cores: int, most: int) -> list[Any]:
    """Actors, as many as the whole cluster has room for; reading keeps one core for itself."""
    room = ray.cluster_resources()
    gpus = int(room.get("GPU", 0)) if model.device != "cpu" else 0
    free = int(room.get("CPU", 0)) - isinstance(source, RaySource)
    if cores > max(free, 1):
        raise UsageError(
            f"one copy of the model is to have {cores} cores, and the cluster has {max(free, 0)} for copies; "
            "ask for fewer (--threads), or start Ray with more"
        )
    claim = min(cores, free)
    count = gpus or max(1, free // cores)
    kind = ray.remote(
        num_cpus=claim, num_gpus=1 if gpus else 0, max_restarts=_AGAIN, max_task_retries=_AGAIN
    )(Replica)
    return [kind.remote() for _ in range(min(count, most))]


def _tasks(source: Source, shards: Sequence[tuple[int, int]]) -> Generator[Task, None, None]:
    """Method of a replica and its arguments, shard by shard."""
    if isinstance(source, RaySource):
        for first, stop, pieces in source.pieces(shards):
            yield "rows", (first, stop, pieces, source.columns_held)
    else:
        for first, stop in shards:
            yield "shard", (first, stop)


def _parts(ray: Any, job: Any, actors: Sequence[Any], tasks: Iterator[Task]) -> Iterator[Part]:
    """Parts as they are finished, in any order."""
    waiting = {actor.ready.remote([job]): actor for actor in actors}
    starting, under_way = set(waiting), 0
    while True:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        actor = waiting.pop(done)
        packed = _got(ray, done)
        began = done in starting
        under_way -= not began
        starting.discard(done)
        del done  # the part's place in the store is free as soon as it was read
        for name, given in islice(tasks, _AHEAD if began else 1):
            waiting[getattr(actor, name).remote([job], *given)] = actor
            under_way += 1
        if packed is not None:
            yield Part.from_bytes(packed)
        if not under_way:
            return  # copies that start only now find nothing left


def _got(ray: Any, reference: Any) -> bytes | None:
    """What a replica gave back.

    Raises:
        ConvLensError: it failed; what went wrong on purpose is raised as it was there.
    """
    try:
        found: bytes | None = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", error)
        if isinstance(cause, ConvLensError):
            raise type(cause)(str(cause)) from None
        raise ConvLensError(
            f"a copy of the model failed on the cluster ({type(cause).__name__}: "
            f"{' '.join(str(cause).split())[:200]}); what is finished is kept, --resume goes on"
        ) from error
    except ray.exceptions.RayError as error:
        raise ConvLensError(
            f"the cluster lost a copy of the model {_AGAIN + 1} times ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); what is finished is kept, --resume goes on"
        ) from error
    return found
