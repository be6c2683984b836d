"""The normalised model held against the file as it lies on disk, by onnxruntime alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UnsupportedError
from convlens.runtime.original import as_taken, file_session, filled, without_batch
from convlens.trust.checks import TOLERANCE, Check, allowed, difference, least_magnitude

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.runtime.runner import Runner

UNHELD = "not held against the file as it lies on disk"


def held_against_file(
    path: Path,
    runner: Runner,
    label: str,
    feeds: Mapping[str, NDArray[Any]],
    tolerance: float = TOLERANCE,
) -> list[Check]:
    """Every output by onnxruntime, on the file and on the normalised graph, both run as they are written.

    Args:
        path: the file.
        runner: onnxruntime on the normalised graph.
        label: name of the input.
        feeds: the graph's inputs; their rows are cut or repeated to the batch that the file prescribes.
        tolerance: largest error, relative to the output's largest magnitude.

    Returns:
        One check an output. Where the file itself cannot be run, they pass with a note that says so: an
        independent witness is missing then, and PyTorch is held against the normalised graph alone.
    """
    graph = runner.graph
    ops = {output: node.full_op for node in graph.nodes for output in node.outputs}
    label = f"{label}, file against normalised graph"
    try:
        session = file_session(path, runner.own_threads)
        own = _fitted(session, feeds)
        own = as_taken(session, {**filled(session, own, graph.bound), **own})
        found = dict(zip((o.name for o in session.get_outputs()), session.run(None, own), strict=True))
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        note = f"{UNHELD}: onnxruntime does not run it ({' '.join(str(error).split())[:160]})"
        return [Check(name, ops.get(name, ""), label, 0.0, 0.0, True, note) for name in graph.outputs[:1]]
    given = {
        value.name: own[value.name][None] if own[value.name].ndim + 1 == value.rank else own[value.name]
        for value in graph.inputs
        if value.name in own
    }
    whole = runner.whole()
    count = len(next(iter(given.values())))
    try:
        ours = whole.run(given, graph.outputs, max(count, whole.fixed_batch or 1), exact=True)
    except UnsupportedError as error:
        note = f"the file runs and the normalised graph does not: {error}"
        return [
            Check(name, ops.get(name, ""), label, float("inf"), float("inf"), False, note)
            for name in graph.outputs[:1]
        ]
    matched = dict(zip(graph.outputs, found, strict=False)) if len(found) == len(graph.outputs) else {}
    checks = []
    for name in graph.outputs:
        wanted = found.get(name, found.get(matched.get(name, "")))
        if isinstance(wanted, np.ndarray):
            least = least_magnitude(graph, name, tolerance)
            checks.append(_held(name, ops.get(name, ""), label, ours[name], wanted, tolerance, least))
    return checks


def _fitted(session: Any, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays with as many rows as the file prescribes."""
    fitted = {}
    for wanted in session.get_inputs():
        if wanted.name not in feeds:
            continue  # an initializer that is also an input has a value of its own
        array = without_batch(np.asarray(feeds[wanted.name]), len(wanted.shape))
        rows = wanted.shape[0] if wanted.shape else None
        if isinstance(rows, int) and rows > 0 and array.ndim and len(array) != rows:
            array = np.resize(array, (rows, *array.shape[1:]))
        fitted[wanted.name] = np.asarray(array, order="C")
    return fitted


def _held(
    name: str, op: str, label: str, ours: NDArray[Any], wanted: NDArray[Any], tolerance: float, least: float
) -> Check:
    if ours.shape != wanted.shape:
        note = f"shape {list(ours.shape)} in the normalised graph, {list(wanted.shape)} in the file"
        return Check(name, op, label, float("inf"), float("inf"), False, note)
    if wanted.dtype.kind not in "fV":
        differing = int(np.count_nonzero(ours != wanted))
        share = differing / max(wanted.size, 1)
        note = f"{differing} of {wanted.size} integers differ from the file's own" if differing else ""
        return Check(name, op, label, share, share, not differing, note)
    absolute, relative = difference(ours, wanted, least)
    passed = relative <= allowed(wanted, tolerance)
    note = "" if passed else "normalising the graph changed what it computes"
    return Check(name, op, label, absolute, relative, passed, note)
