"""``fool`` and ``fool-from-noise`` where things are not as usual: no classes, no photos, no numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import convlens
from convlens.cli.app import run as command
from convlens.errors import TargetError
from convlens.images import read_image
from convlens.model import Model
from convlens.results import Result
from convlens.watch import STATES, Watch
from reference import nets
from reference.others import OTHERS

SHAPE = (3, 22, 17)
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1, "device": "cpu"}


def photos(count: int = 2) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 31, 3), np.uint8)) for _ in range(count)]


def small(folder: Path, **settings: Any) -> Model:
    return convlens.load(nets.saved(nets.classifier(0, SHAPE).onnx(), folder), **{**CARD, **settings})


def other(which: str, folder: Path) -> Model:
    made = OTHERS[which]
    return convlens.load(nets.saved(made.make(), folder), device="cpu", threads=1, **made.settings)


def test_a_class_is_reached_and_what_shows_it_already_is_left_alone(tmp_path: Path) -> None:
    model = small(tmp_path)
    seen = model.run("predict", photos(4), top=1).arrays["index"][:, 0]
    wanted = int(seen[0])
    result = model.run("fool", photos(4), wanted, epsilon=40.0)
    for index, row in enumerate(result.rows):
        assert row["target"] == row["after"] == f"class {wanted}"
        assert row["fooled"] == (seen[index] != wanted)
        if seen[index] == wanted:
            np.testing.assert_array_equal(result.array[index], result.arrays["clean"][index])
            assert row["steps"] == row["linf"] == 0
    notes = [found for found in convlens.methods()["fool"].findings(result) if found.level == "note"]
    assert [found.image for found in notes] == np.flatnonzero(seen == wanted).tolist()


def test_the_score_of_what_is_no_class_is_driven_up(tmp_path: Path) -> None:
    model = small(tmp_path)
    result = model.run("fool", photos(), "conv2:1", epsilon=4.0)
    assert result.arrays["linf"].max() <= 4
    for index, row in enumerate(result.rows):
        assert "fooled" not in row
        assert row["score after"] > row["score before"]
        x = model.preprocess.array(result.array[index : index + 1])
        value = model.runner.run({"input": x}, ["conv2"])["conv2"][0, 1].mean()
        np.testing.assert_allclose(row["score after"], value, rtol=1e-4)


@pytest.mark.parametrize("attack", ["deepfool", "carlini-wagner"])
def test_a_border_is_one_between_classes(attack: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=f"{attack} seeks the border between two classes") as caught:
        small(tmp_path).run("fool", photos(), "conv2:1", attack=attack)
    assert "\n" not in str(caught.value)


def test_a_curve_needs_classes(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="epsilons count the images that keep their class"):
        small(tmp_path).run("fool", photos(), "conv2:1", epsilons=(1.0, 2.0))


def test_a_model_without_classes_asks_for_a_target(tmp_path: Path) -> None:
    model = other("detector", tmp_path)
    with pytest.raises(TargetError, match=r"no class scores .*e\.g\. --target"):
        model.run("fool", OTHERS["detector"].arrays(1))
    result = model.run("fool", OTHERS["detector"].arrays(2), "boxes[0,:,4].max")
    assert (result.arrays["gained"] > 0).all()


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    layer = nets.dense(np.random.default_rng(0), 3 * 22 * 17, 1)
    path = nets.saved(nets.Net(SHAPE, (layer,)).onnx(end="Sigmoid"), tmp_path)
    with pytest.raises(TargetError, match="a single class") as caught:
        convlens.load(path, **CARD).run("fool", photos())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("which", "attack"),
    [(which, attack) for which in ("waveform", "volume", "planes", "board") for attack in ("pgd", "deepfool")]
    + [("vector", "fgsm"), ("vector", "carlini-wagner")],
)
def test_what_is_no_photo_is_changed_in_its_own_numbers(which: str, attack: str, tmp_path: Path) -> None:
    model, x = other(which, tmp_path), OTHERS[which].arrays(2)
    settings: dict[str, Any] = {"epsilon": 1.5} if attack in ("fgsm", "pgd") else {"steps": 50}
    result = model.run("fool", x, attack=attack, **settings)
    if attack in ("fgsm", "pgd"):
        assert result.arrays["linf"].max() <= 1.5 * (1 + 1e-6)
    delta = result.array - result.arrays["clean"]
    np.testing.assert_allclose(delta, result.arrays["difference"], rtol=0, atol=1e-6)
    assert any(row["fooled"] for row in result.rows) or attack == "fgsm"
    assert any("planes of a board" in text for text in result.how["warnings"]) == (which == "board")
    assert not result.hints.get("photos")


def not_finite(folder: Path) -> Model:
    """Scores of the logarithm of the input, whose slope is not finite where it is zero or less."""
    nodes = [
        helper.make_node("Log", ["x"], ["logs"]),
        helper.make_node("Gemm", ["logs", "w"], ["scores"], transB=1),
    ]
    stored = {"w": np.array([[1, 1, 0], [0, 0, 0.5]], np.float32)}
    path = nets.saved(nets.model_of(nodes, {"x": ["N", 3]}, ["scores"], stored), folder)
    return convlens.load(path, device="cpu", threads=1)


def test_numbers_that_are_not_finite_stop_one_row_and_are_told_of(tmp_path: Path) -> None:
    """The first input walks below zero, the second one holds enough; what was found before is kept."""
    x = np.array([[1.2, 1.2, 1.0], [30.0, 30.0, 1.0]])
    model = not_finite(tmp_path)
    result = model.run("fool", x, 0, epsilon=4.0, step_size=1.0, steps=6, allow_uncertified=True)
    assert np.isfinite(result.array).all()
    alone = model.run("fool", x[1:], 0, epsilon=4.0, step_size=1.0, steps=6, allow_uncertified=True)
    np.testing.assert_array_equal(alone.array[0], result.array[1])
    away = model.run("fool", x[:1], epsilon=4.0, step_size=1.0, until=1.0, steps=6, allow_uncertified=True)
    np.testing.assert_allclose(away.array[0, 0], [0.2, 0.2, 2.0], rtol=1e-6)
    assert away.rows[0]["fooled"]
    (finding,) = convlens.methods()["fool"].findings(away)
    assert "not finite" in finding.text
    assert finding.evidence == "at step 2"


def test_from_noise_the_class_is_seen_and_its_file_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small(tmp_path, crop=0.875)
    for start in ("noise", "grey"):
        result = model.run("fool-from-noise", target=2, start=start, until=0.95, step_size=3.0)
        row = result.rows[0]
        assert row["reached"]
        assert row["seen"] == "class 2"
        assert row["probability"] >= 0.95
        result.save(tmp_path / start)
        view = model.preprocess.view(read_image(tmp_path / start / "class-2.png"))
        np.testing.assert_array_equal(view, result.array[0])
        probability = model.run("predict", [Image.fromarray(result.arrays["picture_file"][0])], top=1).array
        assert probability[0, 0] == row["probability"]
    assert command(["fool-from-noise", str(model.path), "--target", "2", "--mean", "0.5", "--std", "0.2",
                    "--steps", "1", "-o", str(tmp_path / "out")]) == 0  # fmt: skip
    assert "not as sure as asked" in capsys.readouterr().out


def test_the_command_takes_its_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small(tmp_path)
    photos(1)[0].save(tmp_path / "a.png")
    given = ["--epsilons", "2", "--epsilons", "60", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3"]
    out = tmp_path / "out"
    assert command(["fool", str(model.path), str(tmp_path / "a.png"), *given, "-o", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert {"a-clean.png", "a-fooled.png", "fool-a.png", "fool-curves.png", "fool.json"} <= names
    assert "yes" in capsys.readouterr().out


@pytest.mark.slow
def test_the_bundled_classifier_reads_a_fooled_photo_back(tmp_path: Path) -> None:
    """Its card keeps 0.875 of the shorter side."""
    folder = Path(__file__).parents[2] / "models" / "photos"
    photo = folder / "chelsea.png"
    model = convlens.load("efficientnet-lite0", device="cpu")
    result = model.run("fool", [photo], "koala", epsilon=8.0)
    assert result.rows[0]["fooled"]
    both = model.run("fool", [folder / "coffee.png", photo], "koala", epsilon=8.0)
    np.testing.assert_array_equal(both.array[1], result.array[0])  # bit for bit, whoever is beside it
    result.save(tmp_path)
    back = model.run("predict", [tmp_path / "chelsea-clean.png", tmp_path / "chelsea-fooled.png"], top=1)
    assert [row["label"] for row in back.rows] == [result.rows[0]["before"], "koala"]
    assert [row["probability"] for row in back.rows] == [
        result.rows[0]["probability before"],
        result.rows[0]["probability after"],
    ]


def halved(folder: Path) -> Path:
    """The small classifier with numbers of half precision throughout."""
    proto = nets.classifier(0, SHAPE).onnx()
    for stored in proto.graph.initializer:
        array = numpy_helper.to_array(stored)
        if array.dtype == np.float32:
            stored.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return nets.saved(proto, folder, "half")


def quantised(folder: Path) -> Path:
    """A dense layer on pictures that are rounded to 32 levels first, which leaves no slope of its own."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["levels"]),
        helper.make_node("Flatten", ["levels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
    ]
    stored = {
        "step": np.array(0.25, np.float32),
        "zero": np.array(0, np.int8),
        "w": rng.normal(0, 0.05, (3, 3 * 22 * 17)).astype(np.float32),
    }
    proto = nets.model_of(nodes, {"input": ["N", *SHAPE]}, ["scores"], stored)
    return nets.saved(proto, folder, "quantised")


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "deepfool"])
@pytest.mark.parametrize("make", [halved, quantised])
def test_half_precision_and_quantised_models(make: Any, attack: str, tmp_path: Path) -> None:
    """What is said of the picture is what onnxruntime says of it."""
    model = convlens.load(make(tmp_path), **CARD)
    epsilon = {} if attack == "deepfool" else {"epsilon": 30.0}
    result = model.run("fool", photos(), attack=attack, **epsilon)
    again = model.run("predict", [Image.fromarray(view) for view in framed_of(result)], top=1)
    for row, told in zip(result.rows, again.rows, strict=True):
        assert row["fooled"]
        assert (row["after"], row["probability after"]) == (told["label"], told["probability"])
    assert ("straight-through" in result.how.get("gradients", "")) == (make is quantised)


def framed_of(result: Result) -> Any:
    return result.arrays.get("fooled_file", result.array)


def stopping(after: int) -> tuple[Watch, list[int]]:
    """A watch that asks for an end after so many steps."""
    seen: list[int] = []
    watch = Watch()

    def tell(_text: str) -> None:
        seen.append(1)
        watch.stopped = len(seen) >= after

    watch.tell = tell
    return watch, seen


def test_what_was_stopped_is_told_of_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convlens.watch._TOLD", 0.0)
    model, out = small(tmp_path), tmp_path / "out"
    settings: dict[str, Any] = {"steps": 6, "until": 1.0, "epsilon": 6.0}
    whole = model.run("fool", photos(3), batch_size=1, **settings)
    watch, _ = stopping(10)  # in the second of three groups
    watch.folder = out
    part = model.run("fool", photos(3), batch_size=1, watch=watch, **settings)
    np.testing.assert_array_equal(part.array[0], whole.array[0])
    np.testing.assert_array_equal(part.array[2], whole.arrays["clean"][2])
    assert [row["fooled"] for row in part.rows] == [True, part.rows[1]["fooled"], None]
    assert any("1 of 3 inputs were not come to" in text for text in part.how["warnings"])
    again = Watch(out, resume=True)
    rest = model.run("fool", photos(3), batch_size=1, watch=again, **settings)
    np.testing.assert_array_equal(rest.array, whole.array)
    assert rest.rows == whole.rows
    assert not (out / STATES).exists()


@pytest.mark.parametrize("attack", ["pgd", "deepfool", "carlini-wagner"])
def test_pictures_on_the_way_are_kept(attack: str, tmp_path: Path) -> None:
    watch = Watch(tmp_path / "out", frames=2)
    settings: dict[str, Any] = {"until": 1.0} if attack == "pgd" else {}
    small(tmp_path).run("fool", photos(2), attack=attack, steps=4, watch=watch, **settings)
    frames = sorted((tmp_path / "out" / "frames").glob("*.png"))
    assert frames or attack == "deepfool"  # which may be there before the first of them
    for frame in frames:
        with Image.open(frame) as picture:
            assert picture.size[1] == 22
