"""A pass that changes more than it declares is caught, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from convlens.graph import passes
from convlens.graph.passes.contract import Aspect, PassError, changes, run
from graph.held import text
from graph.nets import classifier, numbers


def taken(source: str = "") -> ir.Model:
    """A small classifier, or ``source``, as the passes get it."""
    return ir.serde.deserialize_model(text(source) if source else classifier())


def node_named(model: ir.Model, output: str) -> ir.Node:
    return next(node for node in model.graph if node.outputs[0].name == output)


def drop_node(model: ir.Model) -> None:
    relu = node_named(model, "relu1")
    relu.outputs[0].replace_all_uses_with(node_named(model, "conv1").outputs[0])
    model.graph.remove(relu)


def change_attribute(model: ir.Model) -> None:
    node_named(model, "conv1").attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 0, 0])


def rewire(model: ir.Model) -> None:
    node_named(model, "pool").replace_input_with(0, node_named(model, "conv1").outputs[0])


def reverse(model: ir.Model) -> None:
    model.graph.extend(reversed(list(model.graph)))


def new_weights(model: ir.Model) -> None:
    model.graph.initializers["w1"].const_value = ir.tensor(numbers(4, 3, 3, 3, seed=5), name="w1")


def new_input_name(model: ir.Model) -> None:
    model.graph.inputs[0].name = "picture"


def new_shape(model: ir.Model) -> None:
    model.graph.inputs[0].shape = ir.Shape([1, 3, 8, 8])


def new_opset(model: ir.Model) -> None:
    model.opset_imports[""] = 18


def new_version(model: ir.Model) -> None:
    model.ir_version = 9


def new_output_name(model: ir.Model) -> None:
    model.graph.outputs[0].name = "scores"


def other_output(model: ir.Model) -> None:
    model.graph.outputs[0] = node_named(model, "flat").outputs[0]


def inside_a_branch(model: ir.Model) -> None:
    branch = next(node for node in model.graph if node.op_type == "If").attributes["then_branch"].as_graph()
    node = next(iter(branch))
    branch.insert_after(node, [ir.node("Neg", [node.outputs[0]])])


DOINGS: list[tuple[Callable[[ir.Model], None], str]] = [
    (drop_node, "nodes"),
    (change_attribute, "nodes"),
    (rewire, "nodes"),
    (reverse, "order"),
    (new_weights, "weights"),
    (new_input_name, "inputs"),
    (new_shape, "shapes"),
    (new_opset, "opsets"),
    (new_version, "ir_version"),
]


@pytest.mark.parametrize(("doing", "aspect"), DOINGS, ids=lambda d: getattr(d, "__name__", d))
def test_what_is_not_declared_is_an_error(doing: Callable[[ir.Model], None], aspect: str) -> None:
    with pytest.raises(PassError, match=rf"pass {doing.__name__} changed .*{aspect}"):
        run(taken(), [changes("something")(doing)])


@pytest.mark.parametrize(("doing", "aspect"), DOINGS, ids=lambda d: getattr(d, "__name__", d))
def test_what_is_declared_is_done(doing: Callable[[ir.Model], None], aspect: Aspect) -> None:
    declared: tuple[Aspect, ...] = (aspect, "nodes") if aspect == "inputs" else (aspect,)
    assert run(taken(), [changes("done", *declared)(doing)]) == ("done",)


@pytest.mark.parametrize("doing", [new_output_name, other_output], ids=lambda d: d.__name__)
def test_outputs_can_never_be_declared(doing: Callable[[ir.Model], None]) -> None:
    every = changes(
        "all", "nodes", "order", "weights", "inputs", "shapes", "opsets", "ir_version", "functions"
    )
    with pytest.raises(PassError, match="outputs"):
        run(taken(), [every(doing)])


def test_a_value_that_stays_keeps_its_name() -> None:
    def rename(model: ir.Model) -> None:
        node_named(model, "relu1").outputs[0].name = "rectified"

    with pytest.raises(PassError, match="renamed"):
        run(taken(), [changes("renamed", "nodes")(rename)])


def test_an_output_that_nothing_computes_is_caught() -> None:
    def lose(model: ir.Model) -> None:
        model.graph.remove(node_named(model, "logits"))

    with pytest.raises(PassError, match="logits"):
        run(taken(), [changes("lost", "nodes")(lose)])


def test_changes_inside_subgraphs_are_seen() -> None:
    source = """(float[N,3] x, bool c) => (float[N,3] y) { y = If(c)
        <then_branch = t () => (float[N,3] a) { a = Neg(x) },
         else_branch = e () => (float[N,3] b) { b = Abs(x) }> }"""
    with pytest.raises(PassError, match="nodes"):
        run(taken(source), [changes("something")(inside_a_branch)])


def test_a_pass_without_work_is_not_run_and_not_named() -> None:
    def never(model: ir.Model) -> None:
        raise AssertionError

    def idle(model: ir.Model) -> None:
        del model

    steps = [changes("never", when=lambda _model, _kinds: False)(never), changes("idle", "nodes")(idle)]
    assert run(taken(), steps) == ()


def test_every_pass_says_what_it_does() -> None:
    assert len({step.name for step in passes.ALL}) == len(passes.ALL)
    for step in passes.ALL:
        assert step.done
        assert step.may
        assert step.apply.__doc__


def test_changes_are_on_the_graph(tmp_path: Path) -> None:
    from graph.held import held

    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    source = "(float[N,3] x) => (float[N,3] y) { c = Constant <value_float = 2.0> ()  y = Mul(x, c) }"
    assert held(text(source), tmp_path, {"x": x}).changes == ("Constant nodes made weights",)
    assert held(text("(float[N,3] x) => (float[N,3] y) { y = Neg(x) }"), tmp_path, {"x": x}).changes == ()
