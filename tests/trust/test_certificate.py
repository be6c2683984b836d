"""The certificate: it passes on a sound graph, and names the first value that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import convlens
import convlens.trust.making
from convlens import cache
from convlens.errors import UncertifiedError, UnsupportedError
from convlens.model import Model
from convlens.trust import original
from convlens.trust.certificate import Certificate, _optimised, certify, random_input
from convlens.trust.checks import HALF_TOLERANCE, TOLERANCE, Check, compare
from convlens.trust.expected import Expected
from convlens.trust.original import held_against_file
from graph.nets import classifier, model, numbers, op, opened, put, refused


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONVLENS_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", "off")


def spoil(loaded: Model, value: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the PyTorch module that computes ``value`` wrong by a factor."""
    module = loaded.torch.module(value)
    assert module is not None
    sound = module.forward
    monkeypatch.setattr(module, "forward", lambda *inputs: sound(*inputs) * factor)


def test_a_sound_graph_passes(tmp_path: Path) -> None:
    certificate = opened(classifier(), tmp_path, mean=0.5, std=0.5).certificate()
    assert certificate.passed
    assert certificate.failures == ()
    values = {"conv1", "relu1", "pool", "flat", "logits"}
    assert {check.value for check in certificate.checks} == values
    # every value on both inputs, the output once more as onnxruntime optimises it, and once the file's own
    assert len(certificate.checks) == 2 * (len(values) + 1) + 1
    assert [name.split()[0] for name in certificate.inputs] == ["random", "photo"]
    summary = certificate.summary()
    assert summary["passed"] is True
    assert summary["values"] == 5
    assert summary["first_failure"] is None
    assert summary["worst"]["relative"] == max(check.relative for check in certificate.checks) <= TOLERANCE
    assert "agree at all 5 values" in certificate.words()


def test_without_a_card_the_random_input_is_enough(tmp_path: Path) -> None:
    certificate = opened(classifier(), tmp_path).certificate()
    assert certificate.passed
    assert certificate.inputs == ("random input (seed 0)",)


@pytest.mark.parametrize(("value", "kind"), [("conv1", "Conv"), ("relu1", "Relu"), ("logits", "Gemm")])
def test_a_wrong_operator_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, kind: str
) -> None:
    loaded = opened(classifier(), tmp_path)
    spoil(loaded, value, 1.001, monkeypatch)
    certificate = loaded.certificate()
    assert not certificate.passed
    assert certificate.failures[0].value == value
    # one part in a thousand, up to float32's own noise
    assert certificate.failures[0].relative == pytest.approx(1e-3, rel=1e-2)
    assert certificate.summary()["first_failure"] == value
    assert not certificate.worst.passed
    for words in (f"disagree from value '{value}' ({kind})", "1.0e-03", "random input", "allowed 1e-04"):
        assert words in certificate.words()


def test_an_error_below_the_tolerance_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = opened(classifier(), tmp_path)
    spoil(loaded, "conv1", 1 + TOLERANCE / 2, monkeypatch)
    assert loaded.certificate().passed


def test_uncertified_models_need_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = opened(classifier(), tmp_path)
    spoil(loaded, "conv1", 1.01, monkeypatch)
    with refused(UncertifiedError, "'conv1'", "convlens verify", "--allow-uncertified"):
        loaded.run("predict", numbers(1, 3, 8, 8))
    result = loaded.run("predict", numbers(1, 3, 8, 8), allow_uncertified=True)
    assert result.how["certificate"]["passed"] is False
    assert result.how["allow_uncertified"] is True


def test_a_bundled_model_passes_at_every_value() -> None:
    loaded = convlens.load("vgg16-conv4_1", device="cpu", size=64)
    certificate = loaded.certificate()
    assert certificate.passed
    computed = {name for node in loaded.graph.nodes for name in node.outputs}
    assert {check.value for check in certificate.checks} == computed
    assert len(certificate.inputs) == 2


def test_a_model_in_half_precision(tmp_path: Path) -> None:
    weights = {"w": numbers(4, 3, 3, 3).astype(np.float16)}
    proto = model([op("Conv", "x w", "y")], {"x": ["N", 3, 8, 8]}, ["y"], weights, TensorProto.FLOAT16)
    certificate = opened(proto, tmp_path, mean=0, std=1).certificate()
    assert certificate.passed
    assert len(certificate.inputs) == 2


def test_a_batch_that_is_written_into_the_graph(tmp_path: Path) -> None:
    nodes = [op("Relu", "x", "a"), op("Reshape", "a shape", "y")]
    proto = model(nodes, {"x": [2, 3, 8, 8]}, ["y"], {"shape": np.array([2, -1])})
    certificate = opened(proto, tmp_path, mean=0, std=1).certificate()
    assert certificate.passed
    assert len(certificate.inputs) == 2


def test_operators_that_pytorch_lacks(tmp_path: Path) -> None:
    proto = model([op("Conjure", "x", "y", domain="no.such")], {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]})
    proto.opset_import.add(domain="no.such", version=1)
    with refused(UnsupportedError, "no.such.Conjure"):
        opened(proto, tmp_path).certificate()


def compared(found: Any, expected: Any) -> Check:
    return compare("v", "Op", "input", np.asarray(found), np.asarray(expected), 1e-4)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("found", "expected", "passed", "relative"),
    [
        (np.float32([1, 2, 4]), np.float32([1, 2, 4]), True, 0.0),
        (np.float32([1, 2, 4.004]), np.float32([1, 2, 4]), False, 1e-3),
        (np.float32([1.0003, 4]), np.float32([1, 4]), True, 7.5e-5),  # against the largest number
        (np.float32([0, 0]), np.float32([0, 0]), True, 0.0),
        (np.float32([INF, 1]), np.float32([INF, 1]), True, 0.0),
        (np.float32([NAN, 1]), np.float32([NAN, 1]), True, 0.0),
        (np.float32([-INF, 1]), np.float32([INF, 1]), False, INF),
        (np.float32([NAN, 1]), np.float32([1, 1]), False, INF),
        (np.float32([1, 1]), np.float32([NAN, 1]), False, INF),
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), False, INF),
        (np.int64([1, 2, 3, 4]), np.int64([1, 2, 3, 4]), True, 0.0),
        (np.int64([1, 2, 3, 5]), np.int64([1, 2, 3, 4]), False, 0.25),
        (np.array([True, False]), np.array([True, True]), False, 0.5),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), True, 0.0),
    ],
)
def test_comparison(found: Any, expected: Any, passed: bool, relative: float) -> None:
    check = compared(found, expected)
    assert check.passed is passed
    assert check.relative == pytest.approx(relative, rel=1e-3)  # 4.004 in float32


def test_comparison_notes() -> None:
    assert "[2] in PyTorch, [3] in onnxruntime" in compared(np.zeros(2), np.zeros(3)).note
    assert "1 of 2 integers differ" in compared(np.int64([1, 2]), np.int64([1, 3])).note


def test_half_precision_has_its_own_tolerance() -> None:
    expected = np.ones(3, np.float16)
    assert compared(expected * np.float16(1 + HALF_TOLERANCE / 2), expected).passed
    assert not compared(expected * np.float16(1 + HALF_TOLERANCE * 2), expected).passed


def test_random_inputs_follow_the_file(tmp_path: Path) -> None:
    loaded = opened(model([op("Relu", "x", "y")], {"x": ["N", 3, "H", 20]}, ["y"]), tmp_path)
    feeds = random_input(loaded.graph, loaded.source, (10, 20), seed=3)
    assert feeds["x"].shape == (2, 3, 10, 20)
    assert feeds["x"].dtype == np.float32
    np.testing.assert_array_equal(feeds["x"], random_input(loaded.graph, loaded.source, (10, 20), 3)["x"])
    assert (feeds["x"] != random_input(loaded.graph, loaded.source, (10, 20), 4)["x"]).all()
    assert random_input(loaded.graph, loaded.source, None, 0)["x"].shape == (2, 3, 224, 20)


def test_random_bytes(tmp_path: Path) -> None:
    nodes = [op("Cast", "x", "y", to=TensorProto.FLOAT)]
    loaded = opened(model(nodes, {"x": [1, 9, 9, 3]}, ["y"], dtype=TensorProto.UINT8), tmp_path)
    found = random_input(loaded.graph, loaded.source, None, 0)["x"]
    assert found.dtype == np.uint8
    assert found.max() > 200


def test_record_and_restore(tmp_path: Path) -> None:
    before = opened(classifier(), tmp_path).certificate()
    assert Certificate.restore(before.record()) == before


def count_certifications(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    sound = convlens.trust.making.certify

    def counted(*given: Any, **how: Any) -> Certificate:
        made.append(1)
        return sound(*given, **how)

    monkeypatch.setattr("convlens.trust.making.certify", counted)
    return made


def test_certificates_are_kept(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", str(kept))
    made = count_certifications(monkeypatch)
    first = opened(classifier(), tmp_path).certificate()
    second = opened(classifier(), tmp_path).certificate()
    assert first == second
    assert len(made) == 1
    assert opened(classifier(), tmp_path).certificate(seed=1).passed
    assert opened(classifier(), tmp_path, mean=0, std=1).certificate().passed
    changed = classifier()
    changed.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(numbers(4, seed=9), "b1"))
    assert opened(changed, tmp_path).certificate().passed
    assert len(made) == 4


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", '"x"', "{}", '{"checks": []}', '{"checks": [{"value": "a"}], "inputs": []}'],
)
def test_a_damaged_record_is_made_again(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", str(kept))
    first = opened(classifier(), tmp_path).certificate()
    (path,) = (kept / "certificates").iterdir()
    path.write_text(text)
    assert opened(classifier(), tmp_path).certificate() == first
    assert Certificate.restore(cache.get("certificates", path.stem)) == first


def test_torch_stays_in_evaluation_mode(tmp_path: Path) -> None:
    loaded = opened(classifier(), tmp_path)
    loaded.certificate()
    assert not loaded.torch.training
    assert not any(parameter.requires_grad for parameter in loaded.torch.parameters())
    assert torch.is_grad_enabled()


def certified(loaded: Model, **feeds: Any) -> Certificate:
    """The certificate on one input."""
    return certify(loaded.torch, loaded.runner, {"given": feeds}, exact=lambda: loaded.instrument("float64"))


def respoiled(loaded: Model, value: str, change: Callable[[Any], Any]) -> None:
    """Make the step that computes ``value`` another function."""
    step = loaded.torch._step_of[value]
    sound = step.call
    object.__setattr__(step, "call", lambda *given: change(sound(*given)))


def choosing(tmp_path: Path) -> Model:
    """The row of the largest number is looked up: a choice that two equal numbers leave open."""
    nodes = [op("Mul", "x one", "m"), op("ArgMax", "m", "i", axis=1, keepdims=0), op("Gather", "rows i", "y")]
    stored = {"one": np.float32(1), "rows": numbers(4, 5)}
    return opened(model(nodes, {"x": ["N", 4]}, ["y"], stored), tmp_path)


def test_a_choice_between_equal_numbers_is_inherited(tmp_path: Path) -> None:
    loaded = choosing(tmp_path)
    respoiled(loaded, "m", lambda m: m + torch.tensor([0, 0, 1e-6, 0]))
    found = certified(loaded, x=np.float32([[0, 1, 1, 0], [1, 2, 3, 4]]))
    assert found.passed, found.words()
    notes = {check.value: check.note for check in found.checks if check.note}
    assert "here two numbers are equal up to rounding" in notes["i"]
    assert "at 'i' two numbers are equal up to rounding" in notes["y"]


def test_a_wrong_choice_is_caught(tmp_path: Path) -> None:
    loaded = choosing(tmp_path)
    respoiled(loaded, "i", lambda i: (i + 1) % 4)
    found = certified(loaded, x=np.float32([[0, 1, 1, 0], [1, 2, 3, 4]]))
    assert found.failures[0].value == "i"
    assert "2 of 2 integers differ" in found.words()


def test_values_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = opened(classifier(), tmp_path)
    whole = certified(loaded, image=numbers(2, 3, 8, 8))
    asked: list[int] = []
    sound = Expected.runs
    monkeypatch.setattr("convlens.trust.expected.PART", 2 * 4 * 64 * 4 + 1)  # one feature map of two images
    monkeypatch.setattr(Expected, "runs", lambda self, names: asked.append(len(names)) or sound(self, names))
    assert certified(loaded, image=numbers(2, 3, 8, 8)) == whole
    assert asked == [1, 1, 1, 3]  # the outputs as they are optimised, two maps, and the small rest


def test_a_value_that_onnxruntime_does_not_hand_out(tmp_path: Path) -> None:
    """Four-bit codes cannot be read; what is computed from them is compared."""
    nodes = [op("QuantizeLinear", "x s z", "q"), op("DequantizeLinear", "q s z", "y")]
    proto = model(nodes, {"x": ["N", 9]}, ["y"], {"s": np.float32(0.2)}, opset=21, ir_version=10)
    proto.graph.initializer.append(onnx.helper.make_tensor("z", TensorProto.INT4, [], [1]))
    found = certified(opened(proto, tmp_path), x=numbers(2, 9, low=-2, high=2))
    assert found.passed
    assert [check.value for check in found.checks if check.note.startswith("not compared itself")] == ["q"]
    assert "agree at all 1 values" in found.words()
    assert "1 that onnxruntime does not hand out" in found.words()


@pytest.mark.parametrize(("factor", "said"), [(1.0, False), (1.05, False), (1.5, True)])
def test_what_onnxruntimes_own_kernels_change_is_said(factor: float, said: bool) -> None:
    written = np.float32([1, 2, 3])
    check = _optimised(
        "y", "QLinearConv", "given, optimised", written * np.float32(factor), written, TOLERANCE
    )
    assert check.passed
    assert bool(check.note) is (factor != 1)
    plain = Check("y", "QLinearConv", "given", 0.0, 0.0, True)
    words = Certificate((plain, check), ("given",)).words()
    assert ("onnxruntime itself is 5.0e-01 away" in words) is said
    assert "the largest difference is 0.0e+00" in words


def rewritten(tmp_path: Path) -> Model:
    """A model whose constants are nodes, which a pass lifts."""
    nodes = [
        op("Constant", "", "w", value=onnx.numpy_helper.from_array(numbers(4, 3, 3, 3))),
        op("Conv", "x w", "y"),
    ]
    nodes[0].input.clear()
    return opened(model(nodes, {"x": ["N", 3, 8, 8]}, ["y"]), tmp_path)


def test_a_rewritten_graph_is_held_against_its_file(tmp_path: Path) -> None:
    loaded = rewritten(tmp_path)
    assert loaded.graph.changes
    (check,) = [c for c in loaded.certificate().checks if "file against normalised graph" in c.input]
    assert (check.value, check.passed, check.relative) == ("y", True, 0.0)


def test_a_pass_that_changes_what_is_computed_is_caught(tmp_path: Path) -> None:
    loaded = rewritten(tmp_path)
    nodes = [op("Conv", "x w", "y")]
    put(model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], {"w": numbers(4, 3, 3, 3, seed=1)}), tmp_path)
    (check,) = held_against_file(loaded.path, loaded.runner, "given", {"x": numbers(2, 3, 8, 8)})
    assert not check.passed
    assert "normalising the graph changed what it computes" in check.note


def test_a_file_that_onnxruntime_does_not_run_is_no_witness(tmp_path: Path) -> None:
    loaded = rewritten(tmp_path)
    loaded.path.write_bytes(b"nothing")
    (check,) = held_against_file(loaded.path, loaded.runner, "given", {"x": numbers(2, 3, 8, 8)})
    assert check.passed
    assert "not held against the file as it lies on disk: onnxruntime does not run it" in check.note


def test_the_batch_of_the_file_is_used(tmp_path: Path) -> None:
    loaded = rewritten(tmp_path)
    nodes = [op("Conv", "x w", "y")]
    put(model(nodes, {"x": [1, 3, 8, 8]}, ["y"], {"w": numbers(4, 3, 3, 3)}), tmp_path)
    (check,) = held_against_file(loaded.path, loaded.runner, "given", {"x": numbers(2, 3, 8, 8)})
    assert (check.passed, check.relative) == (True, 0.0)


def test_the_file_is_run_once_for_certificate_and_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_files = []
    session = original.file_session
    monkeypatch.setattr(original, "file_session", lambda *how: opened_files.append(how) or session(*how))
    loaded = rewritten(tmp_path)
    loaded.certificate()
    loaded.batching()
    assert [how[0] for how in opened_files] == [loaded.path]


def test_a_single_number_goes_into_the_file_without_an_axis(tmp_path: Path) -> None:
    proto = model([op("Mul", "x factor", "y")], {"x": ["N", 3, 8, 8], "factor": []}, ["y"])
    loaded = convlens.load(put(proto, tmp_path), feeds={"factor": 2.5})
    (check,) = loaded.against_file()
    assert (check.value, check.passed, check.note, check.relative) == ("y", True, "", 0.0)
