"""Audio front ends against onnxruntime and, where it has no kernel, ONNX's own evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    feed,
    model_of,
    numbers,
    spread,
    torch_graph,
    x,
)

W = numbers
int64 = np.int64

CASES = [
    *(
        case("DFT", x(2, 8, kind), opsets=17, onesided=one, inverse=inverse)
        for kind, one, inverse in ((1, 0, 0), (1, 1, 0), (2, 0, 0), (1, 0, 1), (2, 0, 1))
    ),
    *(case("DFT", x(2, n, kind), opsets=17) for n in (7, 12) for kind in (1, 2)),
    *(case("DFT", x(2, 8, 5, 1), opsets=17, axis=axis, onesided=o) for axis in (1, 2) for o in (0, 1)),
    *(case("DFT", x(2, 8, 1), int64(n), opsets=(17, 20), onesided=o) for n in (5, 8, 11) for o in (0, 1)),
    *(
        case("DFT", x(2, 8, 5, kind), ABSENT, int64(axis), opsets=20)
        for axis in (1, 2, -2, -3)
        for kind in (1, 2)
    ),
    case("DFT", x(2, 8, 1), opsets=20, onesided=1),
    *(case("STFT", x(2, 20, 1), int64(4), W(8), opsets=17, onesided=o) for o in (0, 1)),
    *(case("STFT", x(2, 20, 1), int64(3), W(7), int64(7), opsets=17, onesided=o) for o in (0, 1)),
    case("STFT", x(2, 20, 1), int64(5), ABSENT, int64(8), opsets=17),
    case("STFT", x(2, 20, 2), int64(5), W(8), opsets=17, onesided=0),
    *(
        case(f"{name}Window", feed(n, int64), opsets=17, **more)
        for name in ("Hann", "Hamming", "Blackman")
        for n in (1, 8, 9)
        for more in ({}, {"periodic": int(n == 1)}, {"output_datatype": 11})
    ),
    *(
        case("MelWeightMatrix", int64(bands), feed(n, int64), int64(rate), *map(np.float32, edges), opsets=17)
        for bands, n, rate, edges in (
            (8, 64, 8192, (0, 4096)),
            (40, 512, 16000, (20, 8000)),
            (64, 400, 16000, (125, 7500)),
            (80, 400, 16000, (0, 8000)),
            (128, 2048, 22050, (0, 11025)),
        )
    ),
]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize("length", [ABSENT, int64(8), int64(7)])
def test_onesided_inverse_agrees_with_the_specification(length: Any, tmp_path: Path) -> None:
    one = case("DFT", x(2, 5, 2), length, opsets=20, inverse=1, onesided=1)
    (expected,) = ReferenceEvaluator(one.model(20)).run(None, one.feeds)
    feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
    found = torch_graph(one.model(20), tmp_path).values(feeds, ["y0"])["y0"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-5)


def test_log_mel_spectrogram(tmp_path: Path) -> None:
    """A whole front end as exporters write it: reflected margins, frames, power, mel bands, logarithm."""
    nodes = [
        helper.make_node("Pad", ["wave", "margin"], ["padded"], mode="reflect"),
        helper.make_node("Unsqueeze", ["padded", "last"], ["signal"]),
        helper.make_node("HannWindow", ["size"], ["hann"]),
        helper.make_node("STFT", ["signal", "hop", "hann", "size"], ["complex"]),
        helper.make_node("Mul", ["complex", "complex"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "last"], ["power"], keepdims=0),
        helper.make_node("MelWeightMatrix", ["bands", "size", "rate", "low", "high"], ["mel"]),
        helper.make_node("MatMul", ["power", "mel"], ["energies"]),
        helper.make_node("Max", ["energies", "floor"], ["above"]),
        helper.make_node("Log", ["above"], ["y"]),
    ]
    stored = {
        "margin": np.array([0, 16, 0, 16]),
        "last": np.array([-1]),
        "size": int64(32),
        "hop": int64(8),
        "bands": int64(6),
        "rate": int64(8000),
        "low": np.float32(50),
        "high": np.float32(3900),
        "floor": np.float32(1e-5),
    }
    feeds = {"wave": numbers(2, 100)}
    model = model_of(nodes, feeds, ["y"], {k: np.asarray(v) for k, v in stored.items()})
    compare(model, feeds, tmp_path)
    check_gradient(model, feeds, tmp_path)
