"""Whether a batch is right: three inputs in one forward, against the file itself run on each alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.coverage.feeding import Fed
from convlens.errors import ConvLensError
from convlens.runtime.original import without_batch
from convlens.trust.checks import difference, least_magnitude

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.coverage.row import Settings
    from convlens.model import Model
    from convlens.trust.certificate import Certificate

COUNT = 3
EXACT = 1e-6
"""What double precision leaves of an error that rounding caused: it has nine digits more."""


def check_batch(
    path: Path, model: Model, fed: Fed, certificate: Certificate, settings: Settings
) -> tuple[str, str]:
    """``free``, ``one by one``, ``fixed`` or ``wrong``, and why.

    A batch that is said to be free is tried: PyTorch on three different inputs at once has to give what
    onnxruntime gives for the file as it lies there, on each of them alone.
    """
    said = model.batching()
    if not said.free:
        fixed = said.together and said.fixed not in (None, 1)
        return ("fixed" if fixed else "one by one"), said.reason
    name = model.source.name
    rows = _three(fed.arrays[name], settings.seed)
    try:
        alone = _alone(path, fed, name, rows, settings)
    except Exception as error:  # onnxruntime raises its own kinds, all unrelated
        text = " ".join(str(error).split())[:200]
        return "free", f"not compared: onnxruntime takes no single input ({text})"
    try:
        found = _together(model, name, rows)
    except ConvLensError as error:
        return "wrong", f"said to be free, but {COUNT} in one forward fail: {error}"
    measured: dict[str, float] = {}
    for check in certificate.checks:
        measured[check.value] = max(measured.get(check.value, 0.0), check.relative)
    for output, array in found.items():
        expected = alone.get(output)
        if expected is None:
            continue
        joined = np.concatenate(expected) if expected[0].ndim else np.stack(expected)
        if joined.shape != array.shape:
            shapes = f"{list(array.shape)} in one forward, {list(joined.shape)} one by one"
            return "wrong", f"said to be free, but output {output!r} has shape {shapes}"
        off = relative_error(array, joined, least_magnitude(model.graph, output))
        half = joined.dtype == np.float16
        allowed = max(certificate.tolerance, 2e-2 if half else 0.0, 2 * measured.get(output, 0.0))
        if off > allowed and not _exactly(model, name, rows, output):
            return "wrong", (
                f"said to be free, but output {output!r} of {COUNT} in one forward differs by {off:.1e} from "
                f"onnxruntime on each alone, allowed {allowed:.0e}"
            )
    return "free", f"{COUNT} in one forward equal onnxruntime one by one"


def _exactly(model: Model, name: str, rows: NDArray[Any], output: str) -> bool:
    """Whether the batch is right in double precision, so that single precision's rounding alone is off.

    Some networks amplify the last digit of a sum to something visible, and sums are taken in another
    order in a batch of another size.
    """
    if rows.dtype.kind != "f":
        return False
    wide = rows.astype(np.float64)
    together = _together(model, name, wide, "float64")[output]
    alone = [_together(model, name, wide[i : i + 1], "float64")[output] for i in range(len(wide))]
    joined = np.concatenate(alone)
    return joined.shape == together.shape and relative_error(together, joined) <= EXACT


def relative_error(found: NDArray[Any], expected: NDArray[Any], least: float = 0.0) -> float:
    """The largest difference relative to the largest magnitude, which counts as ``least`` at least.

    Infinite where one alone is not finite.
    """
    if not expected.size:
        return 0.0
    if expected.dtype.kind not in "f":
        return float(np.mean(found != expected))
    return difference(found, expected, least)[1]


def _three(array: NDArray[Any], seed: int) -> NDArray[Any]:
    """Three different rows like those of ``array``."""
    rng = np.random.default_rng(seed + 1)
    rows = np.repeat(array[:1], COUNT, axis=0)
    if array.dtype.kind == "f":
        return np.concatenate([array[:1], rng.standard_normal(rows[1:].shape)]).astype(array.dtype)
    flat = rows.reshape(COUNT, -1)
    for index in range(1, COUNT):  # the same numbers in another order are as valid as they were
        flat[index] = rng.permutation(flat[index])
    return flat.reshape(rows.shape)


def _alone(
    path: Path, fed: Fed, name: str, rows: NDArray[Any], settings: Settings
) -> dict[str, list[NDArray[Any]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if settings.threads is not None:
        options.intra_op_num_threads = settings.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    rank = next(len(value.shape) for value in session.get_inputs() if value.name == name)
    each = []
    for index in range(len(rows)):
        row = without_batch(rows[index : index + 1], rank)
        each.append(session.run(outputs, {**fed.arrays, name: row}))
    return {output: [one[place] for one in each] for place, output in enumerate(outputs)}


def _together(model: Model, name: str, rows: NDArray[Any], dtype: str = "float32") -> dict[str, NDArray[Any]]:
    graph = model.instrument(dtype)
    names = [output for output in model.graph.outputs if output in model.graph.producers]
    found = graph.values({name: graph.working(rows, name)}, names)
    return {
        output: (value.float() if value.dtype.itemsize == 2 and value.is_floating_point() else value)
        .detach()
        .cpu()
        .numpy()
        for output, value in found.items()
    }
