"""Deletion, likeness, random weights: against slow twins, and on networks whose truth is planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

import convlens
from convlens import registry
from convlens.attribution.faithful.deletion import area, curves, cuts
from convlens.attribution.faithful.ordering import Scheme, advantage, at_random
from convlens.attribution.faithful.randomising import depths, randomised, weighted_layers
from convlens.attribution.faithful.report import verdict_of
from convlens.attribution.faithful.similarity import ranks, spearman, ssim
from convlens.attribution.faithful.verdict import order_outcome, random_outcome
from convlens.attribution.maps import Signal, input_map
from convlens.attribution.masking.parts import parts_of
from convlens.errors import ParameterError, UnsupportedError
from convlens.model import Model
from convlens.registry import Job, Method, Paper, Parameters
from convlens.results import Result
from reference import faithful, nets

SHAPE = (3, 22, 17)
EXACT = 1e-12
"""Float64, in another order of summation."""
SINGLE = 1e-5
"""Of a probability: the network runs in float32."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    net = nets.classifier(0, SHAPE)
    return convlens.load(nets.saved(net.onnx(), tmp_path_factory.mktemp("judged")), threads=1, kind="image")


def probability(model: Model, image: Any, index: int) -> float:
    """Softmax written out."""
    scores = model.runner.run({"input": image[None].astype(np.float32)}, ["dense1"])["dense1"][0]
    odds = np.exp(scores.astype(np.float64) - scores.max())
    return float(odds[index] / odds.sum())


@pytest.mark.parametrize(("side", "steps"), [(3, 7), (5, 4), (1, 11), (4, 1000)])
def test_curves_are_those_of_the_paper(side: int, steps: int, model: Model) -> None:
    rng = np.random.default_rng(side)
    image, other = nets.pictures(0, 2, SHAPE, np.float32)
    heat = rng.normal(size=SHAPE[1:])
    groups = faithful.blocks(*SHAPE[1:], side)
    order = faithful.ordered(heat, groups)
    steps = min(steps, len(groups))
    parts = parts_of(model.source, SHAPE[1:], side)
    assert parts.ranked(heat).tolist() == order
    expected = faithful.curve(lambda x: probability(model, x, 2), image, other, groups, order, steps)
    found = curves(model, image, other, [parts.ranked(heat)], parts, steps, model.target(2), 5)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=SINGLE)
    x = [round(step * len(groups) / steps) / len(groups) for step in range(steps + 1)]
    np.testing.assert_allclose(cuts(parts, steps) / parts.count, x, atol=EXACT)
    assert area(found, parts, steps)[0] == pytest.approx(faithful.area(expected, x), abs=SINGLE)


def test_more_steps_than_parts_are_one_part_a_step(model: Model) -> None:
    parts = parts_of(model.source, SHAPE[1:], 8)
    assert parts.count == 9
    assert cuts(parts, 1000).tolist() == list(range(10))


def test_parts_cover_the_input_once() -> None:
    model_parts = parts_of(type("S", (), {"kind": "video", "axis_names": "abc"})(), (4, 5, 7), (2, 3, 4))  # type: ignore[arg-type]
    assert model_parts.count == 2 * 2 * 2
    assert model_parts.index[0, 0, 0] == 0
    assert model_parts.index[-1, -1, -1] == 7
    assert np.bincount(model_parts.index.ravel()).sum() == 4 * 5 * 7


def test_ties_and_holes_in_a_ranking(model: Model) -> None:
    parts = parts_of(model.source, (4, 6), 2)
    flat = np.ones((4, 6))
    orders = {tuple(parts.ranked(flat, seed)) for seed in range(8)}
    assert len(orders) > 1, "ties go by the seed and not by place"
    broken = np.arange(24.0).reshape(4, 6)
    broken[3, 5] = np.nan
    assert parts.ranked(broken)[-1] == parts.index[3, 5]
    assert parts.ranked(broken)[0] != parts.index[3, 5]
    np.testing.assert_array_equal(parts.ranked(broken * 1e30)[:-1], parts.ranked(broken * 1e-30)[:-1])


def test_the_centre_comes_first_in_the_centre_s_order(model: Model) -> None:
    parts = parts_of(model.source, (14, 14), 2)
    order = parts.centred()
    assert order[0] == parts.index[7, 7]
    assert set(order[-4:]) == {parts.index[0, 0], parts.index[0, -1], parts.index[-1, 0], parts.index[-1, -1]}


@pytest.mark.parametrize("side", [23, (3, 30), (1, 2, 3)])
def test_parts_that_do_not_fit_are_refused(side: Any, model: Model) -> None:
    with pytest.raises(ParameterError, match="part"):
        parts_of(model.source, SHAPE[1:], side)


def test_ranks_and_likeness_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, (9, 11)).astype(float), rng.normal(size=(9, 11))
    assert ranks(one).tolist() == faithful.rank_of(one.ravel().tolist())
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    expected = faithful.spearman(one.ravel().tolist(), other.ravel().tolist())
    assert spearman(one, other) == pytest.approx(expected, abs=EXACT)
    assert spearman(one, np.exp(one)) == pytest.approx(1)
    assert spearman(one, -one) == pytest.approx(-1)
    assert spearman(one, np.ones_like(one)) == 0
    assert ssim(one, other) == pytest.approx(faithful.ssim(one, other, 7), abs=EXACT)
    assert ssim(one, 3 * one + 5) == pytest.approx(1)


def test_a_random_order_does_not_beat_random() -> None:
    rng = np.random.default_rng(0)
    areas = 0.4 + 0.05 * rng.normal(size=(3, 8))
    assert order_outcome(areas[:, 0], areas[:, 1:]) == "same"
    assert order_outcome(areas[:, 0] - 0.3, areas[:, 1:]) == "better"
    assert order_outcome(areas[:, 0] + 0.3, areas[:, 1:]) == "worse"
    assert order_outcome(areas[:, 0] * np.nan, areas[:, 1:]) == "unknown"
    assert order_outcome(np.ones(2), np.ones((2, 4))) == "same", "a target that nothing changes"
    assert order_outcome(np.zeros(2), np.zeros((2, 4))) == "same"
    assert order_outcome(np.ones(2), np.zeros((2, 4))) == "worse", "random orders that are all alike"
    by_hand = (areas[:, 1:].mean() - areas[:, 0].mean()) / (
        np.sqrt(sum(np.var(row, ddof=1) for row in areas[:, 1:])) / 3
    )
    assert advantage(areas[:, 0], areas[:, 1:]) == pytest.approx(by_hand)


def test_what_random_weights_leave() -> None:
    assert random_outcome([0.9, 0.3], [True, True]) == "stays"
    assert random_outcome([-0.9], [True]) == "stays", "magnitudes in reverse are the same places"
    assert random_outcome([0.9, 0.3], [False, True]) == "partly"
    assert random_outcome([0.1], [True]) == "changes"
    assert random_outcome([0.0], [False]) == "broken"


# Region perturbation


def test_regions_become_numbers_of_the_channel_s_own_range() -> None:
    image = nets.pictures(0, 1, (3, 40, 40), np.float32)[0] * np.array([1, 5, 25], np.float32)[:, None, None]
    drawn = at_random(image, "photo", [1, 2], 0)
    assert drawn.dtype == image.dtype
    for channel in range(3):
        low, high = image[channel].min(), image[channel].max()
        assert low <= drawn[channel].min() < low + 0.01 * (high - low)
        assert high >= drawn[channel].max() > high - 0.01 * (high - low)
    tokens = np.array([4, 4, 9, 1, 7])
    assert sorted(at_random(tokens, "tokens", [0], 0)) == sorted(tokens)
    planes = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, (5, 5))].transpose(2, 0, 1)
    assert (at_random(planes, "board", [1, 2], 0).sum(axis=0) == 1).all(), "a point stays one thing"


# Random weights


def test_depths_reach_from_one_to_all() -> None:
    assert depths(50, 5) == [1, 13, 26, 38, 50]
    assert depths(3, 5) == [1, 2, 3]
    assert depths(1, 3) == [1]
    assert depths(9, 0) == []


def test_weights_are_drawn_anew_and_everything_else_stays(model: Model) -> None:
    layers = weighted_layers(model)
    assert [layer.value for layer in layers] == ["conv1", "conv2", "dense1"]
    assert [layer.drawn for layer in layers] == [("conv1_w",), ("conv2_w",), ("dense1_w",)]
    assert [layer.dealt for layer in layers] == [("conv1_b",), ("conv2_b",), ("dense1_b",)]
    before = {name: array.copy() for name, array in model.graph.constants.items()}
    other = randomised(model, layers[1:], 3)
    for name, array in before.items():
        np.testing.assert_array_equal(model.graph.constants[name], array)
        changed = name.startswith(("conv2", "dense1"))
        assert np.array_equal(other.graph.constants[name], array) != changed, name
    weights, drawn = before["conv2_w"].astype(float), other.graph.constants["conv2_w"].astype(float)
    count = weights.size
    assert abs(drawn.mean() - weights.mean()) < 5 * weights.std() / count**0.5
    assert abs(drawn.std() / weights.std() - 1) < 5 / (2 * count) ** 0.5
    assert sorted(other.graph.constants["conv2_b"]) == sorted(before["conv2_b"])
    again = randomised(model, layers[1:], 3)
    alone = randomised(model, layers[1:2], 3)
    for third in (again, alone):
        np.testing.assert_array_equal(
            third.graph.constants["conv2_w"], other.graph.constants["conv2_w"], "seed and layer decide"
        )
    assert np.shares_memory(other.graph.constants["conv1_w"], model.graph.constants["conv1_w"])


def test_both_executors_run_the_new_weights(model: Model) -> None:
    import torch

    x = nets.pictures(0, 2, SHAPE, np.float32)
    other = randomised(model, weighted_layers(model), 0)
    found = other.runner.run({"input": x}, ["dense1"])["dense1"]
    with torch.no_grad():
        np.testing.assert_allclose(other.torch(torch.from_numpy(x)).numpy(), found, rtol=0, atol=1e-5)
    assert np.abs(found - model.runner.run({"input": x}, ["dense1"])["dense1"]).max() > 0.1


def test_a_randomised_model_has_no_certificate(model: Model) -> None:
    other = randomised(model, weighted_layers(model), 0)
    with pytest.raises(UnsupportedError, match="nothing certifies"):
        other.certificate()
    with pytest.raises(UnsupportedError, match="nothing certifies"):
        other.run("saliency", nets.pictures(0, 1, SHAPE, np.float32), 1)
    assert model.certificate().passed


def test_only_layers_before_the_target_become_random(model: Model) -> None:
    assert [layer.value for layer in weighted_layers(model, model.target("relu1:0"))] == ["conv1"]


def test_stored_codes_are_shuffled(tmp_path: Path) -> None:
    """Weights as 8-bit codes behind a DequantizeLinear: the codes change places, their scale stays."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    stored = {"codes": codes, "scale": np.array(0.01, np.float32), "zero": np.array(0, np.int8)}
    nodes = [
        make_node("DequantizeLinear", ["codes", "scale", "zero"], ["weight"]),
        make_node("Conv", ["x", "weight"], ["y"]),
    ]
    proto = nets.model_of(nodes, {"x": ["N", 3, 8, 8]}, ["y"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    (layer,) = weighted_layers(model)
    assert layer.drawn == ("codes",)
    other = randomised(model, [layer], 0)
    shuffled = other.graph.constants["codes"]
    assert shuffled.dtype == np.int8
    assert not np.array_equal(shuffled, codes)
    np.testing.assert_array_equal(np.sort(shuffled, axis=None), np.sort(codes, axis=None))
    x = nets.pictures(0, 1, (3, 8, 8), np.float32)
    found = other.runner.run({"x": x}, ["y"])["y"]
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), (1, 2)).astype(np.float64)
    expected = np.einsum("crskl,ockl->ors", windows, 0.01 * shuffled.astype(np.float64))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)


def test_a_model_without_weights_says_so(tmp_path: Path) -> None:
    proto = nets.model_of([make_node("Relu", ["x"], ["y"])], {"x": ["N", 3, 8, 8]}, ["y"])
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    with pytest.raises(UnsupportedError, match="no layer with stored weights"):
        weighted_layers(model)


# Planted truths


def corner(height: int = 28, width: int = 28) -> Any:
    """One class reads the mean of the upper left quarter, the other nothing."""
    weight = np.zeros((2, 3 * height * width), np.float32)
    where = np.zeros((3, height, width), np.float32)
    where[:, : height // 2, : width // 2] = 8 / (3 * height * width / 4)
    weight[0] = where.ravel()
    layers = (nets.Dense(weight, np.zeros(2, np.float32)),)
    return nets.Net((3, height, width), layers).onnx()


class Pointing(Method[Parameters]):
    """A map that ignores the network: how bright the picture is, or where the truth is planted."""

    name = "planted-map"
    summary = "a map that was planted"
    paper = Paper("Nobody 2000", "", "https://example.org")
    kind = "map"
    target = True
    attributes = True
    where: Any = None

    def run(self, job: Job[Parameters]) -> Result:
        array = job.images.array
        found = np.abs(np.diff(array, axis=-1, append=0)) if self.where is None else array * 0 + self.where
        signal = Signal(
            "m", found, np.zeros(len(array)), "x", "planted", contribution=True, reduction="signed"
        )
        return input_map(job, self.name, signal)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Pointing:
    method = Pointing()
    registry.methods()
    monkeypatch.setitem(registry._METHODS, method.name, method)
    return method


@pytest.fixture
def quarter(tmp_path: Path) -> Model:
    return convlens.load(nets.saved(corner(), tmp_path), threads=1, kind="image")


def bright(count: int = 2) -> Any:
    """Images whose upper left quarter is brighter than the rest, so that it speaks for the class."""
    images = nets.pictures(1, count, (3, 28, 28), np.float32) * 0.2
    images[:, :, :14, :14] += 1
    return images


SETTINGS: dict[str, Any] = {"fill": "0", "stages": 0, "samples": 0, "random": 6}


@pytest.mark.parametrize("of", ["saliency", "occlusion"])
def test_a_map_that_points_at_the_truth_beats_random(of: str, quarter: Model) -> None:
    result = quarter.run("faithfulness", bright(), 0, of=of, **SETTINGS)
    for row in result.rows:
        assert row["against_random"] == "better"
        assert row["deletion"] < row["deletion_random"] < row["insertion"]
        assert row["deletion"] < row["deletion_centre"]
        assert row["insertion"] > row["insertion_random"]
        assert row["flipping"] < row["flipping_random"]
    assert verdict_of(result)["deletion"] == "better"


def test_a_reversed_map_loses(quarter: Model, planted: Pointing) -> None:
    right = np.zeros((3, 28, 28), np.float32)
    right[:, :14, :14] = 1
    areas = {}
    for name, where in {"right": right, "reversed": -right}.items():
        planted.where = where
        result = quarter.run("faithfulness", bright(), 0, of="planted-map", **SETTINGS)
        areas[name] = verdict_of(result)
    assert areas["right"]["deletion"] == "better"
    assert areas["reversed"]["deletion"] == "worse"
    assert areas["right"]["area"] < areas["right"]["area_random"] < areas["reversed"]["area"]


def test_the_pointing_game(quarter: Model, planted: Pointing) -> None:
    right = np.zeros((3, 28, 28), np.float32)
    right[:, 3, 4] = 1
    planted.where = right
    run = {**SETTINGS, "of": "planted-map"}
    for box, hit in {"0:10,0:10": 1, "4:10,0:10": 0, "3:4,4:5": 1, "3:4,0:4": 0}.items():
        result = quarter.run("faithfulness", bright(), 0, box=box, **run)
        assert result.arrays["pointing"].tolist() == [hit, hit]
        assert result.arrays["pointing_share"].tolist() == [hit, hit]
    each = quarter.run("faithfulness", bright(), 0, box="0:10,0:10; 10:20,0:10", **run)
    assert each.arrays["pointing"].tolist() == [1, 0]
    same = quarter.run("faithfulness", bright(), 0, box=[(0, 10), (0, 10)], **run)
    assert same.arrays["pointing"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "box", ["0:30,0:10", "5:5,0:10", "0:10", "0:10,0:10;0:10,0:10;0:10,0:10", "x", "1-2,3"]
)
def test_a_box_that_does_not_fit_is_refused(box: str, quarter: Model) -> None:
    with pytest.raises(ParameterError, match="box"):
        quarter.run("faithfulness", bright(), 0, box=box, **SETTINGS)


def test_random_weights_change_a_gradient_and_not_an_edge_detector(quarter: Model, planted: Pointing) -> None:
    """The network reads one quarter, with random weights all of them."""
    images = bright()
    run: dict[str, Any] = {"samples": 0, "steps": 2, "random": 2, "stages": 3}
    learnt = verdict_of(quarter.run("faithfulness", images, 0, of="saliency", **run))
    edges = quarter.run("faithfulness", images, 0, of="planted-map", **run)
    assert learnt["randomised"] == "changes"
    assert learnt["alike"] < 0.25
    assert verdict_of(edges)["randomised"] == "stays"
    np.testing.assert_allclose(edges.arrays["cascade"], 1)
    np.testing.assert_allclose(edges.arrays["apart_ssim"], 1)
    told = " ".join(finding.text for finding in registry.method("faithfulness").findings(edges))
    assert "hardly changes" in told
    assert "not what the model learnt" in told


def test_noise_moves_a_map_as_far_as_it_is_told(quarter: Model, planted: Pointing) -> None:
    """Of a linear network the gradient does not move at all; a planted map of differences does."""
    run: dict[str, Any] = {**SETTINGS, "samples": 2, "steps": 2}
    steady = quarter.run("faithfulness", bright(), 0, of="saliency", **run)
    assert steady.arrays["sensitivity"].max() < 1e-5
    small = quarter.run("faithfulness", bright(), 0, of="planted-map", noise=0.01, **run)
    large = quarter.run("faithfulness", bright(), 0, of="planted-map", noise=0.5, **run)
    assert 0 < small.arrays["sensitivity"].min() < large.arrays["sensitivity"].min()


def test_weights_that_blow_up_are_told(tmp_path: Path) -> None:
    """A float16 network whose random weights overflow: no map, and no number that is not one."""
    rng = np.random.default_rng(0)
    first, last = nets.conv(rng, 3, 8, 3, pad=1), nets.dense(rng, 8 * 28 * 28, 2)
    last.weight[:] = np.nan_to_num(last.weight * np.float32(3e38), posinf=3e38, neginf=-3e38)
    net = nets.Net((3, 28, 28), (first, nets.Relu(), nets.Dense(last.weight, last.bias)))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, kind="image")
    images = nets.pictures(0, 1, (3, 28, 28), np.float32)
    run: dict[str, Any] = {"samples": 0, "steps": 2, "random": 2, "stages": 2, "allow_uncertified": True}
    result = model.run("faithfulness", images, 0, of="saliency", **run)
    assert all(
        np.isfinite(array).all() for name, array in result.arrays.items() if name.startswith("cascade")
    )
    assert result.arrays["cascade_usable"].shape == (1, 2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("rule=guided", {"rule": "guided"}),
        ({"rule": "guided"}, {"rule": "guided"}),
        ('{"rule": "guided"}', {"rule": "guided"}),
        ("rule=deconvnet; reduction=mean", {"rule": "deconvnet", "reduction": "mean"}),
    ],
)
def test_settings_of_the_judged_method(settings: Any, expected: dict[str, str], model: Model) -> None:
    images = nets.pictures(0, 1, SHAPE, np.float32)
    run: dict[str, Any] = {**SETTINGS, "steps": 2, "random": 2, "fill": None}
    result = model.run("faithfulness", images, 1, settings=settings, **run)
    assert result.how["of"]["method"] == "saliency"
    assert expected.items() <= result.how["of"]["parameters"].items()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"of": "predict"}, "does not say where"),
        ({"settings": "rule"}, "NAME=VALUE"),
        ({"settings": "colour=blue"}, "saliency has no parameter 'colour'"),
        ({"settings": "{rule}"}, "JSON"),
    ],
)
def test_what_cannot_be_judged_is_refused(given: dict[str, str], words: str, model: Model) -> None:
    with pytest.raises(ParameterError, match=words):
        model.run("faithfulness", nets.pictures(0, 1, SHAPE, np.float32), 1, **given)


def test_baselines_are_run_with_the_map_and_cost_no_more_forwards_than_points(model: Model) -> None:
    """Orders share the first and the last point; everything else is one forward a point."""
    parts = parts_of(model.source, SHAPE[1:], 4)
    scheme = Scheme(parts, 6, 3, 0, 4)
    seen: list[int] = []
    stream = model.runner.stream

    def counted(batches: Any, *rest: Any) -> Any:
        for values in stream(batches, *rest):
            seen.append(len(next(iter(values.values()))))
            yield values

    model.runner.stream = counted  # type: ignore[method-assign]
    try:
        image, other = nets.pictures(0, 2, SHAPE, np.float32)
        scheme.follow(model, image, other, scheme.baselines(), model.target(0))
    finally:
        del model.runner.stream  # type: ignore[method-assign]
    assert sum(seen) == 2 + 4 * 5
    assert max(seen) <= 4
