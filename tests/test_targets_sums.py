"""Weighted sums of targets: what is read from a text, that they are linear, and who takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.errors import LayerError, TargetError, UsageError
from convlens.model import Model
from convlens.targets import Target, squashed, weighted
from graph.nets import classifier, model, numbers, op, opened, put, refused
from reference import coloured, nets
from reference.others import OTHERS

LABELS = [["tabby"], ["tiger cat"], ["Egyptian cat"], ["black-and-white colobus"], ["salt - pepper", "2*3"]]
VALUES = {"conv1": numbers(3, 4, 8, 8), "relu1": numbers(3, 4, 8, 8, seed=1), "logits": numbers(3, 5)}
C, R, Y = VALUES["conv1"], VALUES["relu1"], VALUES["logits"]


@pytest.fixture
def loaded(tmp_path: Path) -> Model:
    return opened(classifier(), tmp_path, labels=LABELS)


def score(target: Target, values: dict[str, NDArray[np.float32]] = VALUES) -> NDArray[Any]:
    """From numpy, after checking that torch gives the same."""
    needed = target.needs(["logits"])
    found = target.score({name: values[name] for name in needed})
    tensors = target.score({name: torch.from_numpy(values[name].copy()) for name in needed})
    np.testing.assert_allclose(tensors.numpy(), found, rtol=1e-5, atol=1e-6)  # float32, another order
    return np.asarray(found)


def mean(channel: int) -> NDArray[Any]:
    return C[:, channel].mean(axis=(1, 2))


TABLE: dict[str, tuple[list[float], NDArray[Any]]] = {
    # text: weights, expected
    "0.7*conv1:2 + 0.3*3": ([0.7, 0.3], 0.7 * mean(2) + 0.3 * Y[:, 3]),
    "conv1:3 - conv1:0": ([1, -1], mean(3) - mean(0)),
    "4 - 0": ([1, -1], Y[:, 4] - Y[:, 0]),
    "2*relu1": ([2], 2 * np.sqrt((R.reshape(3, -1) ** 2).sum(axis=1))),
    "-1*2": ([-1], -Y[:, 2]),
    "- 2 + 1": ([-1, 1], Y[:, 1] - Y[:, 2]),
    "2 * conv1:1@7,0": ([2], 2 * C[:, 1, 7, 0]),
    "1e-1*1  +\t.5*0 - 2.*3": ([0.1, 0.5, -2], 0.1 * Y[:, 1] + 0.5 * Y[:, 0] - 2 * Y[:, 3]),
    "1 - -2*2": ([1, 2], Y[:, 1] + 2 * Y[:, 2]),
    "conv1:2@7,0 - 3": ([1, -1], C[:, 2, 7, 0] - Y[:, 3]),
    "logits[3] - conv1[0,1:3].max": ([1, -1], Y[:, 3] - C[:, 0, 1:3].reshape(3, -1).max(axis=1)),
    "tiger cat - Egyptian cat": ([1, -1], Y[:, 1] - Y[:, 2]),
    '"tiger cat" - "Egyptian cat"': ([1, -1], Y[:, 1] - Y[:, 2]),
    "0.5*'tiger cat' + 'tabby'": ([0.5, 1], 0.5 * Y[:, 1] + Y[:, 0]),
    "black-and-white colobus - tabby": ([1, -1], Y[:, 3] - Y[:, 0]),
    # names with signs in them
    "salt - pepper - tabby": ([1, -1], Y[:, 4] - Y[:, 0]),
    "tabby - 0.5*salt - pepper": ([1, -0.5], Y[:, 0] - 0.5 * Y[:, 4]),
    "tabby - 'Salt - pepper'": ([1, -1], Y[:, 0] - Y[:, 4]),
    "tabby + 2*3": ([1, 1], Y[:, 0] + Y[:, 4]),  # the synonym of class 4
    "0*1 + 2": ([0, 1], Y[:, 2]),
}


@pytest.mark.parametrize("text", TABLE)
def test_the_table(loaded: Model, text: str) -> None:
    weights, expected = TABLE[text]
    target = loaded.target(text)
    assert target.kind == "sum"
    assert [weight for weight, _ in target.terms] == weights
    np.testing.assert_allclose(score(target), expected, rtol=1e-5, atol=1e-5)  # float32 sums


@pytest.mark.parametrize(
    ("text", "kind", "index"),
    [
        ("salt - pepper", "class", 4),
        ("Salt - Pepper", "class", 4),
        ('"salt - pepper"', "class", 4),
        ("2*3", "class", 4),
        ("1*2", "class", 2),
        ("+ 2", "class", 2),
        ("black-and-white colobus", "class", 3),
    ],
)
def test_what_is_no_sum(loaded: Model, text: str, kind: str, index: int) -> None:
    target = loaded.target(text)
    assert (target.kind, target.index) == (kind, index)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("tigre cat - tabby", TargetError, ["in 'tigre cat - tabby'", "'tigre cat'", "'tiger cat'"]),
        ("tabby - conv1:9", LayerError, ["in 'tabby - conv1:9'", "no channel 9"]),
        ("tabby -1*conv1", TargetError, ["'tabby -1*conv1'"]),
        ("tabby-conv1:3", LayerError, ["no layer 'tabby-conv1'"]),
        ("0*1 - 0*2", TargetError, ["every weight is 0"]),
        ("1e999*1", TargetError, ["inf", "finite"]),
        ("logits=predicted - 1", TargetError, ["predicted class", "cannot be added", "name the class"]),
        ("1 +", TargetError, ["no class or layer called '1 +'"]),
        ("1 + 2*", TargetError, ["no class or layer called '2*'"]),
        ("2*7", TargetError, ["no class 7", "0 to 4"]),
    ],
)
def test_what_cannot_be_meant(loaded: Model, text: str, kind: type[UsageError], words: list[str]) -> None:
    with refused(kind, *words):
        loaded.target(text)


def test_several_readings(tmp_path: Path) -> None:
    found = opened(classifier(), tmp_path, labels=["salt", "pepper", "salt - pepper", "d", "e"])
    assert found.target("salt - pepper").index == 2
    with refused(TargetError, "'salt - pepper' and 'd'", "'salt' and 'pepper' and 'd'", "quotes"):
        found.target("salt - pepper - d")
    assert [w for w, _ in found.target('"salt - pepper" - d').terms] == [1, -1]
    assert [t.index for t in found.target("'salt' - pepper - d").parts] == [0, 1, 3]


def renamed(names: dict[str, str]) -> onnx.ModelProto:
    """The classifier with other names for values."""
    proto = classifier()
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return proto


def test_names_of_values(tmp_path: Path) -> None:
    """ONNX names may hold anything."""
    found = opened(renamed({"relu1": "a - b", "conv1": "3*conv + 'x'"}), tmp_path)
    values = {"a - b": R, "3*conv + 'x'": C, "logits": Y}
    assert found.target("a - b").kind == "layer"
    assert found.target("3*conv + 'x'").kind == "layer"
    np.testing.assert_allclose(score(found.target("a - b:3"), values), R[:, 3].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(score(found.target("3*conv + 'x':1@2,3"), values), C[:, 1, 2, 3])
    np.testing.assert_array_equal(score(found.target("a - b[0,1,2]"), values), R[:, 0, 1, 2])
    both = found.target("2*a - b:3@0,0 - 3*conv + 'x'[1,1,1] + 4")
    np.testing.assert_allclose(score(both, values), 2 * R[:, 3, 0, 0] - C[:, 1, 1, 1] + Y[:, 4], rtol=1e-5)
    quoted = found.target("\"a - b\":3 - '3*conv + 'x''[1,1,1]")
    np.testing.assert_allclose(score(quoted, values), R[:, 3].mean(axis=(1, 2)) - C[:, 1, 1, 1], rtol=1e-5)


def test_words_and_record(loaded: Model) -> None:
    target = loaded.target("0.7*conv1:2 - 1 + relu1")
    assert target.text == "0.7 x channel 2 of conv1 - class 1 (tiger cat) + layer relu1"
    assert target.words(1) == target.text
    assert loaded.target("- conv1:2 + 1").text == "-1 x channel 2 of conv1 + class 1 (tiger cat)"
    told = target.record()
    assert told["kind"] == "sum"
    assert [(term["weight"], term["value"], term["index"]) for term in told["terms"]] == [
        (0.7, "conv1", 2),
        (-1.0, "logits", 1),
        (1.0, "relu1", None),
    ]


def test_texts_and_what_they_stand_for_go_back_and_forth(loaded: Model) -> None:
    """Any sum of these terms, written down, is read as itself."""
    rng = np.random.default_rng(0)
    terms = [
        "0",
        "conv1:1",
        "relu1",
        "conv1:2@3,4",
        "logits[2]",
        "'salt - pepper'",
        "black-and-white colobus",
    ]
    for _ in range(60):
        chosen = [terms[i] for i in rng.integers(0, len(terms), rng.integers(2, 6))]
        weights = [round(float(w), 2) for w in rng.uniform(-2, 2, len(chosen))]
        text = " + ".join(f"{w}*{term}" for w, term in zip(weights, chosen, strict=True))
        target = loaded.target(text)
        assert [w for w, _ in target.terms] == weights
        single = [loaded.target(term) for term in chosen]
        assert [t.text for t in target.parts] == [t.text for t in single]
        expected = sum(w * score(t) for w, t in zip(weights, single, strict=True))
        np.testing.assert_allclose(score(target), expected, rtol=1e-5, atol=1e-5)


def test_from_python(loaded: Model) -> None:
    inner = weighted([(2.0, loaded.target("conv1:1")), (1.0, loaded.target(3))])
    target = loaded.target(weighted([(0.5, inner), (-1.0, loaded.target("tabby"))]))
    np.testing.assert_allclose(score(target), mean(1) + 0.5 * Y[:, 3] - Y[:, 0], rtol=1e-5, atol=1e-6)
    for bad, words in (
        (loaded.target(None), "predicted"),
        (loaded.target(lambda y: y[:, 0]), "function"),
    ):
        with refused(TargetError, words, "cannot be added"):
            weighted([(1.0, bad)])
    with refused(TargetError, "every weight is 0"):
        weighted([])


def test_rows_of_settled_terms() -> None:
    """Terms that differ from row to row follow their rows."""
    one = Target("class", "logits", "a", index=(4, 0, 2), each=("x", "y", "z"))
    two = Target("class", "logits", "b", index=1)
    target = weighted([(1.0, one), (2.0, two)])
    whole = Y[range(3), [4, 0, 2]] + 2 * Y[:, 1]
    np.testing.assert_allclose(score(target), whole, rtol=1e-6)
    np.testing.assert_allclose(target.rows(1, 3).score({"logits": Y[1:]}), whole[1:], rtol=1e-6)
    np.testing.assert_allclose(target.take([2, 0]).score({"logits": Y[[2, 0]]}), whole[[2, 0]], rtol=1e-6)
    np.testing.assert_allclose(target.of(2).score({"logits": Y}), Y[:, 2] + 2 * Y[:, 1], rtol=1e-6)
    assert [target.words(i) for i in range(3)] == ["x + 2 x b", "y + 2 x b", "z + 2 x b"]


def test_rows_that_do_not_belong_together() -> None:
    """A value that counts something else than images is not stretched over them."""
    target = weighted([(1.0, Target("class", "a", "a", index=0)), (1.0, Target("class", "b", "b", index=0))])
    with refused(TargetError, "1 and 3 rows"):
        target.score({"a": np.ones((1, 2)), "b": np.ones((3, 2))})


SHAPE = (3, 14, 15)
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}
TEXT = "0.7*conv2:1 - 2*3 + conv1:0@2,3"
TERMS = {"conv2:1": 0.7, "3": -2.0, "conv1:0@2,3": 1.0}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    return convlens.load(nets.saved(nets.classifier(0, SHAPE).onnx(), folder), **CARD)


def pictures(count: int = 2) -> NDArray[Any]:
    return nets.pictures(0, count, SHAPE, np.float64)


LINEAR = {
    "saliency": {},
    "smoothgrad": {"samples": 3},
    "input-x-gradient": {},
    "integrated-gradients": {"steps": 4},
    "grad-cam": {"layer": "relu1", "signed": True},
    "lrp": {"composite": "epsilon"},
}


@pytest.mark.parametrize("name", LINEAR)
def test_methods_that_are_linear_in_the_target(name: str, net: Model) -> None:
    """The map of a sum is the sum of the maps; all terms lie behind the layer that is named."""
    settings: dict[str, Any] = LINEAR[name]
    terms = {t: w for t, w in TERMS.items() if "layer" not in settings or not t.startswith("conv1")}
    text = " + ".join(f"{w}*{t}" for t, w in terms.items())
    found = net.run(name, pictures(), text, **settings)
    single = [w * net.run(name, pictures(), t, **settings).array for t, w in terms.items()]
    whole = sum(single)
    np.testing.assert_allclose(found.array, whole, rtol=0, atol=1e-9 * np.abs(whole).max())  # float64
    alone = net.run(name, pictures()[1:], text, **settings)
    np.testing.assert_allclose(alone.array[0], found.array[1], rtol=0, atol=1e-9 * np.abs(whole).max())
    assert [term["weight"] for term in found.how["target"]["terms"]] == list(terms.values())


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernel-shap", "score-cam", "faithfulness"])
def test_methods_without_gradients(name: str, net: Model) -> None:
    """They read the weighted sum of the logits: a probability would not be linear."""
    found = net.run(name, pictures(1).astype(np.float32), "0.5*3 - 1", **convlens.methods()[name].preview)
    assert found.how["target"]["text"] == "0.5 x class 3 - class 1"
    values = net.runner.run({"input": pictures(1).astype(np.float32)}, [net.classes.logits])  # type: ignore[union-attr]
    logits = next(iter(values.values()))[0]
    if name == "occlusion":
        expected = 0.5 * logits[3] - logits[1]
        np.testing.assert_allclose(found.arrays["baseline"][0], expected, rtol=1e-5, atol=1e-6)
        assert found.units["map"] == "score"


@pytest.mark.parametrize("name", ["grad-cam", "grad-cam-plus-plus", "layer-cam", "score-cam", "eigen-cam"])
def test_the_layer_lies_before_every_term(name: str, net: Model) -> None:
    """Behind the first of them it would leave the other out."""
    own = convlens.methods()[name].preview
    assert net.run(name, pictures(1), "3 - conv2:1", **own).rows[0]["layer"] == "relu1"
    with refused(TargetError, "with all its terms", "layer 'relu2'", "'relu1'"):
        net.run(name, pictures(1), "3 - conv2:1", layer="relu2", **own)


@pytest.mark.parametrize("text", ["3 - best[0]", "best[0] - 3"])
def test_a_term_without_a_gradient(tmp_path: Path, text: str) -> None:
    proto = classifier()
    proto.graph.node.append(op("ArgMax", "logits", "best", axis=1))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("best", onnx.TensorProto.INT64, ["N", 1]))
    with refused(TargetError, "best[0] has no gradient", "ArgMax"):
        opened(proto, tmp_path).run("saliency", numbers(1, 3, 8, 8), text)


def test_a_saturated_term_is_said(tmp_path: Path) -> None:
    proto = classifier()
    proto.graph.node.append(op("Softmax", "logits", "shares", axis=1))
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("shares", onnx.TensorProto.FLOAT, ["N", 5]))
    found = opened(proto, tmp_path)
    assert squashed(found.target("shares:1 - 2"), found.graph) is None  # each of its terms is asked
    result = found.run("saliency", 1e4 * numbers(1, 3, 8, 8), "shares:1 - 2*conv1:0")
    (warning,) = result.how["warnings"]
    assert "channel 1 of shares is" in warning
    assert "after a softmax" in warning


SEGMENTS: dict[str, Any] = {"labels": coloured.LABELS, "mean": [0.0], "std": [1.0]}


def test_places_on_the_image(tmp_path: Path) -> None:
    """Each term is looked up by itself, and the gradient is the sum of the terms' own."""
    found = convlens.load(put(coloured.segmenter(), tmp_path), threads=1, **SEGMENTS)
    picture = coloured.picture()
    result = found.run("saliency", picture, "tomato@segment - 0.5*leaf@10,3")
    single = [found.run("saliency", picture, text).array for text in ("tomato@segment", "leaf@10,3")]
    np.testing.assert_allclose(result.array, single[0] - 0.5 * single[1], rtol=1e-6, atol=1e-9)
    told = result.how["target"]["each"][0]
    assert "tomato" in told
    assert "- 0.5 x " in told
    assert [term["picked"][0]["label"] for term in result.how["target"]["terms"]] == ["tomato", "leaf"]
    with refused(TargetError, "is found on an image"):
        found.run("visualise", None, "tomato@segment - leaf@segment", steps=1)


def test_heads_and_boxes(tmp_path: Path) -> None:
    """Classes of several outputs, the predicted one of an output, and boxes that are found on each image."""
    heads = convlens.load(put(coloured.two_heads(), tmp_path), threads=1, mean=[0.0], std=[1.0])
    images = np.concatenate([coloured.picture(), coloured.moved()])
    result = heads.run("saliency", images, "kind=1 - colour=predicted")
    single = [heads.run("saliency", images, text).array for text in ("kind=1", "colour=predicted")]
    np.testing.assert_allclose(result.array, single[0] - single[1], rtol=1e-6, atol=1e-9)
    assert result.how["target"]["each"][0] != result.how["target"]["each"][1]
    boxes: dict[str, Any] = {"labels": ["tomato", "leaf"], "mean": [0.0], "std": [1.0], "threads": 1}
    for proto in (coloured.apart(), coloured.suppressed(), coloured.yolo()):
        found = convlens.load(put(proto, tmp_path), **boxes)
        texts = {"tomato@3,5": 1.0, "leaf@11,5": -0.5, "grid:0": 0.25}
        one = coloured.picture()
        result = found.run("saliency", one, " + ".join(f"{w}*{t}" for t, w in texts.items()))
        whole = sum(w * found.run("saliency", one, t).array for t, w in texts.items())
        np.testing.assert_allclose(result.array, whole, rtol=1e-6, atol=1e-9)


def test_values_that_lie_on_one_way(tmp_path: Path) -> None:
    """A term before a linear layer's batch norm and one behind it: relevance starts at both."""
    stored = {"w": numbers(4, 3, 3, 3), "v": numbers(2, 4, 3, 3, seed=1)}
    ones = {name: np.ones(4, np.float32) for name in ("scale", "shift", "mean", "var")}
    proto = model(
        [
            op("Conv", "x w", "conv"),
            op("BatchNormalization", "conv scale shift mean var", "norm"),
            op("Relu", "norm", "relu"),
            op("Conv", "relu v", "end"),
        ],
        {"x": ["N", 3, 8, 8]},
        ["end"],
        stored | ones,
    )
    found = opened(proto, tmp_path, mean=[0.5], std=[0.25])
    x = np.random.default_rng(2).standard_normal((2, 3, 8, 8))
    texts = {"conv:1": 1.0, "norm:2": -0.5, "end:0": 2.0}
    way = {"composite": "epsilon", "epsilon": 1e-12}  # added once where a batch norm is merged
    whole = found.run("lrp", x, " + ".join(f"{w}*{t}" for t, w in texts.items()), **way)
    single = sum(w * found.run("lrp", x, t, **way).array for t, w in texts.items())
    np.testing.assert_allclose(whole.array, single, rtol=0, atol=1e-9 * np.abs(single).max())


def test_a_picture_of_a_sum(net: Model) -> None:
    found = net.run("visualise", None, "conv2:1 - conv2:0", steps=12, jitter=0, scale=0.0, rotate=0.0)
    assert found.rows[0]["score"] > found.rows[0]["start"]
    assert found.rows[0]["target"] == "channel 1 of conv2 - channel 0 of conv2"


@pytest.mark.parametrize("which", [name for name, other in OTHERS.items() if "saliency" not in other.refused])
def test_on_every_kind_of_input(which: str, tmp_path: Path) -> None:
    """Half of a target less twice the same is -1.5 times it; so is its gradient."""
    other = OTHERS[which]
    found = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    images = other.arrays(2)
    text = other.target or "1"
    single = found.run("saliency", images, text)
    both = found.run("saliency", images, f"0.5*{text} - 2*{text}")
    for name in ("score", single.main):
        expected = -1.5 * single.arrays[name].astype(np.float64)
        close = 1e-5 * np.abs(expected).max()  # float32
        np.testing.assert_allclose(both.arrays[name], expected, rtol=0, atol=close, err_msg=name)
