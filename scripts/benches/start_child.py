"""From a file to its certificate, measured in this process; prints a line of JSON."""

from __future__ import annotations

import json
import sys

from load_child import Meter


def made(path: str) -> dict[str, float]:
    """The certificate made anew, and what has to come before it."""
    import onnx.reference
    import onnxruntime
    import torch

    import convlens
    import convlens.instrument.build
    import convlens.model
    from convlens import ops

    ops.known()
    assert onnx.reference
    assert onnxruntime
    assert torch
    meter = Meter()
    model, *load = meter.step(lambda: convlens.load(path, device="cpu"))
    _, *layers = meter.step(lambda: model.layers)
    _, *convert = meter.step(lambda: model.torch)
    certificate, *certified = meter.step(model.certificate)
    if not certificate.passed:
        raise SystemExit(f"the certificate is not met: {certificate.words()}")
    steps = {"load": load, "layers": layers, "convert": convert, "certificate": certified}
    found = {}
    for name, (cpu, wall) in steps.items():
        found |= {f"{name}_cpu": cpu, f"{name}_wall": wall}
    return {**found, "nodes": len(model.graph.nodes), "peak": meter.peak()}


def kept(path: str) -> dict[str, float]:
    """The certificate as an earlier process has left it."""
    import onnx.reference
    import onnxruntime

    import convlens
    import convlens.model
    from convlens import ops

    ops.known()
    assert onnx.reference
    assert onnxruntime
    meter = Meter()
    model = convlens.load(path, device="cpu")
    _, cpu, wall = meter.step(model.certificate)
    assert "torch" not in sys.modules
    return {"kept_cpu": cpu, "kept_wall": wall, "kept_peak": meter.peak()}


if __name__ == "__main__":
    print(json.dumps({"made": made, "kept": kept}[sys.argv[1]](sys.argv[2])))
