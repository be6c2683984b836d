"""The certificate: the PyTorch graph held against onnxruntime at every value of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UnsupportedError
from convlens.rounding import ROUNDING_LIMIT, rounding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.graph.source import Source
    from convlens.instrument.build import TorchGraph
    from convlens.runtime.runner import Runner

TOLERANCE = 1e-4
"""Largest error allowed at a value, relative to that value's own largest magnitude.

Two float32 implementations of one network differ by a few units in the last place per operator,
which grows to some 1e-5 through a hundred layers; a wrong operator shows at 1e-2 and above.
"""

HALF_TOLERANCE = 2e-2
"""The same for values in half precision, whose unit in the last place is a thousandth."""

_OPEN_SIZE = 224
_OPEN_OTHER = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One value on one input: the largest difference, absolute and relative to its largest magnitude."""

    value: str
    op: str
    input: str
    absolute: float
    relative: float
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class Certificate:
    """What the comparison found.

    Attributes:
        checks: every value on every input, in the order in which they are computed.
        inputs: what was fed: a seeded random array, and a photo where the card allows it.
        tolerance: largest relative error allowed.
        device: where each executor ran.
    """

    checks: tuple[Check, ...]
    inputs: tuple[str, ...]
    tolerance: float = TOLERANCE
    device: str = "cpu"

    @property
    def passed(self) -> bool:
        """Whether every value agreed on every input."""
        return all(check.passed for check in self.checks)

    @property
    def worst(self) -> Check:
        """The value with the largest relative error."""
        return max(self.checks, key=lambda check: (not check.passed, check.relative))

    @property
    def failures(self) -> tuple[Check, ...]:
        """Every check out of tolerance, the first one computed first."""
        return tuple(check for check in self.checks if not check.passed)

    def summary(self) -> dict[str, Any]:
        """What every Result carries."""
        worst = self.worst
        return {
            "passed": self.passed,
            "values": len({check.value for check in self.checks}),
            "inputs": list(self.inputs),
            "tolerance": self.tolerance,
            "worst": {"value": worst.value, "absolute": worst.absolute, "relative": worst.relative},
            "first_failure": self.failures[0].value if self.failures else None,
        }

    def words(self) -> str:
        """The verdict in one sentence."""
        worst = self.worst
        count = len({check.value for check in self.checks})
        if self.passed:
            return (
                f"PyTorch and onnxruntime agree at all {count} values; the largest difference is "
                f"{worst.relative:.1e} of the value's magnitude, at {worst.value} ({worst.op})."
            )
        first = self.failures[0]
        return (
            f"PyTorch and onnxruntime disagree from value {first.value!r} ({first.op}) on: relative error "
            f"{first.relative:.1e} on {first.input}, allowed {self.tolerance:.0e}"
            f"{'; ' + first.note if first.note else ''}."
        )

    def record(self) -> dict[str, Any]:
        """The certificate as plain data."""
        return {
            "checks": [asdict(check) for check in self.checks],
            "inputs": list(self.inputs),
            "tolerance": self.tolerance,
            "device": self.device,
        }

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> Certificate:
        """A certificate from :meth:`record`'s data. Raises KeyError or TypeError where it is damaged."""
        checks = tuple(Check(**check) for check in record["checks"])
        if not checks:
            raise KeyError("checks")
        return cls(checks, tuple(record["inputs"]), record["tolerance"], record["device"])


def certify(
    torch_graph: TorchGraph,
    runner: Runner,
    inputs: Mapping[str, Mapping[str, NDArray[Any]]],
    tolerance: float = TOLERANCE,
    exact: Callable[[], TorchGraph] | None = None,
) -> Certificate:
    """Compare every value that the graph computes, on each of ``inputs`` (a name, then arrays by input).

    Values are compared as PyTorch computes them and let go, so the peak is onnxruntime's own copy.
    ``exact`` gives the same graph in float64; with it, errors that are float32's own are told from
    those of a wrong operator, and noted.
    """
    import torch

    graph = runner.graph
    names = [output for node in graph.nodes for output in node.outputs if output]
    ops = {output: node.full_op for node in graph.nodes for output in node.outputs}
    every: list[Check] = []
    for label, given in inputs.items():
        checks: list[Check] = []
        count = len(next(iter(given.values())))
        missing = max((runner.fixed_batch or 0) - count, 0)  # the file takes no fewer
        feeds = {n: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for n, a in given.items()}
        count += missing
        expected = runner.run(feeds, names, batch_size=count)
        # fused and optimised, as the methods run it, the outputs must still be the same numbers
        optimised = runner.run(feeds, graph.outputs, batch_size=count)
        tensors = {name: torch_graph.working(array, name) for name, array in feeds.items()}
        with torch.no_grad():
            for name, tensor in torch_graph.stream(tensors, names):
                found = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
                array = found.cpu().numpy()
                if name in expected:
                    checks.append(_compare(name, ops[name], label, array, expected.pop(name), tolerance))
                if name in optimised and name in ops:
                    fused = optimised.pop(name)
                    checks.append(_compare(name, ops[name], f"{label}, optimised", array, fused, tolerance))
        suspect = {check.value for check in checks if not check.passed and check.relative <= ROUNDING_LIMIT}
        if suspect and exact is not None:
            again = runner.run(feeds, names, batch_size=count)
            doubted = [name for name in names if name in suspect]
            reasons = rounding(torch_graph, exact(), feeds, again, doubted, ops, tolerance)
            checks = [_excuse(check, reasons) for check in checks]
        every += checks
    return Certificate(tuple(every), tuple(inputs), tolerance, runner.device)


def _excuse(check: Check, reasons: Mapping[str, str]) -> Check:
    if check.passed or check.value not in reasons or check.relative > ROUNDING_LIMIT:
        return check
    return replace(check, passed=True, note=reasons[check.value])


def _compare(
    name: str,
    op: str,
    label: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    tolerance: float,
) -> Check:
    if found.shape != expected.shape:
        note = f"shape {list(found.shape)} in PyTorch, {list(expected.shape)} in onnxruntime"
        return Check(name, op, label, float("inf"), float("inf"), False, note)
    if expected.size == 0:
        return Check(name, op, label, 0.0, 0.0, True)
    if expected.dtype.kind not in "fV":
        differing = int(np.count_nonzero(found != expected))
        share = differing / expected.size
        note = f"{differing} of {expected.size} integers differ" if differing else ""
        return Check(name, op, label, share, share, differing == 0, note)
    half = expected.dtype.itemsize == 2
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not same[~finite].all() or not np.isfinite(a[finite]).all():
        return Check(name, op, label, float("inf"), float("inf"), False, "infinite or NaN on one side only")
    absolute = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    magnitude = float(np.abs(b[finite]).max(initial=0.0))
    relative = absolute / magnitude if magnitude > 0 else absolute
    allowed = max(tolerance, HALF_TOLERANCE) if half else tolerance
    return Check(name, op, label, absolute, relative, relative <= allowed)


def random_input(
    graph: Graph, source: Source, size: tuple[int, ...] | None, seed: int
) -> dict[str, NDArray[Any]]:
    """A seeded array for every input: normal numbers for real ones, small indices for integers.

    Open dimensions become two for the batch, ``size`` (or 224) for the image's axes, 8 for others.

    Raises:
        UnsupportedError: an input whose shape the file does not say.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for value in graph.inputs:
        if value.shape is None:
            raise UnsupportedError(f"input {value.name!r} has no shape; export the model with one")
        dims = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif axis == 0:
                dims.append(2)
            elif value.name == source.name and axis in source.spatial:
                place = source.spatial.index(axis)
                dims.append(size[place] if size is not None and place < len(size) else _OPEN_SIZE)
            else:
                dims.append(_OPEN_OTHER)
        if value.dtype is None or value.floating:
            half = value.dtype == "float16"
            feeds[value.name] = rng.standard_normal(dims).astype(np.float16 if half else np.float32)
        elif value.dtype == "bool":
            feeds[value.name] = rng.random(dims) < 0.5
        else:
            feeds[value.name] = rng.integers(0, 256 if value.dtype == "uint8" else 2, dims).astype(
                value.dtype
            )
    return feeds
