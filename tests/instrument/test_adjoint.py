"""What must hold for any graph: the backward pass is the transpose of the forward pass's derivative."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

import convlens
from convlens.instrument.build import TorchGraph
from reference import nets

ROUNDING = 1e-10
"""Relative: float64 sums of a few thousand terms."""

STEP = 1e-6
"""Of the central difference that stands for J v."""

DIFFERENCE = 1e-6
"""Relative to the size of the products: a hundred times what the step's rounding and curvature leave."""

EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

POINTWISE = ("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Identity")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Up to seven operators in a row, with skips that add, multiply or concatenate; 4 channels on 6 x 5."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    nodes, stored = [], {}
    value, shape, values = "input", (4, 6, 5), {"input": (4, 6, 5)}
    for index in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(("conv", "pointwise", "max", "mean", "skip", "norm", "gate")))
        new = f"v{index}"
        if kind == "conv":
            kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            pad = draw(st.integers(0, kernel - 1))
            sides = [(side + 2 * pad - kernel) // stride + 1 for side in shape[1:]]
            if min(sides) < 1:
                continue
            layer = nets.conv(rng, shape[0], 4, kernel)
            stored |= {f"{new}_w": layer.weight, f"{new}_b": layer.bias}
            attributes = {"strides": [stride] * 2, "pads": [pad] * 4}
            nodes.append(make_node("Conv", [value, f"{new}_w", f"{new}_b"], [new], **attributes))
            shape = (4, *sides)
        elif kind in ("max", "mean"):
            if min(shape[1:]) < 2:
                continue
            stride = draw(st.integers(1, 2))
            op = "MaxPool" if kind == "max" else "AveragePool"
            nodes.append(make_node(op, [value], [new], kernel_shape=[2, 2], strides=[stride] * 2))
            shape = (shape[0], *((side - 2) // stride + 1 for side in shape[1:]))
        elif kind == "skip":
            others = [name for name, held in values.items() if held == shape]
            other = draw(st.sampled_from(others))
            op = draw(st.sampled_from(("Add", "Mul", "Sub", "Concat")))
            if op == "Concat":
                nodes.append(make_node(op, [value, other], [new], axis=1))
                shape = (2 * shape[0], *shape[1:])
            else:
                nodes.append(make_node(op, [value, other], [new]))
        elif kind == "norm":
            numbers = rng.uniform(0.5, 1.5, (4, shape[0])).astype(np.float32)
            names = [f"{new}_{part}" for part in ("scale", "bias", "mean", "var")]
            stored |= dict(zip(names, numbers, strict=True))
            nodes.append(make_node("BatchNormalization", [value, *names], [new]))
        elif kind == "gate":
            nodes += [
                make_node("Sigmoid", [value], [f"{new}_s"]),
                make_node("Mul", [value, f"{new}_s"], [new]),
            ]
        else:
            nodes.append(make_node(draw(st.sampled_from(POINTWISE)), [value], [new]))
        value, values = new, values | {new: shape}
    if value == "input":
        nodes.append(make_node("Identity", ["input"], ["v"]))
        value = "v"
    return nets.model_of(nodes, {"input": ["N", 4, 6, 5]}, [value], stored)


def built(proto: onnx.ModelProto) -> TorchGraph:
    with TemporaryDirectory() as folder:
        return convlens.load(nets.saved(proto, Path(folder)), threads=1).instrument("float64")


def sent_back(graph: TorchGraph, x: torch.Tensor, signal: torch.Tensor, rule: str) -> torch.Tensor:
    with convlens.Session(graph, rule) as session:
        out = session(x)
        assert isinstance(out, torch.Tensor)
        out.backward(signal)
    assert session.input is not None
    assert session.input.grad is not None
    return session.input.grad


@EXAMPLES
@given(graphs(), st.integers(0, 2**16))
def test_the_backward_pass_is_the_transpose(proto: onnx.ModelProto, seed: int) -> None:
    """<J v, w> = <v, J' w>, with J v from two forward passes."""
    graph = built(proto)
    generator = torch.Generator().manual_seed(seed)
    x, v = (torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    pushed = (graph(x + STEP * v) - graph(x - STEP * v)) / (2 * STEP)
    w = torch.randn(pushed.shape, dtype=torch.float64, generator=generator)
    back = sent_back(graph, x, w, "plain")
    forward, backward = float((pushed * w).sum()), float((v * back).sum())
    size = float((pushed * w).abs().sum() + (v * back).abs().sum())
    assert abs(forward - backward) <= DIFFERENCE * size


@EXAMPLES
@given(graphs(), st.sampled_from(("plain", "guided", "deconvnet")), st.integers(0, 2**16))
def test_a_stronger_signal_comes_back_stronger(proto: onnx.ModelProto, rule: str, seed: int) -> None:
    """Every rule is positively homogeneous: 3 times the signal at the top is 3 times it at the input."""
    graph = built(proto)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=generator)
    w = torch.randn(graph(x).shape, dtype=torch.float64, generator=generator)
    once, thrice = sent_back(graph, x, w, rule), sent_back(graph, x, 3 * w, rule)
    scale = float(once.abs().max()) + 1e-300
    assert float((thrice - 3 * once).abs().max()) <= ROUNDING * scale


@EXAMPLES
@given(graphs(), st.integers(0, 2**16))
def test_plain_is_torchs_own_gradient(proto: onnx.ModelProto, seed: int) -> None:
    graph = built(proto)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=generator).requires_grad_()
    out = graph(x)
    w = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    (wanted,) = torch.autograd.grad(out, x, w)
    assert torch.equal(sent_back(graph, x.detach(), w, "plain"), wanted)
