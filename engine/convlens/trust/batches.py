"""Whether the images of a batch stay apart: several at once against one at a time, on onnxruntime.

There is no verdict on a graph that gives something else than the file as it lies on disk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens import cache
from convlens.errors import ConvLensError, UnsupportedError
from convlens.graph import bind
from convlens.graph.passes.batch import why_fixed
from convlens.trust.certificate import random_input
from convlens.trust.checks import TOLERANCE, Check, allowed, difference, least_magnitude
from convlens.trust.openaxes import find_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.graph.source import Source
    from convlens.model import Model
    from convlens.runtime.runner import Runner

IMAGES = 3
"""Images that are compared: a first, a last, and one between."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How many images may share a forward.

    Attributes:
        free: any number may, and each gets what it gets alone.
        together: several different images may share a forward, as many as ``fixed`` says.
        fixed: the batch that the file prescribes, None where it prescribes none.
        reason: why the batch is not free; empty where it is.
    """

    free: bool
    together: bool
    fixed: int | None
    reason: str = ""

    def words(self) -> str:
        """The verdict in one sentence."""
        if self.free:
            return "Batches of any size give what each image gives alone."
        if self.together and self.fixed not in (None, 1):
            return f"Images run in batches of {self.fixed}: {self.reason}."
        return f"Images run one by one: {self.reason}."

    def record(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return asdict(self)


def batching_of(model: Model, seed: int = 0) -> Batching:
    """The verdict for ``model``: from the cache where this code made it for this file, else made now.

    Raises:
        UnsupportedError: the model cannot be run, or the graph that was read does not compute what the
            file does.
    """
    key = cache.key_of(
        model.sha256,
        model.card.input.model_dump(),
        bind.record(model.graph.bound),
        seed,
        model.runner.device,
        cache.versions(),
        cache.sources(),
    )
    kept = cache.get("batches", key)
    if isinstance(kept, dict):
        try:
            return Batching(**kept)
        except TypeError:
            pass  # damaged; made again below
    for held in model.against_file(seed):
        if not held.passed:
            raise UnsupportedError(
                f"{model.path}: output {held.value!r} of the graph as it was read is not what the file gives "
                f"({held.note}{_by(held)}); this is an error of ConvLens - please report it with the file"
            )
    size, _ = find_size(model.runner, model.source, model.card.input.size, key)
    found = check(model.runner.whole(), model.source, size, seed)
    cache.put("batches", key, found.record())
    return found


def _by(held: Check) -> str:
    return f": relative difference {held.relative:.1e}" if np.isfinite(held.relative) else ""


def check(
    runner: Runner,
    source: Source,
    size: tuple[int, ...] | None,
    seed: int = 0,
) -> Batching:
    """Run :data:`IMAGES` different random images at once and one by one, and compare every output.

    Args:
        runner: onnxruntime on the model.
        source: the input that holds the images.
        size: numbers for its open spatial axes.
        seed: of the random images.

    Raises:
        UnsupportedError: the model cannot be run on one image.
    """
    graph, fixed = runner.graph, runner.fixed_batch
    names = [name for name in graph.outputs if name in graph.producers]
    fed = [random_input(graph, source, size, seed + i) for i in range(IMAGES)]
    # inputs beside the images stay what they are; only the images differ
    rows = [{**fed[0], source.name: each[source.name][:1]} for each in fed]
    if len(graph.inputs) > 1:
        return Batching(False, False, fixed, "it takes several inputs; bind all but one to constants")
    names, _ = runner.readable(_filled(rows[0], source, fixed or 1), names)
    chosen = _chosen(runner.graph)
    if chosen:
        return Batching(False, False, fixed, chosen)
    if fixed is not None and fixed > 1:
        mixed = _compare(runner, rows, source, names, fixed)
        reason = f"the file prescribes a batch of {fixed}"
        return Batching(False, not mixed, fixed, f"{reason}, and {mixed}" if mixed else reason)
    if fixed == 1:
        why = why_fixed(graph.ir) or "its axis for images could not be followed"
        return Batching(False, False, 1, f"the file prescribes a batch of 1, which cannot be freed: {why}")
    mixed = _compare(runner, rows, source, names, IMAGES)
    return Batching(not mixed, not mixed, None, mixed)


def _compare(
    runner: Runner,
    rows: Sequence[Mapping[str, NDArray[Any]]],
    source: Source,
    names: Sequence[str],
    count: int,
) -> str:
    """How ``count`` images at once differ from each one alone; empty where they do not."""
    chosen = [rows[i % len(rows)] for i in range(count)]
    batch = {**rows[0], source.name: np.concatenate([row[source.name] for row in chosen])}
    least = runner.fixed_batch or 1
    alone = [_once(runner, _filled(row, source, least), names) for row in rows]
    try:
        found = _once(runner, batch, names)
    except ConvLensError as error:
        return f"several at once fail ({error})"
    for name in names:
        parts = [alone[i % len(rows)][name] for i in range(count)]
        if any(part.ndim == 0 or len(part) != least for part in parts) or len(found[name]) != count:
            shapes = f"{list(parts[0].shape)} for {least}, {list(found[name].shape)} for {count}"
            return f"output {name!r} does not count images along its first axis ({shapes})"
        if any(part.shape[1:] != found[name].shape[1:] for part in parts):
            return f"the shape of output {name!r} depends on what is in the batch"
        joined = np.concatenate([part[:1] for part in parts])
        apart = _apart(found[name], joined, least_magnitude(runner.graph, name))
        if apart:
            return f"images influence each other (output {name!r}: {apart})"
    return ""


def _chosen(graph: Graph) -> str:
    """Which node runs one thing for all images of a forward, by what is in them; empty where none does.

    No number of trials could show that it always runs the same, so none is made.
    """
    inputs = {value.name for value in graph.inputs}
    for node in graph.nodes:
        decides = {"If": node.inputs[:1], "Loop": node.reads}.get(node.full_op, ())
        if not inputs.isdisjoint(graph.ancestors(decides)):
            where = node.name or node.outputs[0]
            return f"{node.op} node {where!r} decides for all of them at once what is run"
    return ""


def _once(runner: Runner, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """One forward of everything in ``feeds``."""
    return next(iter(runner.stream([feeds], names)))


def _filled(row: Mapping[str, NDArray[Any]], source: Source, count: int) -> dict[str, NDArray[Any]]:
    return {**row, source.name: np.repeat(row[source.name][:1], count, axis=0)}


def _apart(found: NDArray[Any], expected: NDArray[Any], least: float) -> str:
    """How far two outputs differ, in words; empty where they agree. Magnitudes are ``least`` at least."""
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, expected {list(expected.shape)}"
    if expected.size == 0:
        return ""
    if expected.dtype.kind not in "fV":
        differing = int(np.count_nonzero(found != expected))
        return f"{differing} of {expected.size} numbers differ" if differing else ""
    relative = difference(found, expected, least)[1]
    return "" if relative <= allowed(expected, TOLERANCE) else f"relative difference {relative:.1e}"
