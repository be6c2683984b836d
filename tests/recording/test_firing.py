"""Which channels never, always or hardly ever fire: a net with planted ones, held against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

import convlens
from convlens import registry
from convlens.errors import LayerError
from convlens.model import Model
from convlens.recording.channels.firing import (
    ALWAYS,
    CONSTANT,
    HARDLY,
    NEVER,
    SATURATED,
    STATES,
    UNSOUND,
    USUAL,
    Ends,
    firing_of,
    unseen,
)
from convlens.recording.tallies import Tally
from convlens.results import Result
from reference import nets
from reference.recorded import recorded

COUNT, SIDE = 40, 6
WEIGHT = np.array([1, -1, 0, 0, 1, 1, 1], np.float32)
"""Seven channels of one input plane: usual, never, constant, never again, always, hardly, far above 6."""
BIAS = np.array([-0.5, -1, 0.25, -0.1, 0.1, -2, 20], np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firing")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    """The same seven channels behind a Relu, a Clip from 0 to 6, a LeakyRelu and a Sigmoid."""
    stored = {
        "w": WEIGHT.reshape(-1, 1, 1, 1),
        "b": BIAS,
        "low": np.float32(0).reshape(()),
        "high": np.float32(6).reshape(()),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["before"]),
        helper.make_node("Relu", ["before"], ["relu"]),
        helper.make_node("Clip", ["before", "low", "high"], ["clip"]),
        helper.make_node("LeakyRelu", ["before"], ["leaky"], alpha=0.125),
        helper.make_node("Sigmoid", ["before"], ["sigmoid"]),
        helper.make_node("Sum", ["relu", "clip", "leaky", "sigmoid"], ["y"]),
    ]
    proto = nets.model_of(nodes, {"x": ["N", 1, SIDE, SIDE]}, ["y"], stored)
    return convlens.load(nets.saved(proto, root, "seven"), threads=1)


def inputs() -> NDArray[np.float32]:
    """From 0 to 1, and 3 at one place of the first two images, which the sixth channel waits for."""
    x = np.random.default_rng(0).uniform(0, 1, (COUNT, 1, SIDE, SIDE)).astype(np.float32)
    x[:2, 0, 1, 1] = 3.0
    return x


@pytest.fixture(scope="module")
def result(model: Model, root: Path) -> Result:
    found = recorded(model, inputs(), root / "recordings", layers=("relu", "clip", "leaky", "sigmoid"))
    return model.run("dead", recording=found, rare=0.05)


def layer(result: Result, name: str, array: str) -> NDArray[np.float64]:
    return result.arrays[array][result.arrays["layer"] == ["relu", "clip", "leaky", "sigmoid"].index(name)]


def test_planted_channels_are_found(result: Result) -> None:
    assert layer(result, "relu", "state").tolist() == [USUAL, NEVER, CONSTANT, NEVER, ALWAYS, HARDLY, ALWAYS]
    clip = [USUAL, NEVER, CONSTANT, NEVER, ALWAYS, HARDLY, SATURATED]
    assert layer(result, "clip", "state").tolist() == clip
    leaky = [
        USUAL,
        NEVER,
        CONSTANT,
        NEVER,
        USUAL,
        HARDLY,
        USUAL,
    ]  # it never closes, and says nothing of "always"
    assert layer(result, "leaky", "state").tolist() == leaky
    sigmoid = [USUAL, USUAL, CONSTANT, CONSTANT, USUAL, USUAL, SATURATED]
    assert layer(result, "sigmoid", "state").tolist() == sigmoid
    counted = {"never": 2, "hardly": 1, "always": 1, "saturated": 1, "constant": 1, "unsound": 0}
    assert {name: result.rows[1][name] for name in counted} == counted
    assert (result.rows[1]["layer"], result.rows[1]["images"]) == ("clip", COUNT)


def test_numbers_are_those_of_numpy(result: Result) -> None:
    before = inputs().astype(np.float64) * WEIGHT[:, None, None] + BIAS[:, None, None]
    truth = {
        "relu": np.maximum(before, 0),
        "clip": np.clip(before, 0, 6),
        "leaky": np.where(before > 0, before, before / 8),
        "sigmoid": 1 / (1 + np.exp(-before)),
    }
    for name, value in truth.items():
        most = value.max(axis=(2, 3))
        np.testing.assert_allclose(layer(result, name, "on"), (value != 0).mean(axis=(0, 2, 3)))
        np.testing.assert_allclose(layer(result, name, "fires"), (most > 0).mean(axis=0))
        np.testing.assert_allclose(layer(result, name, "mean"), value.mean(axis=(0, 2, 3)), rtol=1e-5)
        spread = value.std(axis=(0, 2, 3))
        np.testing.assert_allclose(layer(result, name, "deviation"), spread, rtol=1e-4, atol=3e-6)
        np.testing.assert_allclose(layer(result, name, "largest"), np.maximum(most, most.max(0)).max(0), 1e-6)
        assert (layer(result, name, "images") == COUNT).all()
        assert not layer(result, name, "unsound").any()
    assert layer(result, "clip", "peaks").tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert layer(result, "relu", "peaks").tolist() == [0] * 7


def test_findings_say_what_they_rest_on(result: Result, model: Model, root: Path) -> None:
    found = {finding.text: finding for finding in registry.method("dead").findings(result)}
    assert "6 of 28 channels never fire." in found
    never = found["6 of 28 channels never fire."]
    assert "relu 2 of 7 (1, 3), clip 2 of 7, leaky 2 of 7" in never.evidence
    assert "40 images, so others may do otherwise on up to 7.2 % of all" in never.evidence
    assert never.level == "note", "40 images leave more than one image of twenty open"
    many = recorded(model, np.concatenate([inputs(), inputs()]), root / "recordings", layers=("relu",))
    sure = registry.method("dead").findings(model.run("dead", recording=many))
    assert [finding.level for finding in sure if "never fire" in finding.text] == ["attention"]


def test_layers_are_asked_for_by_name(model: Model, root: Path) -> None:
    found = recorded(model, inputs(), root / "recordings", layers=("relu", "clip"))
    assert [row["layer"] for row in model.run("dead", recording=found, layers=("clip",)).rows] == ["clip"]
    with pytest.raises(LayerError, match="layer 'leaky' was not recorded"):
        model.run("dead", recording=found, layers=("leaky",))


def test_values_that_are_no_numbers() -> None:
    """One channel that never had a number, one that lacks it on one image of three."""
    tally = Tally.nothing(2)
    tally.images[:] = 3
    tally.unsound[:] = [3, 1]
    tally.values[:], tally.mean[:], tally.spread[:] = [0, 2], [0, 1], [0, 2]
    tally.most[1] = 2.0
    tally.histogram[1, -20] = 2
    found = firing_of(tally, Ends(True, True, 6.0), 0.01)
    assert found.state.tolist() == [UNSOUND, ALWAYS]
    assert found.images.tolist() == [0, 2]
    for name in ("fires", "on", "peaks", "mean", "deviation", "q99", "largest"):
        assert np.isfinite(getattr(found, name)).all(), name
    assert len(STATES) == UNSOUND + 1


@pytest.mark.parametrize("images", [1, 4, 59, 300, 70_000])
def test_what_may_have_stayed_unseen(images: int) -> None:
    """A thing that happens that often stays unseen in so many images with a chance of 5 %."""
    share = unseen(images)
    assert (1 - share) ** images == pytest.approx(0.05)
    assert share <= 3 / images
    if images >= 300:
        assert share == pytest.approx(3 / images, rel=0.01)
    assert unseen(0) == 1.0
