"""Sizes of values without a forward: as onnxruntime's, or not told at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import convlens
from convlens.errors import UnsupportedError
from convlens.runtime.incremental.changes import Changes
from convlens.runtime.incremental.costs import estimates
from convlens.runtime.incremental.hidden import Told, probe
from convlens.runtime.incremental.outline import outlined
from convlens.runtime.incremental.probing import Probing
from reference import nets
from reference.others import Maker
from reference.random_graphs import Net


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), axes=st.sampled_from([1, 2, 2, 3]), steps=st.integers(1, 9))
def test_sizes_are_those_of_the_clean_image(seed: int, axes: int, steps: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(seed)
    proto, names = Net(rng, axes, {1: 40, 2: 17, 3: 9}[axes]).model(steps)
    kind = {1: "signal", 2: "image", 3: "volume"}[axes]
    path = nets.saved(proto, tmp_path, f"net{seed}-{axes}-{steps}")
    model = convlens.load(path, device="cpu", threads=1, kind=kind)
    source = model.source
    image = rng.normal(0, 1, (1, *source.shape[1:])).astype(np.float32)  # type: ignore[index]
    found = outlined(model.graph, names, source.name, image)
    if found is None:
        assert any(node.op == "Shape" for node in model.graph.nodes)
        return
    try:
        real = model.runner.run({source.name: image}, list(found))
    except UnsupportedError:  # ONNX and onnxruntime do not agree on all sizes of pooling that rounds up
        assume(False)
    assert {n: (v.shape, v.dtype) for n, v in found.items()} == {
        n: (v.shape, v.dtype) for n, v in real.items()
    }
    starts, sides = np.zeros((4, axes), np.int64), (2,) * axes
    given = [model.runner, source.name, source.axes, image, starts, sides, lambda rows: rows, names]
    without, forward = Probing(*given, values=found), Probing(*given)  # type: ignore[arg-type]
    np.testing.assert_array_equal(estimates(without), estimates(forward))


def gated(tmp_path: Path, side: int | str = 64) -> convlens.Model:
    """Squeeze and excitation right behind the first convolution: hardly anything can be windowed."""
    m = Maker()
    m.conv("x", "stem", 8, 3, 3, 3, strides=[2, 2])
    m.add("GlobalAveragePool", "stem_relu", "squeezed")
    m.weight("gate_w", 8, 8, 1, 1)
    m.add("Conv", "squeezed gate_w", "gate")
    m.add("Sigmoid", "gate", "open")
    m.add("Mul", "stem_relu open", "gated")
    m.conv("gated", "deep", 32, 8, 3, 3)
    m.conv("deep_relu", "deeper", 32, 32, 3, 3)
    path = nets.saved(m.model(["N", 3, side, side], m.scores("deeper_relu", 32, 4)), tmp_path)
    return convlens.load(path, device="cpu", threads=1, kind="image")


@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_gain_costs_no_forward(
    tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, passes = gated(tmp_path, 64 if known else "side"), []
    clean = Probing._clean_pass
    monkeypatch.setattr(Probing, "_clean_pass", lambda *told: passes.append(1) or clean(*told))
    image = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    starts = np.stack(np.meshgrid(range(0, 56, 8), range(0, 56, 8)), -1).reshape(-1, 2)
    changes = Changes(starts, (8, 8), lambda rows: np.zeros((len(rows), 3, 8, 8), np.float32))
    told = Told()
    list(probe(model.runner, "x", (2, 3), image, changes, ["scores"], 4, "auto", told))
    assert told.way == "dense"
    assert "too little to gain" in told.why
    assert len(passes) == (0 if known else 1)


def test_sizes_that_are_computed_with_are_not_told(tmp_path: Path) -> None:
    m = Maker()
    m.conv("x", "one", 4, 3, 3, 3)
    m.add("Shape", "one_relu", "sizes")
    m.add("Reshape", "one_relu sizes", "same")
    path = nets.saved(m.model(["N", 3, 8, 8], m.scores("same", 4, 2)), tmp_path)
    model = convlens.load(path, device="cpu", threads=1, kind="image")
    image = np.zeros((1, 3, 8, 8), np.float32)
    assert outlined(model.graph, ["one_relu"], "x", image) is not None
    assert outlined(model.graph, ["scores"], "x", image) is None
