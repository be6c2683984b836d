"""Sessions: what taps see and change, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convlens
from convlens.errors import LayerError, UnsupportedError
from convlens.instrument.build import ACTIVE
from convlens.model import Model
from reference import nets

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)

PLANS = "_plans"
"""Which steps a set of values needs, kept from call to call; it says nothing about any session."""

ROUNDING = 1e-12
"""Relative, where two float64 computations take the same steps in another order."""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), threads=1)


@pytest.fixture
def x() -> Tensor:
    return torch.from_numpy(nets.pictures(0, 3, (3, 11, 9), np.float32))


def trace(module: nn.Module, x: Tensor) -> dict[str, Any]:
    """Everything that could be left behind, in a form that can be compared."""
    found: dict[str, Any] = {"active": ACTIVE.get()}
    for name, part in module.named_modules():
        found[f"{name} hooks"] = {hook: dict(getattr(part, hook)) for hook in HOOKS}
        found[f"{name} keys"] = set(part.__dict__)
        found[f"{name} values"] = {
            key: value
            for key, value in part.__dict__.items()
            if key != PLANS and isinstance(value, (int, float, str, bool, tuple, frozenset, type(None)))
        }
        found[f"{name} ids"] = {key: id(value) for key, value in part.__dict__.items()}
        found[f"{name} training"] = part.training
    found["state"] = {key: value.clone() for key, value in module.state_dict().items()}
    found["grads"] = {name: (p.requires_grad, p.grad) for name, p in module.named_parameters()}
    with torch.no_grad():
        found["output"] = module(x).clone()
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if key == "state":
            assert value.keys() == other[key].keys()
            assert all(torch.equal(array, other[key][name]) for name, array in value.items())
        elif key == "output":
            assert torch.equal(value, other[key])
        else:
            assert value == other[key], key
    return True


def use(model: Model, x: Tensor) -> None:
    with model.session(rule="guided") as session:
        session.tap("relu1")
        session.tap("conv2").replace(lambda value: value * 0)
        out = session(x)
        assert isinstance(out, Tensor)
        out.sum().backward()


def use_and_fail(model: Model, x: Tensor) -> None:
    def work() -> None:
        with model.session(rule="deconvnet") as session:
            session.tap("relu1").replace(torch.zeros(3, 5, 11, 9))
            session(x)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def fail_inside_the_graph(model: Model, x: Tensor) -> None:
    with model.session() as session:
        session.tap("relu1").replace(torch.zeros(3, 7, 11, 9))  # two channels too many for conv2
        with pytest.raises(UnsupportedError, match=r"Conv node 'conv2' failed in PyTorch"):
            session(x)


def use_nested(model: Model, x: Tensor) -> None:
    with model.session(rule="guided"), model.session(rule="deconvnet") as inner:
        inner.run(x, ["conv2"])["conv2"].sum().backward()


def explain(model: Model, x: Tensor) -> None:
    for rule in ("plain", "guided", "deconvnet"):
        model.run("saliency", x.numpy(), 1, rule=rule)


@pytest.mark.parametrize(
    "work", [use, use_and_fail, fail_inside_the_graph, use_nested, explain], ids=lambda f: f.__name__
)
def test_no_trace_is_left(work: Callable[[Model, Tensor], None], model: Model, x: Tensor) -> None:
    before = trace(model.torch, x)
    given = x.clone()
    work(model, x)
    assert same(trace(model.torch, x), before)
    assert torch.equal(x, given)
    assert not x.requires_grad
    assert x.grad is None


def test_a_rule_ends_with_its_block(model: Model, x: Tensor) -> None:
    def gradient() -> Tensor:
        given = x.clone().requires_grad_()
        model.torch(given)[:, 1].sum().backward()
        assert given.grad is not None
        return given.grad

    plain = gradient()
    with model.session(rule="guided"):
        assert not torch.equal(gradient(), plain)
    assert torch.equal(gradient(), plain)


def test_the_innermost_session_applies(model: Model, x: Tensor) -> None:
    def under(*rules: str) -> Tensor:
        with model.session(rule=rules[0]):
            if len(rules) > 1:
                return under(*rules[1:])
            given = x.clone().requires_grad_()
            model.torch(given)[:, 1].sum().backward()
            assert given.grad is not None
            return given.grad

    alone = {rule: under(rule) for rule in ("plain", "guided", "deconvnet")}
    for outer in alone:
        for inner, wanted in alone.items():
            assert torch.equal(under(outer, inner), wanted)
    assert ACTIVE.get() == ()


def test_an_outer_session_applies_again_after_an_inner_one(model: Model, x: Tensor) -> None:
    with model.session() as outer:
        tap = outer.tap("conv2").replace(lambda value: value * 0)
        with model.session() as inner:
            changed = inner(x)
        silent = model.torch(x)
        assert tap.value is not None
        assert tap.value.abs().max() == 0
    assert isinstance(changed, Tensor)
    assert torch.equal(changed, model.torch(x))
    assert not torch.equal(silent, changed)


def test_sessions_on_two_models_do_not_meet(model: Model, x: Tensor, tmp_path: Path) -> None:
    other = convlens.load(nets.saved(nets.classifier(9).onnx(), tmp_path, "other"), threads=1)
    plain = other.torch(x)
    with model.session() as session:
        tap = session.tap("relu1").replace(lambda value: value * 0)
        assert torch.equal(other.torch(x), plain)
        assert tap.value is None


def test_closing_twice_is_harmless(model: Model) -> None:
    session = model.session()
    with model.session(), session:
        session.__exit__(None, None, None)
        assert len(ACTIVE.get()) == 1
    assert ACTIVE.get() == ()


def test_a_session_can_be_entered_again(model: Model, x: Tensor) -> None:
    session = model.session()
    tap = session.tap("conv1")
    for _ in range(2):
        with session:
            tap.value = None
            session(x)
            assert tap.value is not None
    assert ACTIVE.get() == ()


def test_a_session_entered_inside_itself_is_left_too(model: Model, x: Tensor) -> None:
    session = model.session(rule="guided")
    with session:
        with session:
            assert len(ACTIVE.get()) == 2
        assert len(ACTIVE.get()) == 1
    assert ACTIVE.get() == ()


def by_hand(net: nets.Net, x: Tensor) -> dict[str, Tensor]:
    """Every layer's value with torch's own functions, ready for autograd."""
    values = {}
    for name, layer in zip(net.names, net.layers, strict=True):
        if isinstance(layer, nets.Conv):
            weight, bias = torch.from_numpy(layer.weight).double(), torch.from_numpy(layer.bias).double()
            x = nn.functional.conv2d(x, weight, bias, layer.stride, layer.pad)
        elif isinstance(layer, nets.Relu):
            x = x.clamp(min=0)
        elif isinstance(layer, nets.MaxPool):
            x = nn.functional.max_pool2d(x, layer.kernel, layer.stride)
        else:
            weight, bias = torch.from_numpy(layer.weight).double(), torch.from_numpy(layer.bias).double()
            x = x.flatten(1) @ weight.T + bias
        x.retain_grad()
        values[name] = x
    return values


@pytest.mark.parametrize("name", nets.classifier(0).names)
def test_a_tap_sees_value_and_gradient(name: str, model: Model, x: Tensor) -> None:
    values = by_hand(nets.classifier(0), x.double().requires_grad_())
    values["dense1"][:, 2].sum().backward()
    with model.session(dtype="float64") as session:
        tap = session.tap(name)
        assert tap.gradient is None
        out = session(x)
        assert tap.gradient is None
        assert isinstance(out, Tensor)
        out[:, 2].sum().backward()
    assert tap.value is not None
    assert tap.gradient is not None
    wanted = values[name].grad
    assert wanted is not None
    torch.testing.assert_close(tap.value, values[name], rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(tap.gradient, wanted, rtol=ROUNDING, atol=ROUNDING)


def test_the_inputs_gradient(model: Model, x: Tensor) -> None:
    given = x.double().requires_grad_()
    by_hand(nets.classifier(0), given)["dense1"][:, 2].sum().backward()
    assert given.grad is not None
    with model.session(dtype="float64") as session:
        tap = session.tap("input")
        out = session(x)
        assert isinstance(out, Tensor)
        out[:, 2].sum().backward()
    assert session.input is not None
    assert session.input.grad is not None
    torch.testing.assert_close(session.input.grad, given.grad, rtol=ROUNDING, atol=ROUNDING)
    assert tap.gradient is session.input.grad


def test_a_tap_forgets_what_the_last_run_did_not_need(model: Model, x: Tensor) -> None:
    with model.session() as session:
        low, high = session.tap("conv1"), session.tap("relu2")
        session(x)
        assert high.value is not None
        session.run(x.flip(0), ["relu1"])
    assert high.value is None
    assert high.gradient is None
    assert low.value is not None
    assert torch.equal(low.value[2], model.torch.values({"input": x}, ["conv1"])["conv1"][0])


def test_tapping_twice_gives_the_same_tap(model: Model) -> None:
    with model.session() as session:
        assert session.tap("conv1") is session.tap("conv1")


def test_a_tensor_takes_a_values_place(model: Model, x: Tensor) -> None:
    new = torch.from_numpy(nets.pictures(5, 3, (5, 11, 9), np.float32))
    with model.session() as session:
        tap = session.tap("conv1").replace(new)
        below = session.tap("relu1")
        out = session(x)
    assert tap.value is new
    assert below.value is not None
    assert torch.equal(below.value, new.clamp(min=0))
    assert isinstance(out, Tensor)
    assert not torch.equal(out, model.torch(x))


def test_a_function_takes_a_values_place(model: Model, x: Tensor) -> None:
    net = nets.classifier(0)
    given = x.double().requires_grad_()
    values = by_hand(net, given)

    def silence(value: Tensor) -> Tensor:
        keep = torch.ones(value.shape[1], dtype=value.dtype)
        keep[3] = 0
        return value * keep[:, None, None]

    rest = nets.Net((5, 11, 9), net.layers[2:])
    edited = by_hand(rest, silence(values["relu1"]))["dense1"]
    edited[:, 0].sum().backward()
    with model.session(dtype="float64") as session:
        tap = session.tap("relu1").replace(silence)
        out = session(x)
        assert isinstance(out, Tensor)
        out[:, 0].sum().backward()
    torch.testing.assert_close(out, edited, rtol=ROUNDING, atol=ROUNDING)
    assert tap.value is not None
    assert tap.value[:, 3].abs().max() == 0
    assert session.input is not None
    assert given.grad is not None
    assert session.input.grad is not None
    torch.testing.assert_close(session.input.grad, given.grad, rtol=ROUNDING, atol=ROUNDING)


def test_replacing_the_input(model: Model, x: Tensor) -> None:
    with model.session() as session:
        session.tap("input").replace(lambda value: value.flip(3))
        out = session(x)
    assert isinstance(out, Tensor)
    assert torch.equal(out, model.torch(x.flip(3)))


def test_an_unknown_tap_names_the_nearest(model: Model) -> None:
    with (
        model.session() as session,
        pytest.raises(LayerError, match=r"no value 'conv3'; nearest: .*'conv[12]'"),
    ):
        session.tap("conv3")
    assert session.taps == {}


def test_an_alias_taps_the_value_behind_it(tmp_path: Path) -> None:
    net = nets.classifier(0)
    proto = net.onnx()
    for node in proto.graph.node:  # names as torch's exporter writes them
        node.output[:] = [f"/features/{name}_output_0" if name == "relu1" else name for name in node.output]
        node.input[:] = [f"/features/{name}_output_0" if name == "relu1" else name for name in node.input]
    del proto.graph.value_info[:]
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    alias = model["/features/relu1_output_0"].alias
    assert alias != "/features/relu1_output_0"
    with model.session() as session:
        tap = session.tap(alias)
        assert tap.name == "/features/relu1_output_0"
        found = session.run(nets.pictures(0, 2, net.shape), [alias])
    assert found["/features/relu1_output_0"] is tap.value


def test_an_array_goes_in_like_a_tensor(model: Model, x: Tensor) -> None:
    with model.session() as session:
        one, other = session(x), session(x.numpy())
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    assert torch.equal(one, other)


def test_no_grad_around_a_session_does_not_reach_into_it(model: Model, x: Tensor) -> None:
    with torch.no_grad(), model.session() as session:
        out = session(x)
    assert isinstance(out, Tensor)
    assert out.requires_grad
