"""Rounding is told from wrong operators: where terms cancel, and where a range bounds the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import convlens
import convlens.trust.rounding
from convlens.model import Model
from convlens.trust.checks import TOLERANCE, Check, compare, least_magnitude
from convlens.trust.rounding import INHERITED, NOISE, ROUNDING_LIMIT, amplified, rounding
from graph.nets import model, op, opened


def cancelling(tmp_path: Path) -> Model:
    """The mean of 4,096 numbers less their own mean: zero, but for what float32 leaves of it."""
    nodes = [
        op("ReduceMean", "x", "mean", axes=[2, 3], keepdims=1),
        op("Sub", "x mean", "centred"),
        op("ReduceMean", "centred", "left", axes=[2, 3], keepdims=0),
    ]
    return opened(model(nodes, {"x": ["N", 3, 64, 64]}, ["left"], opset=13), tmp_path)


def reasons(
    loaded: Model, x: dict[str, NDArray[Any]], values: dict[str, NDArray[Any]], name: str, kind: str
) -> dict[str, str]:
    """What :func:`rounding` says of one value."""
    return rounding(
        loaded.torch, lambda: loaded.instrument("float64"), x, values, [name], {name: kind}, TOLERANCE
    )


def test_what_an_earlier_value_rounded_is_inherited(tmp_path: Path) -> None:
    """A product that is right for a factor that is not: the factor is to blame, not the product."""
    nodes = [op("Neg", "x", "minus"), op("Mul", "x minus", "y")]
    loaded = opened(model(nodes, {"x": ["N", 3, 4, 4]}, ["y"]), tmp_path)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)}
    off = -x["x"] * np.float32(1.001)
    assert "earlier" in reasons(loaded, x, {"minus": off, "y": x["x"] * off}, "y", "Mul")["y"]
    assert not reasons(loaded, x, {"minus": off, "y": x["x"] * off}, "minus", "Neg")


@pytest.mark.parametrize(("kind", "passed"), [("Round", True), ("Floor", True), ("Neg", False)])
def test_what_jumps_may_fall_to_either_side(tmp_path: Path, kind: str, passed: bool) -> None:
    """A half plus and minus rounding: the operator is right, and so is what follows it."""
    nodes = [op("Mul", "x w", "m"), op(kind, "m", "r"), op("Neg", "r", "y")]
    weights = {"w": np.ones(1, np.float32)}
    loaded = opened(model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], weights), tmp_path)
    checks = [Check(name, op_, "a", 1.0, 0.5, False) for name, op_ in (("r", kind), ("y", "Neg"))]
    told = convlens.trust.rounding.excused(checks, {"r": INHERITED, "y": INHERITED}, loaded.graph, ())
    assert [check.passed for check in told] == [passed, passed]


def test_what_cancels_is_rounding(tmp_path: Path) -> None:
    loaded = cancelling(tmp_path)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32) + 3}
    values = loaded.runner.run(x, ["mean", "centred", "left"])
    assert "cancel" in reasons(loaded, x, values, "left", "ReduceMean")["left"]


def test_what_is_nothing_but_rounding_has_no_relative_error(tmp_path: Path) -> None:
    """What is left of 4,096 numbers less their mean may be anything of the size of their last places."""
    loaded = cancelling(tmp_path)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32) + 3}
    values = loaded.runner.run(x, ["mean", "centred", "left"])
    exact = values["centred"].astype(np.float64).mean((2, 3))
    unit = 2.0**-24 * np.abs(values["centred"]).max()
    for off, excused in ((unit, True), (100 * unit, False)):
        told = reasons(loaded, x, {**values, "left": (exact + off).astype(np.float32)}, "left", "ReduceMean")
        assert ("left" in told) is excused
        assert all(reason.startswith(NOISE) for reason in told.values())


def test_the_certificate_does_not_count_what_is_nothing_but_rounding(tmp_path: Path) -> None:
    loaded = cancelling(tmp_path)
    certificate = loaded.certificate()
    assert certificate.passed
    assert any(check.relative > ROUNDING_LIMIT for check in certificate.checks if check.value == "left")
    assert certificate.worst.value != "left"
    assert "nothing but rounding" in certificate.words()


def chaotic(tmp_path: Path) -> Model:
    """Sines of large numbers, one after the other."""
    nodes = [op("Sin", "x", "a"), op("Mul", "a large", "b"), op("Sin", "b", "c"), op("Mul", "c large", "d")]
    nodes += [op("Sin", "d", "y")]
    return opened(model(nodes, {"x": ["N", 3, 4, 4]}, ["y"], {"large": np.array(3e3, np.float32)}), tmp_path)


def test_rounding_that_a_network_amplifies_is_held_against_float64(tmp_path: Path) -> None:
    """Sines of thousands lose all digits: any float32 is right that is no further off than PyTorch's own."""
    loaded = chaotic(tmp_path)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)}
    single, double = loaded.torch, loaded.instrument("float64")
    values = loaded.runner.run(x, ["y"])
    assert "amplified" in amplified(single, double, x, values)["y"]
    truth = np.sin(3e3 * np.sin(3e3 * np.sin(x["x"].astype(np.float64))))
    own = single.values({"x": torch.from_numpy(x["x"])}, ["y"])["y"].numpy()
    off = np.abs(own - truth).max()
    assert amplified(single, double, x, {"y": truth + 5 * off})
    assert not amplified(single, double, x, {"y": truth + 20 * off})


@pytest.mark.parametrize("wrong", [lambda v: v * 1.001, lambda v: v + 1e-3], ids=["factor", "offset"])
def test_what_is_wrong_is_no_rounding(
    tmp_path: Path, wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    loaded = opened(model([op("Mul", "x x", "y")], {"x": ["N", 3, 4, 4]}, ["y"]), tmp_path)
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)}
    assert not reasons(loaded, x, {"y": wrong(x["x"] ** 2)}, "y", "Mul")


@pytest.mark.parametrize(("error", "excused"), [(3e-7, True), (1e-6, False)], ids=["units", "more"])
def test_a_sigmoid_near_zero_is_as_good_as_its_range(tmp_path: Path, error: float, excused: bool) -> None:
    """A few units in the last place of 1 are 2.4e-7 (4 units are 4.8e-7), whatever the result is."""
    loaded = opened(model([op("Sigmoid", "x", "y")], {"x": ["N", 3, 4, 4]}, ["y"]), tmp_path)
    x = {"x": np.full((1, 3, 4, 4), -9, np.float32)}
    expected = {"y": 1 / (1 + np.exp(-x["x"].astype(np.float64))) + error}
    assert ("y" in reasons(loaded, x, expected, "y", "Sigmoid")) is excused


@pytest.mark.parametrize(("error", "passed"), [(3e-7, True), (2e-6, False)], ids=["units", "more"])
def test_the_magnitude_of_a_sigmoid_counts_as_that_of_its_range(
    tmp_path: Path, error: float, passed: bool
) -> None:
    """Also where the numbers were only moved since: everywhere near 0, and right to a few units of 1."""
    nodes = [op("Sigmoid", "x", "s"), op("Flatten", "s", "y"), op("Neg", "y", "z")]
    loaded = opened(model(nodes, {"x": ["N", 3, 4, 4]}, ["y", "z"]), tmp_path)
    for name in ("s", "y"):
        least = least_magnitude(loaded.graph, name)
        tiny = np.full((2, 4), 1e-7, np.float32)
        assert compare(name, "", "", tiny + np.float32(error), tiny, TOLERANCE, least=least).passed is passed
    assert least_magnitude(loaded.graph, "z") == 0


def test_the_certificate_says_what_it_put_down_to_rounding(tmp_path: Path) -> None:
    """Onnxruntime's sigmoid is coarse far below zero; what it and the product are off by carries a note."""
    nodes = [op("Add", "x low", "shifted"), op("Sigmoid", "shifted", "y"), op("Mul", "shifted y", "z")]
    loaded = opened(model(nodes, {"x": ["N", 3, 4, 4]}, ["z"], {"low": np.array(-12, np.float32)}), tmp_path)
    certificate = loaded.certificate()
    assert certificate.passed
    assert all(check.note for check in certificate.checks if check.relative > TOLERANCE)


def test_a_size_that_the_file_leaves_open_is_named(tmp_path: Path) -> None:
    """A model that takes 37 pixels only, which nobody would try, is not blamed: the size is asked for."""
    nodes = [op("Flatten", "x", "flat"), op("MatMul", "flat w", "y")]
    stored = {"w": np.ones((3 * 37 * 37, 2), np.float32)}
    proto = model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], stored)
    with pytest.raises(convlens.ConvLensError, match="give --size"):
        opened(proto, tmp_path).certificate()
    assert opened(proto, tmp_path, size=(37, 37)).certificate().passed
