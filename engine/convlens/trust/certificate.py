"""The certificate: the PyTorch graph held against onnxruntime at every value of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import isinf
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UnsupportedError
from convlens.ops.quantcodes import quantised
from convlens.trust.checks import TOLERANCE, Check, compare, difference, least_magnitude
from convlens.trust.expected import Expected, filled
from convlens.trust.inside import UNTRIED, Inner, inner
from convlens.trust.openaxes import first_size
from convlens.trust.rounding import NOISE, QUANTISED_LIMIT, amplified, excused, rounding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.graph import Graph
    from convlens.graph.source import Source
    from convlens.instrument.build import TorchGraph
    from convlens.runtime.runner import Runner

__all__ = ["TOLERANCE", "Certificate", "Check", "certify", "random_input"]

FUSED = "onnxruntime's own fused kernels"
SILENT = "not compared itself"

_OPEN_OTHER, _COLOURS = 8, 3
_MANY = 32
"""Values of unknown size from which on they are measured before onnxruntime is asked for them in parts."""


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
        """The value with the largest relative error, of those that are more than rounding."""
        own = [
            check
            for check in self.checks
            if not check.note.startswith((FUSED, NOISE)) and not (check.passed and isinf(check.relative))
        ]
        return max(own or self.checks, key=lambda check: (not check.passed, check.relative))

    @property
    def apart(self) -> Check | None:
        """The output that onnxruntime's fused kernels move furthest, None where that is little."""
        own = [check for check in self.checks if check.note.startswith(FUSED)]
        worst = max(own, key=lambda check: check.relative, default=None)
        return worst if worst is not None and worst.relative > QUANTISED_LIMIT else None

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
        silent = len({check.value for check in self.checks if check.note.startswith(SILENT)})
        count = len({check.value for check in self.checks}) - silent
        if self.passed:
            fused = self.apart
            more = (
                f" {silent} that onnxruntime does not hand out are compared where they are read."
                if silent
                else ""
            )
            noise = len({check.value for check in self.checks if check.note.startswith(NOISE)})
            if noise:
                more += f" {noise} hold nothing but rounding, which has no relative error."
            untried = len({check.input for check in self.checks if check.note.startswith(UNTRIED)})
            if untried:
                branches = "branch that was" if untried == 1 else "branches that were"
                more += f" {untried} {branches} not taken could not be tried; --all lists why."
            if fused is not None:
                more += (
                    f" With its fusions on, onnxruntime itself is {fused.relative:.1e} away from that at "
                    f"{fused.value}: its 8-bit kernels on this processor are less exact."
                )
            return (
                f"PyTorch and onnxruntime agree at all {count} values; the largest difference is "
                f"{worst.relative:.1e} of the value's magnitude, at {worst.value} ({worst.op}).{more}"
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

    Values are compared as PyTorch computes them and let go, onnxruntime's come in parts, so that memory
    stays bounded. A value out of tolerance is computed once more from onnxruntime's own inputs
    (:mod:`convlens.trust.rounding`). ``exact`` gives the same graph in float64 for that.

    The values inside both branches of an ``If`` are among them (:mod:`convlens.trust.inside`).

    A quantised graph is held against onnxruntime without its fusions: its 8-bit kernels may saturate,
    depending on the processor, or round what the file does not, and that is no property of the model.
    """
    rounds = quantised(runner.graph)
    every: list[Check] = []
    for label, given in inputs.items():
        expected = Expected(runner, filled(given, runner.fixed_batch or 0), exact=rounds)
        plain = Expected(runner, expected.feeds, exact=False).runs(runner.graph.outputs)
        every += _held(Inner(torch_graph, exact, expected, label), plain, tolerance, rounds)
        for found in inner(torch_graph, exact, expected, label):
            every += [found] if isinstance(found, Check) else _held(found, {}, tolerance, rounds)
    return Certificate(tuple(every), tuple(inputs), tolerance, runner.device)


def _held(part: Inner, plain: Mapping[str, NDArray[Any]], tolerance: float, rounds: bool) -> list[Check]:
    """Every value of one graph on one input."""
    torch_graph, exact, expected = part.graph, part.exact, part.expected
    graph = torch_graph.graph
    ops = {output: node.full_op for node in graph.nodes for output in node.outputs}
    checks = list(_streamed(part, plain, ops, tolerance, rounds))
    doubted = list(dict.fromkeys(check.value for check in checks if not check.passed))
    if not doubted or exact is None:
        return checks
    reasons: dict[str, str] = {}
    for names, values in expected.with_inputs(doubted):
        reasons |= rounding(torch_graph, exact, expected.feeds, values, names, ops, tolerance)
    checks = excused(checks, reasons, graph, torch_graph.codes)
    left = [check.value for check in checks if not check.passed and check.value in reasons]
    for names in expected.parts(list(dict.fromkeys(left))) if left and not rounds else ():
        told = amplified(torch_graph, exact(), expected.feeds, expected.runs(names))
        checks = [
            replace(check, passed=True, note=told[check.value])
            if not check.passed and check.value in told and check.value in reasons
            else check
            for check in checks
        ]
    return checks


def _streamed(
    part: Inner, plain: Mapping[str, NDArray[Any]], ops: Mapping[str, str], tolerance: float, rounds: bool
) -> Iterator[Check]:
    """Every value as PyTorch computes it, and the outputs once more as onnxruntime optimises them."""
    import torch

    torch_graph, expected, label = part.graph, part.expected, part.label
    names = [output for node in expected.runner.graph.nodes for output in node.outputs if output]
    tensors = {name: torch_graph.working(array, name) for name, array in expected.feeds.items()}
    if len(expected.untold) > _MANY:  # a forward costs less than one of onnxruntime for every few values
        with torch.no_grad():
            expected.measured({name: t.nbytes for name, t in torch_graph.stream(tensors, names)})
    parts = expected.parts(names)
    place = {name: index for index, part in enumerate(parts) for name in part}
    at, held = -1, {}
    with torch.no_grad():
        for name, tensor in torch_graph.stream(tensors, names):
            if name not in place:
                continue
            if place[name] > at:
                at, held = place[name], expected.runs(parts[place[name]])
            found = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            array, wanted = found.cpu().numpy(), held.pop(name, None)
            if wanted is None:
                note = f"{SILENT}: {expected.refused.get(name, 'onnxruntime gives no value')}"
                yield Check(name, ops[name], label, 0.0, 0.0, True, note)
                continue
            codes = name in torch_graph.codes
            least = least_magnitude(expected.runner.graph, name, tolerance)
            yield compare(name, ops[name], label, array, wanted, tolerance, codes, least)
            if name in plain:
                fused = f"{label}, optimised"
                if rounds:
                    yield _optimised(name, ops[name], fused, plain[name], wanted, tolerance)
                else:
                    yield compare(name, ops[name], fused, array, plain[name], tolerance, codes, least)


def _optimised(
    name: str, op: str, label: str, fused: NDArray[Any], written: NDArray[Any], tolerance: float
) -> Check:
    """How far onnxruntime's fused 8-bit kernels are from the nodes as written: its own affair, but said."""
    if fused.shape != written.shape:
        note = f"{FUSED} give the shape {list(fused.shape)}, its plain ones {list(written.shape)}"
        return Check(name, op, label, float("inf"), float("inf"), True, note)
    absolute, relative = difference(fused, written)
    note = f"{FUSED} are {relative:.1e} from its plain ones" if relative > tolerance else ""
    return Check(name, op, label, absolute, relative, True, note)


def random_input(
    graph: Graph, source: Source, size: tuple[int, ...] | None, seed: int, batch: int = 2
) -> dict[str, NDArray[Any]]:
    """A seeded array for every input: normal numbers for real ones, small indices for integers.

    Open dimensions become ``batch`` for the images, ``size`` for their axes (without it the first one that
    would be tried, see :mod:`convlens.trust.openaxes`), 8 for others.

    Raises:
        UnsupportedError: an input whose shape the file does not say.
    """
    rng = np.random.default_rng(seed)
    if size is None:
        size = first_size(source)
    feeds: dict[str, NDArray[Any]] = {}
    for value in graph.inputs:
        if value.shape is None:
            raise UnsupportedError(f"input {value.name!r} has no shape; export the model with one")
        dims = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif axis == 0:
                dims.append(batch)
            elif value.name == source.name and axis == source.channel and source.kind == "photo":
                dims.append(_COLOURS)
            elif value.name == source.name and axis in source.spatial:
                place = source.spatial.index(axis)
                dims.append(size[place] if place < len(size) else _OPEN_OTHER)
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
