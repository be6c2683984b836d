"""``If`` that hangs on data: both branches, what they capture, gradients, the certificate and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from convlens.errors import UnsupportedError
from convlens.graph.load import load_graph
from convlens.graph.unsound import unsound_weights
from convlens.instrument.build import TorchGraph
from convlens.trust.certificate import certify
from convlens.trust.inside import UNTRIED
from graph.held import ran, text
from graph.nets import numbers, opened, put, refused

POSITIVE = np.abs(numbers(2, 3)) + 0.1
ABOVE = "sum = ReduceSum <keepdims = 0> (x)  c = Greater(sum, none)"
W = {"w": numbers(3, 4, seed=2), "none": np.float32(0)}

PLAIN = f"""(float[N,3] x) => (float[N,4] y, float[N,4] z) {{ a = Tanh(x)  {ABOVE}
    y, k = If(c) <then_branch = p () => (float[N,4] m, float[N,4] n)
            {{ r = Mul(a, x)  m = MatMul(r, w)  n = Neg(m) }},
        else_branch = q () => (float[N,4] m, float[N,4] n)
            {{ r = Sub(a, x)  n = MatMul(r, w)  m = Exp(n) }}>
    z = Relu(k) }}"""

NESTED = f"""(float[N,3] x) => (float[N,4] y) {{ a = Tanh(x)  {ABOVE}
    y = If(c) <then_branch = p () => (float[N,4] m) <float one = {{1}}> {{
            b = Mul(a, a)  most = ReduceMax <keepdims = 0> (x)  d = Greater(most, one)
            m = If(d) <then_branch = r () => (float[N,4] i) {{ e = Add(b, x)  i = MatMul(e, w) }},
                       else_branch = s () => (float[N,4] j) {{ e = Sub(b, a)  j = MatMul(e, w) }}> }},
        else_branch = q () => (float[N,4] v) {{ v = MatMul(a, w) }}> }}"""


def both(source: str, folder: Path, *arrays: NDArray[np.float32]) -> TorchGraph:
    """The PyTorch graph, its outputs found equal to onnxruntime's on every one of ``arrays``."""
    path = put(text(source, W), folder)
    graph = TorchGraph(load_graph(path)[0])
    for array in arrays:
        names = list(graph.graph.outputs)
        found = graph.values({"x": torch.from_numpy(array)}, names)
        for name, wanted in zip(names, ran(path, {"x": array}, names), strict=True):
            np.testing.assert_allclose(found[name].numpy(), wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())
    return graph


def test_both_branches(tmp_path: Path) -> None:
    graph = both(PLAIN, tmp_path, POSITIVE, -POSITIVE)
    assert [b.node.outputs for b in graph.branchings()] == [("y", "k")]
    assert set(graph.branchings()[0].captures) == {"a", "x"}  # w is a constant


def test_branches_inside_of_branches(tmp_path: Path) -> None:
    both(NESTED, tmp_path, POSITIVE * 0.5, POSITIVE + 1, -POSITIVE)


def test_a_condition_from_the_number_of_images(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y) { s = Shape(x)
        zero = Constant <value_int = 0> ()  n = Gather <axis = 0> (s, zero)
        want = Constant <value_int = 2> ()  c = Equal(n, want)
        y = If(c) <then_branch = p () => (float[N,3] k) { k = Neg(x) },
                   else_branch = q () => (float[N,3] m) { m = Exp(x) }> }"""
    both(source, tmp_path, POSITIVE, POSITIVE[:1])
    assert not opened(text(source), tmp_path).batching().together


def test_branches_of_different_rank(tmp_path: Path) -> None:
    """As torch writes a squeeze; the file says the rank of one branch, and the last axis is another."""
    source = f"""(float[N,3] x) => (float y) {{ {ABOVE}  m = ReduceMean <axes = [1], keepdims = 1> (x)
        k = If(c) <then_branch = p () => (float[N] i) {{ i = Squeeze(m, axes) }},
                   else_branch = q () => (float[N,1] j) {{ j = Identity(m) }}>
        y = Softmax <axis = -1> (k) }}"""
    proto = text(source, {"none": np.float32(0), "axes": np.array([1])})
    path = put(proto, tmp_path)
    graph = TorchGraph(load_graph(path)[0])
    assert graph.graph.value("k").shape is None
    for array in (POSITIVE, -POSITIVE):
        [wanted] = ran(path, {"x": array}, ["y"])
        found = graph.values({"x": torch.from_numpy(array)}, ["y"])["y"]
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_what_both_branches_agree_on_is_known(tmp_path: Path) -> None:
    graph, _ = load_graph(put(text(PLAIN.replace("float[N,4] m", "float m"), W), tmp_path))
    assert graph.value("k").shape == ("N", 4)
    assert graph.value("k").dtype == "float32"


@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_are_those_of_the_branch_that_is_taken(sign: int, tmp_path: Path) -> None:
    graph = both(PLAIN, tmp_path)
    x = torch.from_numpy(sign * POSITIVE).requires_grad_()
    found = graph.values({"x": x}, ["y", "z"])
    (found["y"].sum() + found["z"].square().sum()).backward()
    twin = x.detach().clone().requires_grad_()
    a, w = torch.tanh(twin), torch.from_numpy(W["w"])
    if sign > 0:
        y = (a * twin) @ w
        z = torch.relu(-y)
    else:
        z = (a - twin) @ w
        y, z = torch.exp(z), torch.relu(z)
    (y.sum() + z.square().sum()).backward()
    assert x.grad is not None
    assert twin.grad is not None
    torch.testing.assert_close(x.grad, twin.grad)
    assert x.grad.abs().max() > 0


def test_a_rule_applies_inside(tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) {{ {ABOVE}
        y = If(c) <then_branch = p () => (float[N,3] k) {{ k = Relu(x) }},
                   else_branch = q () => (float[N,3] m) {{ m = Neg(x) }}> }}"""
    loaded = opened(text(source, {"none": np.float32(0)}), tmp_path)
    x = np.array([[3, -1, 2]], np.float32)
    gradients = {}
    for rule in ("plain", "deconvnet", "guided"):
        with loaded.session(rule) as session:
            (session(x) * torch.tensor([[1.0, 1.0, -1.0]])).sum().backward()
            assert session.input is not None
            assert session.input.grad is not None
            gradients[rule] = session.input.grad.tolist()
    # Relu passes by its input; deconvnet by the sign of the gradient; guided by both
    assert gradients == {"plain": [[1, 0, -1]], "deconvnet": [[1, 1, 0]], "guided": [[1, 0, 0]]}


def test_an_edit_outside_chooses_the_branch(tmp_path: Path) -> None:
    loaded = opened(text(PLAIN, W), tmp_path)
    with loaded.session() as session:
        session.tap("a").replace(lambda value: value * 0)
        found = session.run(POSITIVE, ["y"])["y"]
    assert not found.any()  # what goes into the product is the edited value


def test_the_certificate_holds_both_branches(tmp_path: Path) -> None:
    loaded = opened(text(NESTED, W), tmp_path)
    certificate = loaded.certificate()
    assert certificate.passed, certificate.words()
    seen = {check.value for check in certificate.checks}
    assert {"a", "y", "b", "d", "m", "i", "j", "v"} <= seen
    assert not any(check.note.startswith(UNTRIED) for check in certificate.checks)


@pytest.mark.parametrize("side", [0, 1])
def test_a_wrong_branch_is_caught_whichever_is_taken(side: int, tmp_path: Path) -> None:
    loaded = opened(text(PLAIN, W), tmp_path)
    graph = loaded.instrument()
    branch = graph.branchings()[0].branches[side]
    product = branch._step_of["m" if side == 0 else "n"]
    right = product.call
    object.__setattr__(product, "call", lambda *reads: right(*reads) * 1.01)
    for array in (POSITIVE, -POSITIVE):
        certificate = certify(graph, loaded.runner, {"given": {"x": array}})
        assert not certificate.passed
        inside = {check.value for check in certificate.failures if "_branch of y" in check.input}
        assert inside == {"m", "n"}


def test_a_branch_that_cannot_run_where_it_is_not_taken(tmp_path: Path) -> None:
    source = """(float[N,3] x) => (float[N,3] y, int64 z) <int64 zero = {0}, int64 most = {5}> {
        big = Abs(x)  n = NonZero(x)  s = Size(n)  t = Mul(s, zero)  c = Greater(s, t)
        y, z = If(c) <then_branch = p () => (float[N,3] k, int64 i) { k = Neg(x)  i = Identity(s) },
            else_branch = q () => (float[N,3] m, int64 j) { m = Exp(x)  j = Div(most, t) }> }"""
    certificate = opened(text(source), tmp_path).certificate()
    assert certificate.passed
    [untried] = [check for check in certificate.checks if check.note.startswith(UNTRIED)]
    assert untried.input.endswith("else_branch of y")
    assert "divides integers" in untried.note
    assert "1 branch that was not taken could not be tried" in certificate.words()


def test_images_run_one_by_one(tmp_path: Path) -> None:
    loaded = opened(text(PLAIN, W), tmp_path)
    found = loaded.batching()
    assert (found.free, found.together) == (False, False)
    assert "If node 'y' decides for all of them at once" in found.words()
    x = np.concatenate([POSITIVE, -POSITIVE])
    values = loaded.runner.run({"x": x}, ["y"], batch_size=4)["y"]
    for i in range(len(x)):
        [wanted] = ran(loaded.path, {"x": x[i : i + 1]}, ["y"])
        np.testing.assert_allclose(values[i : i + 1], wanted, atol=1e-6)
    together = loaded.run("saliency", x, target="y[:,1]", batch_size=4).array
    alone = [loaded.run("saliency", x[i : i + 1], target="y[:,1]").array for i in range(len(x))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_receptive_field_is_everything(tmp_path: Path) -> None:
    source = """(float[N,1,8] x) => (float[N,1,8] y) <float none = {0}> { a = Relu(x)
        sum = ReduceSum <keepdims = 0> (x)  c = Greater(sum, none)
        y = If(c) <then_branch = p () => (float[N,1,8] k) { k = Neg(a) },
                   else_branch = q () => (float[N,1,8] m) { m = Exp(a) }> }"""
    loaded = opened(text(source), tmp_path)
    before, after = loaded["a"].field, loaded["y"].field
    assert before is not None
    assert after is not None
    assert (before.size, after.size) == ((1,), (None,))


def test_quantised_values(tmp_path: Path) -> None:
    """Codes go in as they are outside; codes that come out would lose their gradient."""
    source = """(float[N,3] x) => (float[N,3] y) <float s = {0.02}, uint8 z = {128}, float none = {0}> {
        q = QuantizeLinear(x, s, z)  sum = ReduceSum <keepdims = 0> (x)  c = Greater(sum, none)
        y = If(c) <then_branch = p () => (float[N,3] k) { k = DequantizeLinear(q, s, z) },
                   else_branch = e () => (float[N,3] m) { t = DequantizeLinear(q, s, z)  m = Neg(t) }> }"""
    both(source, tmp_path, POSITIVE, -POSITIVE)
    loaded = opened(text(source), tmp_path)
    assert loaded.certificate().passed
    x = torch.from_numpy(POSITIVE).requires_grad_()
    loaded.torch.values({"x": x}, ["y"])["y"].sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()
    inside = """(float[N,3] x) => (uint8[N,3] y) <float s = {0.02}, uint8 z = {128}, float none = {0}> {
        sum = ReduceSum <keepdims = 0> (x)  c = Greater(sum, none)
        y = If(c) <then_branch = p () => (uint8[N,3] k) { k = QuantizeLinear(x, s, z) },
                   else_branch = e () => (uint8[N,3] m) { t = Neg(x)  m = QuantizeLinear(t, s, z) }> }"""
    with refused(UnsupportedError, "If", "'y'", "quantised"):
        opened(text(inside), tmp_path).instrument()


def test_an_operator_without_a_converter_is_refused_inside_too(tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) {{ {ABOVE}
        y = If(c) <then_branch = p () => (float[N,3] k) {{ k = Bernoulli(x) }},
                   else_branch = q () => (float[N,3] m) {{ m = Exp(x) }}> }}"""
    with refused(UnsupportedError, "Bernoulli"):
        opened(text(source, {"none": np.float32(0)}), tmp_path).instrument()


def test_weights_of_a_branch_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    source = f"""(float[N,3] x) => (float[N,3] y) {{ {ABOVE}
        y = If(c) <then_branch = p () => (float[N,3] k) <float[3] inside = {{1, 2, 3}}>
            {{ k = Mul(x, inside) }},
                   else_branch = q () => (float[N,3] m) {{ m = Mul(x, outside) }}> }}"""
    stored = {"none": np.float32(0), "outside": np.array([1, np.nan, np.nan], np.float32)}
    proto = text(source, stored)
    [branch] = [a.g for a in proto.graph.node[-1].attribute if a.name == "then_branch"]
    branch.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32([1, 2, np.nan]), "inside"))
    found = {one.name: one.nan for one in unsound_weights(load_graph(put(proto, tmp_path))[0])}
    assert found == {"inside": 1, "outside": 2}
