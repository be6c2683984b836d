"""Every kind of rectifier: found as one, and the signal through it equal to the table's formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.helper import make_node

import convlens
from convlens.errors import ParameterError
from convlens.graph.rectifiers import Rectifier, find_rectifiers
from convlens.instrument.rules import RULES, rule
from convlens.model import Model
from reference import nets

Function: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]

STEP = 1e-6
"""Of the central difference: the error is some 1e-10, half from the cube of the step, half from rounding."""

DRIFT = 1e-8
"""Of the signal, for slopes from that difference."""

VALUE = 1e-10
"""Of the value itself: torch takes softplus for a straight line from 20 on, which is off by 2e-9."""

KINK = 1e-3
"""Numbers this near to a corner of the function are left out: a difference across it is no slope."""

SHAPE = (2, 4, 5)


@dataclass(frozen=True)
class Kind:
    """One rectifier: how a file writes it between the values ``pre`` and ``act``, and what it computes."""

    name: str
    nodes: tuple[NodeProto, ...]
    function: Function
    stored: dict[str, NDArray[Any]]
    kinks: tuple[float, ...] = ()
    opset: int = 18


def node(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return make_node(op, inputs.split(), [output], **attributes)


def scalar(value: float) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)


def single(op: str, function: Function, *kinks: float, opset: int = 18, **attributes: Any) -> Kind:
    return Kind(op, (node(op, "pre", "act", **attributes),), function, {}, kinks, opset)


erfs = np.vectorize(erf)
ROOT = float(np.float32(2**0.5))
TANH_ROOT = float(np.float32((2 / np.pi) ** 0.5))
CUBE = float(np.float32(0.044715))
# stored slopes, one a channel: a leak, and one that sends what is negative up again
SLOPES = np.array([0.25, -0.5], np.float32)
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def hard_swish(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x * np.clip(x + 3, 0, 6) / 6)


def tanh_gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * x * (1 + np.tanh(TANH_ROOT * (x + CUBE * x**3))))


def mish(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x * np.tanh(np.log1p(np.exp(x))))


CLIP = {"low": scalar(0), "high": scalar(6)}
TANH = {"cube": scalar(0.044715), "root": scalar((2 / np.pi) ** 0.5), "one": scalar(1), "half": scalar(0.5)}
GELU = {"root": scalar(2**0.5), "one": scalar(1), "half": scalar(0.5)}
HARD = {"three": scalar(3), "zero": scalar(0), "six": scalar(6)}

KINDS = (
    single("Relu", lambda x: np.maximum(x, 0), 0),
    Kind("Clip", (node("Clip", "pre low high", "act"),), lambda x: np.clip(x, 0, 6), CLIP, (0, 6)),
    Kind(
        "Clip-attributes",
        (node("Clip", "pre", "act", min=0.0, max=6.0),),
        lambda x: np.clip(x, 0, 6),
        {},
        (0, 6),
        10,
    ),
    single("LeakyRelu", lambda x: np.where(x > 0, x, np.float32(0.1) * x), 0, alpha=0.1),
    Kind(
        "PRelu",
        (node("PRelu", "pre slope", "act"),),
        lambda x: np.where(x > 0, x, SLOPES[:, None, None].astype(np.float64) * x),
        {"slope": SLOPES[:, None, None]},
        (0,),
    ),
    single("Elu", lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)), 0, alpha=1.5),
    single("Selu", lambda x: SELU_GAMMA * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)), 0),
    single("Celu", lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2)), 0, alpha=2.0),
    single("Softplus", lambda x: np.log1p(np.exp(x))),
    single("ThresholdedRelu", lambda x: np.where(x > 0.5, x, 0), 0.5, alpha=0.5),
    single("Gelu", lambda x: 0.5 * x * (1 + erfs(x / 2**0.5)), opset=20),
    Kind(
        "Gelu-erf",
        (
            node("Div", "pre root", "scaled"),
            node("Erf", "scaled", "erf"),
            node("Add", "erf one", "plus"),
            node("Mul", "pre plus", "product"),
            node("Mul", "product half", "act"),
        ),
        lambda x: 0.5 * x * (1 + erfs(x / ROOT)),
        GELU,
    ),
    Kind(
        "Gelu-erf-half-first",
        (
            node("Div", "pre root", "scaled"),
            node("Erf", "scaled", "erf"),
            node("Add", "erf one", "plus"),
            node("Mul", "pre half", "halved"),
            node("Mul", "halved plus", "act"),
        ),
        lambda x: 0.5 * x * (1 + erfs(x / ROOT)),
        GELU,
    ),
    Kind(
        "Gelu-tanh",
        (
            node("Mul", "pre pre", "square"),
            node("Mul", "square pre", "cubed"),
            node("Mul", "cubed cube", "small"),
            node("Add", "pre small", "inner"),
            node("Mul", "inner root", "scaled"),
            node("Tanh", "scaled", "tanh"),
            node("Add", "tanh one", "plus"),
            node("Mul", "pre plus", "product"),
            node("Mul", "product half", "act"),
        ),
        tanh_gelu,
        TANH,
    ),
    Kind(
        "Gelu-tanh-pow",
        (
            node("Pow", "pre three", "cubed"),
            node("Mul", "cube cubed", "small"),
            node("Add", "pre small", "inner"),
            node("Mul", "root inner", "scaled"),
            node("Tanh", "scaled", "tanh"),
            node("Add", "one tanh", "plus"),
            node("Mul", "half pre", "halved"),
            node("Mul", "halved plus", "act"),
        ),
        tanh_gelu,
        TANH | {"three": scalar(3)},
    ),
    Kind(
        "SiLU", (node("Sigmoid", "pre", "gate"), node("Mul", "pre gate", "act")), lambda x: x * sigmoid(x), {}
    ),
    Kind(
        "QuickGelu",
        (
            node("Mul", "pre rate", "scaled"),
            node("Sigmoid", "scaled", "gate"),
            node("Mul", "gate pre", "act"),
        ),
        lambda x: x * sigmoid(float(np.float32(1.702)) * x),
        {"rate": scalar(1.702)},
    ),
    single("HardSwish", hard_swish, -3, 3, opset=14),
    Kind(
        "HardSwish-parts",
        (
            node("Add", "pre three", "moved"),
            node("Clip", "moved zero six", "clipped"),
            node("Mul", "pre clipped", "product"),
            node("Div", "product six", "act"),
        ),
        hard_swish,
        HARD,
        (-3, 3),
    ),
    Kind(
        "HardSwish-sigmoid",
        (node("HardSigmoid", "pre", "gate", alpha=1 / 6, beta=0.5), node("Mul", "pre gate", "act")),
        lambda x: x * np.clip(x * float(np.float32(1 / 6)) + 0.5, 0, 1),
        {},
        (-3, 3),
    ),
    single("Mish", mish),
    Kind(
        "Mish-parts",
        (node("Softplus", "pre", "soft"), node("Tanh", "soft", "gate"), node("Mul", "pre gate", "act")),
        mish,
        {},
    ),
)

BY_NAME = {kind.name: kind for kind in KINDS}


def built(kind: Kind, folder: Path) -> Model:
    """conv - the rectifier - conv; the first one's value is ``pre``, the rectifier's ``act``."""
    rng = np.random.default_rng(4)
    first, second = nets.conv(rng, 3, 2, 1), nets.conv(rng, 2, 3, 2)
    stored = {"w1": first.weight * 3, "b1": first.bias, "w2": second.weight, "b2": second.bias}
    nodes = [node("Conv", "input w1 b1", "pre"), *kind.nodes, node("Conv", "act w2 b2", "out")]
    dims = {"input": ["N", 3, *SHAPE[1:]]}
    model = nets.model_of(nodes, dims, ["out"], stored | kind.stored, max(kind.opset, 9))
    return convlens.load(nets.saved(model, folder), threads=1)


def slope(function: Function, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """f'(x) by central difference."""
    return (function(x + STEP) - function(x - STEP)) / (2 * STEP)


def sent_back(name: str, signal: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
    """The table of the rules, formula by formula."""
    if name == "plain":
        return signal * slope
    if name == "redirected":
        return signal * slope + np.where(np.abs(slope) < 1e-6, np.maximum(signal, 0), 0)
    if name == "deconvnet":
        return np.where(signal > 0, signal, 0)
    return np.where(signal > 0, signal, 0) * np.where(slope > 0, slope, 0)


def inputs() -> NDArray[np.float64]:
    """Wide enough that every stretch of every function is met."""
    return np.random.default_rng(8).normal(0, 2.5, (6, 3, *SHAPE[1:]))


def through(model: Model, rule: str, signal: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """``pre``, ``act``, and what arrives at ``pre`` when ``signal`` arrives at ``act``."""
    with model.session(rule=rule, dtype="float64") as session:
        tap = session.tap("pre")
        act = session.run(inputs(), ["act"])["act"]
        act.backward(torch.from_numpy(signal))
    assert tap.value is not None
    assert tap.gradient is not None
    return tap.value.detach().numpy(), act.detach().numpy(), tap.gradient.numpy()


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_one_rectifier_is_found_with_its_source(kind: Kind, tmp_path: Path) -> None:
    model = built(kind, tmp_path)
    found = find_rectifiers(model.graph)
    assert list(found) == ["act"]
    assert found["act"].source == "pre"
    assert found["act"].output == "act"
    assert {n.outputs[0] for n in found["act"].nodes} == {n.output[0] for n in kind.nodes}
    assert model["act"].kind == "rectifier"
    assert [layer.name for layer in model.layers.of_kind("rectifier")] == ["act"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_signal_equals_the_table(kind: Kind, tmp_path: Path) -> None:
    model = built(kind, tmp_path)
    signal = np.random.default_rng(9).normal(0, 1, (6, *SHAPE))
    for name in RULES:
        pre, act, found = through(model, name, signal)
        np.testing.assert_allclose(act, kind.function(pre), rtol=0, atol=VALUE * np.abs(act).max())
        smooth = np.all([np.abs(pre - kink) > KINK for kink in kind.kinks] or [pre == pre], axis=0)
        assert smooth.mean() > 0.9
        wanted = sent_back(name, signal, slope(kind.function, pre))
        drift = np.abs(found - wanted)[smooth].max() / np.abs(wanted).max()
        assert drift < DRIFT, f"{name} through {kind.name}: {drift:.1e} of the largest signal"


@pytest.mark.parametrize("name", ["Gelu", "SiLU", "HardSwish-parts", "Mish", "PRelu"])
def test_guided_lets_no_sign_change_through(name: str, tmp_path: Path) -> None:
    """Where the unit falls as its input rises, plain turns the signal round and guided stops it."""
    model = built(BY_NAME[name], tmp_path)
    signal = np.abs(np.random.default_rng(9).normal(0, 1, (6, *SHAPE)))
    assert (through(model, "plain", signal)[2] < 0).any()
    assert (through(model, "guided", signal)[2] >= 0).all()
    np.testing.assert_array_equal(through(model, "deconvnet", signal)[2], signal)


def test_guided_keeps_a_positive_leak(tmp_path: Path) -> None:
    model = built(BY_NAME["LeakyRelu"], tmp_path)
    pre, _, found = through(model, "guided", np.ones((6, *SHAPE)))
    np.testing.assert_allclose(found[pre < 0], float(np.float32(0.1)), rtol=1e-7)  # alpha is a float32


def test_deconvnet_knows_no_upper_bound(tmp_path: Path) -> None:
    model = built(BY_NAME["Clip"], tmp_path)
    ones = np.ones((6, *SHAPE))
    for name, passed in (("plain", 0.0), ("guided", 0.0), ("deconvnet", 1.0)):
        pre, _, found = through(model, name, ones)
        assert (pre > 6).any()
        assert (found[pre > 6] == passed).all(), name


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_forward_pass_is_the_same_under_every_rule(kind: Kind, tmp_path: Path) -> None:
    model = built(kind, tmp_path)
    outputs = []
    for name in RULES:
        with model.session(rule=name) as session:
            outputs.append(session(inputs()).detach())
    with torch.no_grad():
        outputs.append(model.torch(model.torch.working(inputs(), model.source.name)))
    for output in outputs[1:]:
        assert torch.equal(output, outputs[0])


def test_a_rectified_value_that_is_read_twice(tmp_path: Path) -> None:
    """A skip connection from ``act`` and one around it: the rule applies to the rectified branch alone."""
    stored = {"w1": nets.conv(np.random.default_rng(0), 3, 3, 1).weight * 2}
    nodes = [
        node("Conv", "input w1", "pre"),
        node("Sigmoid", "pre", "gate"),
        node("Mul", "pre gate", "act"),
        node("Add", "act pre", "out"),
    ]
    model = convlens.load(
        nets.saved(nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["out"], stored), tmp_path), threads=1
    )
    signal = np.random.default_rng(1).normal(0, 1, (6, 3, 4, 5))
    with model.session(rule="guided", dtype="float64") as session:
        pre = session.tap("pre")
        session.run(inputs(), ["out"])["out"].backward(torch.from_numpy(signal))
    assert pre.value is not None
    assert pre.gradient is not None
    slopes = slope(lambda x: x * sigmoid(x), pre.value.detach().numpy())
    wanted = signal + sent_back("guided", signal, slopes)
    np.testing.assert_allclose(pre.gradient.numpy(), wanted, atol=DRIFT * np.abs(wanted).max())


def test_a_slope_that_is_computed(tmp_path: Path) -> None:
    """A PRelu whose slope depends on the image: a number as far as the rectifier is concerned."""
    stored = {"w": nets.conv(np.random.default_rng(0), 3, 2, 1).weight * 3}
    nodes = [
        node("Conv", "input w", "pre"),
        node("GlobalAveragePool", "pre", "average"),
        node("Tanh", "average", "slope"),
        node("PRelu", "pre slope", "act"),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 3, *SHAPE[1:]]}, ["act"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    signal = np.random.default_rng(9).normal(0, 1, (6, *SHAPE))
    for name in ("deconvnet", "guided"):
        pre, act, found = through(model, name, signal)
        slopes = np.tanh(pre.mean(axis=(2, 3), keepdims=True))
        np.testing.assert_allclose(act, np.where(pre > 0, pre, slopes * pre), atol=VALUE * np.abs(act).max())
        wanted = sent_back(name, signal, np.where(pre > 0, 1, slopes))
        np.testing.assert_allclose(found, wanted, atol=DRIFT * np.abs(wanted).max())


def gates(squash: str) -> dict[str, list[NodeProto]]:
    """Products with a squashed value that are no rectifier: the two factors are not the same value's."""
    excite = [
        node("Conv", "input w1", "pre"),
        node("Relu", "pre", "act"),
        node("GlobalAveragePool", "act", "pooled"),
        node("Conv", "pooled w2", "excite"),
        node(squash, "excite", "gate"),
        node("Mul", "act gate", "out"),
    ]
    linear = [
        node("Conv", "input w1", "act"),
        node("Conv", "input w2", "other"),
        node(squash, "other", "gate"),
        node("Mul", "act gate", "out"),
    ]
    spread = [
        node("Conv", "input w1", "act"),
        node("AveragePool", "act", "near", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node(squash, "near", "gate"),
        node("Mul", "gate act", "out"),
    ]
    return {"squeeze-excite": excite, "linear-unit": linear, "attention": spread}


@pytest.mark.parametrize("squash", ["Sigmoid", "HardSigmoid", "Tanh"])
@pytest.mark.parametrize("which", ["squeeze-excite", "linear-unit", "attention"])
def test_a_gate_of_another_value_is_no_rectifier(which: str, squash: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    stored = {"w1": nets.conv(rng, 3, 3, 1).weight, "w2": nets.conv(rng, 3, 3, 1).weight}
    nodes = gates(squash)[which]
    proto = nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["out"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    assert set(find_rectifiers(model.graph)) == ({"act"} if which == "squeeze-excite" else set())
    # the gate's own branch carries signal under every rule: nothing is cut off at the product
    for name in RULES:
        with model.session(rule=name, dtype="float64") as session:
            gate = session.tap("gate")
            session.run(inputs(), ["out"])["out"].sum().backward()
        assert gate.gradient is not None
        assert gate.gradient.abs().max() > 0


def test_a_squeeze_and_excite_gate_after_a_silu(tmp_path: Path) -> None:
    """As in EfficientNet: the SiLUs are rectifiers, the excitation is none."""
    rng = np.random.default_rng(2)
    stored = {f"w{i}": nets.conv(rng, 3, 3, 1).weight for i in range(3)}
    nodes = [
        node("Conv", "input w0", "pre"),
        node("Sigmoid", "pre", "s0"),
        node("Mul", "pre s0", "act"),
        node("GlobalAveragePool", "act", "pooled"),
        node("Conv", "pooled w1", "squeeze"),
        node("Sigmoid", "squeeze", "s1"),
        node("Mul", "squeeze s1", "squeezed"),
        node("Conv", "squeezed w2", "excite"),
        node("Sigmoid", "excite", "gate"),
        node("Mul", "act gate", "out"),
    ]
    proto = nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["out"], stored)
    found = find_rectifiers(convlens.load(nets.saved(proto, tmp_path)).graph)
    assert {name: one.source for name, one in found.items()} == {"act": "pre", "squeezed": "squeeze"}


def test_a_gate_behind_a_rectifier_starts_there(tmp_path: Path) -> None:
    """A SiLU on a ReLU6's value: the clip is a rectifier of its own, not a part of the gate."""
    nodes = [
        node("Conv", "input w", "pre"),
        node("Clip", "pre low high", "clipped"),
        node("Sigmoid", "clipped", "s"),
        node("Mul", "clipped s", "out"),
    ]
    stored = {
        "w": nets.conv(np.random.default_rng(0), 3, 3, 1).weight,
        "low": np.float32(0),
        "high": np.float32(6),
    }
    proto = nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["out"], stored)
    found = find_rectifiers(convlens.load(nets.saved(proto, tmp_path)).graph)
    assert {name: one.source for name, one in found.items()} == {"clipped": "pre", "out": "clipped"}


def test_two_rectifiers_in_a_row_are_two(tmp_path: Path) -> None:
    """One SiLU on the other's value: the second one's source is the first one's value."""
    nodes = [
        node("Conv", "input w", "pre"),
        node("Sigmoid", "pre", "s0"),
        node("Mul", "pre s0", "first"),
        node("Sigmoid", "first", "s1"),
        node("Mul", "first s1", "second"),
    ]
    stored = {"w": nets.conv(np.random.default_rng(0), 3, 3, 1).weight}
    proto = nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["second"], stored)
    found = find_rectifiers(convlens.load(nets.saved(proto, tmp_path)).graph)
    assert {name: one.source for name, one in found.items()} == {"first": "pre", "second": "first"}


@pytest.mark.parametrize("low", [-1.0, 0.5])
def test_a_clip_from_elsewhere_is_no_rectifier(low: float, tmp_path: Path) -> None:
    nodes = [node("Conv", "input w", "pre"), node("Clip", "pre low high", "out")]
    stored = {
        "w": nets.conv(np.random.default_rng(0), 3, 3, 1).weight,
        "low": scalar(low),
        "high": scalar(2),
    }
    proto = nets.model_of(nodes, {"input": ["N", 3, 4, 5]}, ["out"], stored)
    assert find_rectifiers(convlens.load(nets.saved(proto, tmp_path)).graph) == {}


def test_a_rectifier_says_what_it_is(tmp_path: Path) -> None:
    found = find_rectifiers(built(BY_NAME["SiLU"], tmp_path).graph)["act"]
    assert isinstance(found, Rectifier)
    assert found.name == "Sigmoid x Mul"


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="known: plain, deconvnet, guided, redirected"):
        rule("smooth")
    with pytest.raises(ParameterError, match="smooth"):
        built(BY_NAME["Relu"], tmp_path).session(rule="smooth")
