"""Gradients in 16 bits: how near they are, what is said of them, what refuses, what float16 would lose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

import convlens
from convlens import registry
from convlens.errors import ParameterError
from convlens.instrument import halves
from convlens.instrument.gradients import input_gradient, unit_gradients
from convlens.instrument.session import Session
from convlens.instrument.several import input_gradients
from convlens.model import Model
from convlens.precision import Taken, in_use, taken
from reference import nets

ROUNDED = 2e-2
"""Relative: bfloat16 rounds by 2^-8, on the way forward and back through the few layers of these nets."""

ALIKE = 0.999
"""Cosine that goes with it."""

SHARP = 3e-3
"""Relative: float16 rounds by 2^-11, through the same layers."""

METHODS = {name: method for name, method in registry.methods().items() if method.gradients}
SIZE = (3, 12, 10)


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (5, 8), "b3": (5,)}
    return {
        name: (rng.normal(0, np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def smooth(end: str = "Softmax", factor: float = 1.0) -> Any:
    """conv - softplus - conv - softplus - mean - dense, its outputs times ``factor``, and ``end``."""
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["conv1"], pads=[1] * 4),
        helper.make_node("Softplus", ["conv1"], ["soft1"]),
        helper.make_node("Conv", ["soft1", "w2", "b2"], ["conv2"], strides=[2, 2]),
        helper.make_node("Softplus", ["conv2"], ["soft2"]),
        helper.make_node("GlobalAveragePool", ["soft2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["dense"], transB=1),
        helper.make_node("Mul", ["dense", "factor"], ["logits"]),
    ]
    if end:
        nodes.append(helper.make_node(end, ["logits"], ["out"]))
    stored = {**weights(), "factor": np.array([factor], np.float32)}
    return nets.model_of(nodes, {"input": ["N", *SIZE]}, ["out" if end else "logits"], stored)


def by_hand(x: NDArray[Any], column: int, probability: bool) -> NDArray[np.float64]:
    """The gradient of one score, in float64 and without anything of this project."""
    own = {name: torch.from_numpy(array).double() for name, array in weights().items()}
    given = torch.from_numpy(x).double().requires_grad_()
    one = F.softplus(F.conv2d(given, own["w1"], own["b1"], padding=1))
    two = F.softplus(F.conv2d(one, own["w2"], own["b2"], stride=2))
    logits = F.linear(two.mean((2, 3)), own["w3"], own["b3"])
    scores = logits.softmax(1) if probability else logits
    return np.asarray(torch.autograd.grad(scores[:, column].sum(), given)[0].numpy())


def near(found: NDArray[Any], true: NDArray[Any], share: float = ROUNDED, alike: float = ALIKE) -> None:
    one, other = (each.reshape(-1).astype(np.float64) for each in (found, true))
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    assert cosine > alike
    assert np.linalg.norm(one - other) < share * np.linalg.norm(other)


@pytest.fixture
def x() -> NDArray[np.float32]:
    return np.asarray(nets.pictures(0, 3, SIZE, np.float32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(nets.saved(smooth(), tmp_path))


@pytest.fixture
def low(path: Path) -> Model:
    return convlens.load(path, device="cpu", threads=1, precision="bfloat16")


@pytest.mark.parametrize(("spec", "probability"), [("out[2]", True), ("logits:2", False)])
def test_a_gradient_in_bfloat16_is_near_the_true_one(
    low: Model, x: NDArray[Any], spec: str, probability: bool
) -> None:
    target = low.target(spec)
    true = by_hand(x, 2, probability)
    with taken("bfloat16") as run:
        found, scores = input_gradient(low, x, target, "plain", 2)
        several, _ = input_gradients(low, x, [target], "plain", 2)
    exact, expected = input_gradient(low, x, target, "plain", 2)
    for gradient in (found, several[0]):
        assert gradient.dtype == np.float32
        near(gradient, true)
        assert np.abs(gradient - exact).max() > 0  # it was done in fewer bits
    np.testing.assert_allclose(scores, expected, rtol=0, atol=ROUNDED * np.abs(expected).max())
    cosine, share = run.worst or (0.0, 0.0)
    assert cosine == pytest.approx(_cosine(found[0], exact[0]), abs=1e-6)
    assert share == pytest.approx(np.linalg.norm(found[0] - exact[0]) / np.linalg.norm(exact[0]), rel=1e-3)
    near(exact, true, 1e-5, 1 - 1e-9)


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    a, b = (each.ravel().astype(np.float64) for each in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.lowers])
def test_methods_that_can_do_with_less_give_nearly_the_same_and_say_so(
    path: Path, low: Model, x: NDArray[Any], name: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"target": "logits:2"} if METHODS[name].target else {}
    if "layer" in METHODS[name].Parameters.model_fields:
        options["layer"] = "soft1"
    if name == "spikes":
        np.save(tmp_path / "other.npy", nets.pictures(5, 6, SIZE, np.float32)[0])
        for number, other in enumerate(nets.pictures(5, 6, SIZE, np.float32)):
            np.save(tmp_path / f"other{number}.npy", other)
        options["background"] = str(tmp_path)
    found = low.run(name, x, **options)
    full = convlens.load(path, device="cpu", threads=1).run(name, x, **options)
    assert "precision" not in full.how
    assert found.how["precision"] == "bfloat16"
    words = found.how["gradients"]
    assert words.startswith("taken in bfloat16 by autocast")
    assert re.search(r"by 0\.\d% on the first image \(cosine (0\.999\d|1\.0000)\)", words)
    assert found.how["certificate"] == full.how["certificate"]
    signals = [key for key in found.arrays if key in ("gradient", "signal", "map", "guided", found.main)]
    assert signals
    differing = 0
    for key in signals:
        if found.arrays[key].dtype.kind == "f":
            near(found.arrays[key], full.arrays[key])
            differing += bool((found.arrays[key] != full.arrays[key]).any())
    assert differing


@pytest.mark.parametrize(
    "name", [n for n, method in METHODS.items() if not method.lowers and method.recording != "must"]
)
def test_methods_that_need_every_bit_refuse(low: Model, x: NDArray[Any], name: str) -> None:
    with pytest.raises(ParameterError, match=f"^{name} takes its gradients in float32.*'bfloat16'.*float32$"):
        low.run(name, x if METHODS[name].images else None)


def test_what_takes_no_gradients_is_as_ever(path: Path, x: NDArray[Any]) -> None:
    runs = []
    for precision in ("bfloat16", "float32"):
        model = convlens.load(path, device="cpu", threads=1, precision=precision, kind="image")
        runs.append(model.run("occlusion", x[:1], "logits:2"))
        assert "precision" not in runs[-1].how
    for name, array in runs[1].arrays.items():
        np.testing.assert_array_equal(runs[0].arrays[name], array)


def test_float64_stays_float64(path: Path, low: Model, x: NDArray[Any]) -> None:
    found = low.run("saliency", x.astype(np.float64), "logits:2")
    full = convlens.load(path, device="cpu", threads=1).run("saliency", x.astype(np.float64), "logits:2")
    assert "precision" not in found.how
    np.testing.assert_array_equal(found.arrays["gradient"], full.arrays["gradient"])


def test_the_certificate_is_of_float32(path: Path, low: Model) -> None:
    with taken("bfloat16"):
        found = low.certificate()
    assert found.checks == convlens.load(path, device="cpu", threads=1).certificate().checks
    assert max(check.relative for check in found.checks) < 1e-5


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
def test_rules_hold_in_bfloat16(tmp_path: Path, rule: str) -> None:
    """A net of rectifiers and maxima, on inputs whose units keep their state."""
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1, device="cpu")
    x = nets.pictures(4, 16, (3, 11, 9), np.float32)
    names = ["conv1", "maxpool1", "conv2"]
    with Session(model.torch, rule, precision="bfloat16") as session:
        lower = session.run(x, names)
    with Session(model.torch, rule) as session:
        upper = session.run(x, names)
    kept = np.ones(len(x), bool)
    for name in ("conv1", "conv2"):
        same = (lower[name] > 0) == (upper[name] > 0)
        kept &= same.flatten(1).all(dim=1).numpy()
    places = [
        F.max_pool2d(each["conv1"].relu().float(), 2, return_indices=True)[1] for each in (lower, upper)
    ]
    kept &= (places[0] == places[1]).flatten(1).all(dim=1).numpy()
    assert kept.sum() >= 1
    full, _ = input_gradient(model, x, model.target(1), rule, 16)
    with taken("bfloat16"):
        found, _ = input_gradient(model, x, model.target(1), rule, 16)
    near(found[kept], full[kept])


def test_sensitive_operators_read_float32(low: Model, x: NDArray[Any]) -> None:
    seen = {}
    with low.session() as session:
        taps = {name: session.tap(name) for name in ("conv1", "soft1", "conv2", "dense", "logits")}
        taps["conv2"].replace(lambda value: value * 1)
        out = session(x)
        assert isinstance(out, torch.Tensor)
        signal, lost = session.gradient(out[:, 2], taps["conv2"].value)  # type: ignore[arg-type]
        for name, tap in taps.items():
            assert tap.value is not None
            seen[name] = tap.value.dtype
    assert seen["conv1"] == seen["conv2"] == seen["logits"] == torch.float32
    assert seen["dense"] == torch.bfloat16
    assert out.dtype == torch.float32
    assert signal is not None
    assert signal.dtype == torch.float32
    assert not lost.any()
    assert low.session(dtype="float64").precision == "float32"


def test_nothing_is_left_behind(low: Model, x: NDArray[Any]) -> None:
    before, _ = input_gradient(low, x, low.target("logits:2"), "plain", 3)
    low.run("saliency", x, "logits:2")
    assert in_use() == Taken()
    assert not torch.is_autocast_enabled("cpu")
    after, _ = input_gradient(low, x, low.target("logits:2"), "plain", 3)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("factor", [1e-9, 1e-5, 1.0, 1e7])
@pytest.mark.parametrize("rows", [1, 3])
def test_float16_keeps_gradients_of_any_size(
    tmp_path: Path, x: NDArray[Any], factor: float, rows: int
) -> None:
    model = convlens.load(nets.saved(smooth("", factor), tmp_path), device="cpu", threads=1)
    target, true = model.target("logits:2"), by_hand(x, 2, probability=False) * factor
    with taken("float16"):
        found, _ = input_gradient(model, x, target, "plain", rows)
        several, _ = input_gradients(model, x, [target, target], "plain", rows)
    near(found, true, SHARP)
    near(several[0], true, SHARP)
    np.testing.assert_array_equal(several[0], several[1])
    full, _ = input_gradient(model, x, target, "plain", rows)
    assert (found != full).any()


def test_without_scaling_float16_would_lose_them(tmp_path: Path, x: NDArray[Any]) -> None:
    model = convlens.load(nets.saved(smooth("", 1e-9), tmp_path), device="cpu", threads=1)
    with Session(model.torch, precision="float16") as session:
        out = session(x)
        assert isinstance(out, torch.Tensor)
        assert session.input is not None
        (bare,) = torch.autograd.grad(out[:, 2].sum(), session.input)
    assert not bare.any()


def test_a_row_in_float16_depends_on_no_other(tmp_path: Path, x: NDArray[Any]) -> None:
    model = convlens.load(nets.saved(smooth(""), tmp_path), device="cpu", threads=1)
    scores = torch.tensor([1e-9, 1.0, 1e7])

    def run(rows: list[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        with Session(model.torch, precision="float16") as session:
            out = session(x[rows])
            assert isinstance(out, torch.Tensor)
            assert session.input is not None
            found, lost = session.gradient(out[:, 2] * scores[rows], session.input)
            assert found is not None
            return found.numpy(), lost

    together, lost = run([0, 1, 2])
    assert not lost.any()
    near(together[0], by_hand(x, 2, probability=False)[0] * 1e-9, SHARP)
    for row in range(3):
        alone, _ = run([row])
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-3 * np.abs(alone).max())


def test_what_overflows_in_float16_is_taken_in_float32(tmp_path: Path, x: NDArray[Any]) -> None:
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"]),
        helper.make_node("Mul", ["conv", "small"], ["less"]),
        helper.make_node("Conv", ["less", "v"], ["again"]),
        helper.make_node("GlobalAveragePool", ["again"], ["out"]),
    ]
    rng = np.random.default_rng(0)
    stored = {
        "w": rng.normal(0, 1, (8, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 1, (4, 8, 3, 3)).astype(np.float32),
        "small": np.array(1e-3, np.float32),
    }
    file = nets.saved(nets.model_of(nodes, {"input": ["N", *SIZE]}, ["out"], stored), tmp_path)
    model = convlens.load(file, device="cpu", threads=1)
    x[1] *= 1e5
    target = model.target("out:2")
    full, scores = input_gradient(model, x, target, "plain", 3)
    units = np.array([[2, 0, 0]] * 3)
    wanted = unit_gradients(model, x, model["out"], units, "plain", 3)
    with taken("float16"):
        found, said = input_gradient(model, x, target, "plain", 3)
        several = unit_gradients(model, x, model["out"], units, "plain", 3)
    np.testing.assert_array_equal(found[1], full[1])
    np.testing.assert_allclose(several[1], wanted[1], rtol=0, atol=1e-6 * np.abs(wanted[1]).max())
    assert said[1] == scores[1]
    for row in (0, 2):
        assert (found[row] != full[row]).any()
        near(found[row], full[row], SHARP)
        near(several[row], wanted[row], SHARP)


def test_bfloat16_that_points_elsewhere_is_warned_of() -> None:
    run = Taken("bfloat16")
    run.compare(("a",), np.array([1.0, 0.05]), np.array([1.0, 0.0]))
    assert run.warning() is None
    run.compare(("b",), np.array([1.0, 1.0]), np.array([1.0, 0.0]))
    assert run.worst == pytest.approx((0.5**0.5, 1.0))
    assert "cosine 0.707" in (run.warning() or "")
    run.compare(("c",), np.zeros(2), np.zeros(2))
    assert run.found[("c",)] == (1.0, 0.0)


def test_what_is_no_precision_is_refused(path: Path) -> None:
    with pytest.raises(
        ParameterError, match="precision is 'half'; expected one of float32, float16, bfloat16"
    ):
        convlens.load(path, precision="half")
    with pytest.raises(ParameterError, match="'float16', which is for CUDA, and the model runs on the CPU"):
        convlens.load(path, device="cpu", precision="float16")


def test_models_that_cannot_do_with_less_are_refused(tmp_path: Path) -> None:
    stored = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8), **weights()}
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["real"]),
        helper.make_node("Conv", ["real", "w1", "b1"], ["out"]),
    ]
    file = nets.saved(nets.model_of(nodes, {"input": ["N", *SIZE]}, ["out"], stored), tmp_path)
    with pytest.raises(ParameterError, match="precision is 'bfloat16', but the model is quantised"):
        convlens.load(file, device="cpu", precision="bfloat16")
    info = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT16, ["N", *d])
        for n, d in (("input", SIZE), ("out", (8, 10, 8)))
    ]
    weight = numpy_helper.from_array(weights()["w1"].astype(np.float16), "w1")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w1"], ["out"])], "net", info[:1], info[1:], [weight]
    )
    half = helper.make_model(graph, opset_imports=[helper.make_opsetid("", nets.OPSET)], ir_version=9)
    with pytest.raises(ParameterError, match="but the file computes in float16 itself"):
        convlens.load(nets.saved(half, tmp_path, "half"), device="cpu", precision="bfloat16")


def test_every_sensitive_operator_is_one_that_is_known() -> None:
    from convlens import ops

    known = {entry.name.rpartition(".")[2] for entry in ops.known()} | {"Loop", "Scan", "If"}
    assert known >= halves.SENSITIVE
