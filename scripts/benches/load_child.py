"""One way of reading one file, measured in this process; prints a line of JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    return 0


def resident() -> int:
    """The most memory that the process has held since :class:`Meter` was made, in bytes."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Meter:
    """Peak memory above what is held now, and the time that steps take."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # Linux then counts the peak anew
            self._base = _status("VmHWM")
        except OSError:
            self._base = 0

    def again(self) -> None:
        """Count the peak anew, above the same."""
        if self._base:
            Path("/proc/self/clear_refs").write_text("5")

    def step(self, what: Callable[[], Any]) -> tuple[Any, float, float]:
        """What the step gives, its CPU and its wall seconds."""
        cpu, wall = time.process_time(), time.perf_counter()
        found = what()
        return found, time.process_time() - cpu, time.perf_counter() - wall

    def peak(self) -> int:
        """Bytes."""
        if self._base:
            return _status("VmHWM") - self._base
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _convlens(path: str) -> dict[str, float]:
    import onnx.reference
    import onnxruntime
    import torch

    import convlens
    import convlens.instrument.build
    import convlens.model
    from convlens import ops
    from convlens.graph.external import external_files

    ops.known()
    meter = Meter()
    model, load_cpu, load_wall = meter.step(lambda: convlens.load(path, device="cpu"))
    graph, convert_cpu, convert_wall = meter.step(lambda: model.torch)
    peak = meter.peak()
    assert isinstance(graph, torch.nn.Module)
    assert onnx.reference, onnxruntime
    beside = external_files(Path(path), onnx.load(path, load_external_data=False))
    size = Path(path).stat().st_size + sum(file.stat().st_size for file in beside)
    held = [*graph.parameters(), *graph.buffers()]
    return {
        "size": size,
        "measure": max(size, sum(tensor.nbytes for tensor in held)),
        "nodes": len(model.graph.nodes),
        "load_cpu": load_cpu,
        "load_wall": load_wall,
        "convert_cpu": convert_cpu,
        "convert_wall": convert_wall,
        "peak": peak,
    }


def _onnx(path: str) -> dict[str, float]:
    import onnx

    meter = Meter()
    model, cpu, wall = meter.step(lambda: onnx.load(path))
    assert model.graph.node
    return {"load_cpu": cpu, "load_wall": wall, "peak": meter.peak()}


def _onnxruntime(path: str) -> dict[str, float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    meter = Meter()
    session, cpu, wall = meter.step(
        lambda: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    )
    assert session.get_inputs() is not None
    return {"load_cpu": cpu, "load_wall": wall, "peak": meter.peak()}


if __name__ == "__main__":
    ways: dict[str, Callable[[str], dict[str, float]]]
    ways = {"convlens": _convlens, "onnx": _onnx, "onnxruntime": _onnxruntime}
    print(json.dumps(ways[sys.argv[1]](sys.argv[2])))
