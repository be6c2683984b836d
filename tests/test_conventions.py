"""Conventions: what they do to pixels, what the evidence measures, and that nothing is claimed without it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens.cards import Card
from convlens.conventions import card_text, clues, evidence, investigate
from convlens.conventions.candidates import candidates, override, variants
from convlens.conventions.measure import Measured
from convlens.conventions.verdict import MOVED, apart
from convlens.conventions.views import changed, coloured, pieces
from convlens.errors import UsageError
from convlens.graph.load import load_graph

SAME = 1e-6  # float32


def saved(path: Path, nodes: list[onnx.NodeProto], stored: dict[str, NDArray[Any]], dims: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def pictures(count: int, side: int = 32, channels: int = 3, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth colourful pictures that differ from each other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    found = np.zeros((count, side, side, channels))
    for n in range(count):
        for c in range(channels):
            for _ in range(4):
                a, b, phase = rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(0, 6)
                found[n, ..., c] += rng.uniform(10, 40) * np.sin(a * x + b * y + phase)
            found[n, ..., c] += (150, 110, 70)[c] + rng.normal(0, 15)
    return np.clip(found, 0, 255).astype(np.uint8)


def trained_on(name: str, views: NDArray[np.uint8], path: Path, learnt: bool = True) -> Path:
    """A small classifier whose BatchNormalization recorded ``views`` as convention ``name`` feeds them."""
    rng = np.random.default_rng(3)
    taps = rng.normal(0, 1, (16, 3, 3, 3))
    if learnt:  # a few smooth patterns in all filters, as training leaves them
        patterns = rng.normal(0, 1, (2, 3, 1, 1)) * np.ones((2, 3, 3, 3))
        taps = 0.3 * taps + np.einsum("op,pikl->oikl", rng.normal(0, 1, (16, 2)), patterns)
    convention = next(c for c in candidates(3, "float32") if c.name == name)
    x = np.moveaxis(convention.array(views), -1, 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    z = np.einsum("oikl,nihwkl->nohw", taps, windows)
    nodes = [
        helper.make_node("Conv", ["photo", "w"], ["z"]),
        helper.make_node("BatchNormalization", ["z", "g", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "d"], ["y"], transB=1),
    ]
    stored = {"w": taps, "g": np.ones(16), "b": rng.normal(0, 0.1, 16), "d": rng.normal(0, 3, (5, 16))}
    stored |= {"m": z.mean(axis=(0, 2, 3)), "v": z.var(axis=(0, 2, 3))}
    return saved(path, nodes, stored, ["N", 3, 32, 32])


def opened(path: Path) -> convlens.Model:
    return convlens.load(path, card=Card(), range=(0, 255))


# What conventions do to pixels


@pytest.mark.parametrize(("channels", "dtype"), [(3, "float32"), (1, "float32"), (3, "uint8")])
def test_a_convention_and_its_card_say_the_same(channels: int, dtype: str, tmp_path: Path) -> None:
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    nodes = [helper.make_node("Cast", ["photo"], ["c"], to=1), helper.make_node("Relu", ["c"], ["y"])]
    path = saved(tmp_path / "m.onnx", nodes, {}, ["N", channels, 8, 8])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)
    loaded = opened(path)
    views = pictures(2, 8, channels)
    tried = candidates(channels, dtype)
    for one in [*tried, *(v for c in tried for v in variants(c))]:
        if one.inverted:
            continue
        card = override(Card(), one)
        ways = convlens.load(path, card=card).preprocess.array(views)
        mine = np.moveaxis(one.array(views), -1, 1)
        assert np.abs(ways - mine).max() <= SAME * max(1.0, np.abs(mine).max()), one.name
    assert loaded.source.channels == channels


def test_names_are_unique_and_bytes_go_in_as_they_are() -> None:
    every = candidates(3, "float32")
    names = [c.name for c in [*every, *(v for c in every for v in variants(c))]]
    assert len(names) == len(set(names))
    assert [c.name for c in candidates(3, "uint8")] == ["bytes RGB", "bytes BGR"]


def test_pieces_keep_the_pixels_and_changes_keep_the_shape() -> None:
    views = pictures(3)
    other = pieces(views, 0)
    for a, b in zip(other, views, strict=True):
        assert not np.array_equal(a, b)
        assert np.array_equal(np.sort(a.reshape(-1, 3), axis=0), np.sort(b.reshape(-1, 3), axis=0))
    assert {v.shape for v in changed(views).values()} == {views.shape}
    assert "mirror" in changed(views)
    assert "mirror" not in changed(views[..., :1])  # a mirrored letter is another letter
    assert np.array_equal(pieces(views[:, :3], 0), views[:, :3])  # too low for pieces


def test_grey_photos_have_no_order_of_colours() -> None:
    views = pictures(2)
    assert coloured(views).all()
    assert not coloured(views[..., :1].repeat(3, axis=-1)).any()
    assert not coloured(views[..., :1]).any()


# What the file says by itself


@pytest.mark.parametrize(
    ("nodes", "stored"),
    [
        ([("Sub", ["photo", "a"]), ("Div", ["n0", "b"])], {"a": [[[[127.5]]]], "b": [[[[127.5]]]]}),
        (
            [("Mul", ["photo", "a"]), ("Add", ["b", "n0"])],
            {"a": 1 / 255, "b": [[[-0.5]], [[-0.4]], [[-0.3]]]},
        ),
        ([("Sub", ["a", "photo"]), ("Mul", ["b", "n0"])], {"a": 255.0, "b": 1 / 255}),
        (
            [("BatchNormalization", ["photo", "g", "c", "m", "v"])],
            {"g": [1.0, 2, 3], "c": [0.1, 0.2, 0.3], "m": [120.0, 110, 100], "v": [3000.0, 2500, 2000]},
        ),
    ],
)
def test_a_normalisation_in_front_is_read(nodes: list[Any], stored: dict[str, Any], tmp_path: Path) -> None:
    made = [helper.make_node(op, given, [f"n{i}"]) for i, (op, given) in enumerate(nodes)]
    made.append(helper.make_node("Conv", [f"n{len(nodes) - 1}", "w"], ["y"]))
    weights = {name: np.asarray(value, np.float32) for name, value in stored.items()}
    path = saved(tmp_path / "m.onnx", made, {**weights, "w": np.eye(3).reshape(3, 3, 1, 1)}, ["N", 3, 4, 4])
    found = clues.leading(load_graph(path)[0], "photo")
    assert found is not None
    x = np.random.default_rng(0).uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    truth = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"photo": x})[0]
    scale, offset = (np.broadcast_to(part, 3).reshape(1, 3, 1, 1) for part in found)
    assert np.abs(x * scale + offset - truth).max() <= 1e-5 * np.abs(truth).max()


def test_a_graph_that_divides_by_255_wants_bytes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Div", ["photo", "a"], ["n"]), helper.make_node("Conv", ["n", "w"], ["y"])]
    stored = {"a": np.array(255.0), "w": np.ones((4, 3, 1, 1))}
    found = clues.leading(load_graph(saved(tmp_path / "m.onnx", nodes, stored, ["N", 3, 4, 4]))[0], "photo")
    assert found is not None
    fit = {c.name: clues.fits(c, found) for c in candidates(3, "float32")}
    assert fit["bytes RGB"] == fit["bytes BGR"] == 1
    assert fit["unit RGB"] == fit["symmetric RGB"] == fit["imagenet BGR"] == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["normal", "uniform", "heavy", "folded"])
def test_random_weights_are_known(kind: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float64]:
        if kind == "uniform":
            return rng.uniform(-1, 1, shape)
        if kind == "heavy":
            return rng.standard_t(4, shape)
        weight = rng.normal(0, 1, shape)
        return weight * rng.lognormal(0, 1, (shape[0], 1, 1, 1)) if kind == "folded" else weight

    sizes = [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 1, 1), (64, 64, 3, 3)]
    nodes = [
        helper.make_node("Conv", [f"v{i}" if i else "photo", f"w{i}"], ["y" if i == 3 else f"v{i + 1}"])
        for i in range(4)
    ]
    stored = {f"w{i}": draw(*size) for i, size in enumerate(sizes)}
    path = saved(tmp_path / "m.onnx", nodes, stored, ["N", 3, 16, 16])
    order = clues.order_in_weights(load_graph(path)[0])
    assert order is not None
    assert order < clues.LEARNT


def test_learnt_weights_are_known(bundled: Path) -> None:
    graph, _ = load_graph(bundled / "vgg16-conv4_1" / "vgg16-conv4_1.onnx")
    order = clues.order_in_weights(graph)
    assert order is not None
    assert order > 2 * clues.LEARNT


# The evidence


def test_information_by_hand() -> None:
    certain = np.eye(4)[None].repeat(3, axis=0)
    assert evidence.information(certain) == pytest.approx(1)
    assert evidence.information(np.full((3, 4, 4), 0.25)) == pytest.approx(0)
    same = np.zeros((3, 4, 4))
    same[..., 2] = 1
    assert evidence.information(same) == pytest.approx(0)
    halves = np.eye(2)[[0, 0, 1, 1]][None]
    assert evidence.information(halves) == pytest.approx(math.log(2) / math.log(4))
    wavering = np.stack([np.eye(2)[[0, 1]], np.eye(2)[[1, 0]]])  # each change turns the answer round
    assert evidence.information(wavering) == pytest.approx(0)


def test_activity_by_hand() -> None:
    found = Measured(active={"a": np.array([[0.5, 0.0, 1.0, 0.25], [0.5, 0.0, 1.0, 0.25]])})
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert evidence.activity(found, np.arange(2)) == pytest.approx((1 + quarter) / 4)


def test_likelihood_is_one_for_the_sure_and_nothing_for_chance() -> None:
    true = np.array([0, 1, 2, 3])
    assert evidence.likelihood(np.eye(4)[None], true) == pytest.approx(1)
    assert evidence.likelihood(np.full((3, 4, 4), 0.25), true) == pytest.approx(0)
    assert evidence.likelihood(np.eye(4)[None], true[::-1]) == 0
    half = np.array([[[0.5, 0.5], [0.25, 0.75]]])
    by_hand = 1 + (math.log(0.5) + math.log(0.75)) / 2 / math.log(2)
    assert evidence.likelihood(half, np.array([0, 1])) == pytest.approx(by_hand)
    missed = np.array([[[1.0, 0.0, 0, 0], [1.0, 0, 0, 0]]])  # a miss counts as a hundredth of chance
    by_hand = 1 + math.log(0.25 / 100) / 2 / math.log(4)
    assert evidence.likelihood(missed, np.array([0, 1])) == pytest.approx(max(by_hand, 0))


def test_labels_outweigh_everything_that_needs_none() -> None:
    rest = {kind: 1.0 for kind in evidence.KINDS if kind != "labels"}
    good, bad = {"labels": 0.9, **dict.fromkeys(rest, 0.0)}, {"labels": 0.0, **rest}
    assert evidence.total(good) > evidence.total(bad)


def test_mismatch_is_the_divergence_of_normal_distributions() -> None:
    mean, var = np.array([[1.0, 2.0]]), np.array([4.0, 1.0])
    found = Measured(moments={"z": (mean, var + mean**2)})
    here = np.arange(1)
    assert evidence.mismatch(found, here, {"z": (mean[0], var)}) == pytest.approx(0, abs=1e-12)
    other = evidence.mismatch(found, here, {"z": (np.zeros(2), np.ones(2))})
    by_hand = (0.5 * (4 + 1 - 1 - math.log(4)) + 0.5 * (1 + 4 - 1)) / 2
    assert other == pytest.approx(by_hand)


# The verdict


def trained_to_tell(name: str, views: NDArray[np.uint8], path: Path) -> Path:
    """A classifier with a class for each view: whose coarse colours, as ``name`` feeds them, are nearest."""
    convention = next(c for c in candidates(3, "float32") if c.name == name)
    grid = np.moveaxis(convention.array(views), -1, 1).reshape(len(views), 3, 4, 8, 4, 8).mean(axis=(3, 5))
    known = grid.reshape(len(views), -1)
    scale = 40 / np.square(known - known.mean(axis=0)).sum(axis=1).mean()
    nodes = [
        helper.make_node("AveragePool", ["photo"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["p", "i"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "d", "b"], ["y"], transB=1),
    ]
    stored = {"i": np.eye(3).reshape(3, 3, 1, 1), "d": scale * known}
    stored["b"] = -scale * np.square(known).sum(axis=1) / 2
    return saved(path, nodes, stored, ["N", 3, 32, 32])


@pytest.mark.parametrize("name", ["imagenet RGB", "caffe BGR", "symmetric BGR", "unit RGB", "bytes RGB"])
def test_labels_lead_to_the_convention_or_to_one_with_the_same_answers(name: str, tmp_path: Path) -> None:
    views = pictures(8)
    model = opened(trained_to_tell(name, views, tmp_path / "m.onnx"))
    found = investigate(model, views, truth=list(range(8)))
    best = found.ranking[0]
    assert found.verdict == "clear", found.why
    truth = next(t for t in found.ranking if t.name == name)
    assert truth is best or (truth.agrees == 8 and truth.moved <= MOVED)
    wrong = investigate(model, views, truth=[(n + 3) % 8 for n in range(8)])
    assert wrong.verdict == "behaviour cannot tell"
    assert "true classes are not found" in " ".join(wrong.why)


def test_grey_photos_leave_the_order_of_colours_open(tmp_path: Path) -> None:
    grey = pictures(8)[..., :1].repeat(3, axis=-1)
    found = investigate(opened(trained_on("unit RGB", grey, tmp_path / "m.onnx")), grey)
    assert found.verdict == "cannot be told apart"
    assert found.why[0].startswith("unit RGB or unit BGR (same top class on 8 of 8 photos")


def test_answers_that_are_the_same_are_no_distance_apart() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (6, 4))
    assert apart(a, a + 7.0) == pytest.approx(0, abs=1e-12)  # a softmax does not see what all classes share
    assert apart(a, rng.normal(0, 1, (6, 4))) > 0.5
    assert apart(a, np.zeros((6, 4))) == np.inf


@pytest.mark.parametrize("name", ["imagenet RGB", "caffe BGR", "symmetric BGR", "unit RGB", "bytes RGB"])
def test_recorded_statistics_lead_to_the_convention(name: str, tmp_path: Path) -> None:
    views = pictures(8)
    model = opened(trained_on(name, views, tmp_path / "m.onnx"))
    found = investigate(model, views)
    best = found.ranking[0]
    strongest = max(found.ranking, key=lambda tried: tried.parts["batchnorm"])
    assert name in (strongest.name, *strongest.same)
    family, _, way = name.partition(" ")  # relatives that are not the same may still be close
    assert family in (best.convention.family, best.name.partition(" ")[0])
    assert best.name.endswith(way)
    parts = best.parts
    weights = {kind: evidence.KINDS[kind][0] for kind in parts}
    mean = sum(weights[k] * parts[k] for k in parts) / sum(weights.values())
    assert best.score == pytest.approx(mean)
    card = tmp_path / "m.card.toml"
    card.write_text(card_text(model, found, best, by_hand=False))
    assert Card.load(card).input.channels == name[-3:]


def test_random_weights_and_too_few_photos_are_no_finding(tmp_path: Path) -> None:
    views = pictures(5)
    random = opened(trained_on("unit RGB", views, tmp_path / "r.onnx", learnt=False))
    found = investigate(random, views)
    assert found.verdict == "behaviour cannot tell"
    assert "random" in found.why[0]
    learnt = opened(trained_on("unit RGB", views, tmp_path / "l.onnx"))
    few = investigate(learnt, views[:2])
    assert few.verdict == "behaviour cannot tell"
    assert "too few" in few.why[0]


def test_the_choice_is_by_place_or_name(tmp_path: Path) -> None:
    views = pictures(4)
    found = investigate(opened(trained_on("unit RGB", views, tmp_path / "m.onnx")), views)
    assert found.choose("2") is found.ranking[1]
    assert found.choose("Caffe bgr").convention.name == "caffe BGR"
    with pytest.raises(UsageError, match="expected 1 to"):
        found.choose("99")
