"""Planted trainings come out as they were planted; numbers agree with slow references."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

import convlens
from convlens.evolution import evolve
from convlens.evolution.gathered import gather
from convlens.evolution.passing import passed
from convlens.recording.source import open_source
from convlens.results import Result
from evolution import trainings
from reference import cka, deconvnet
from reference.nets import classifier, pictures, saved

CLOSE = 1e-5
"""Float32 of onnxruntime and PyTorch, over the largest magnitude."""


def course(paths: list[Path], images: Path, **options: object) -> Result:
    first = convlens.load(paths[0], device="cpu", threads=1)
    return evolve(first, paths[1:], [str(images)], **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = trainings.from_red_to_green(tmp_path_factory.mktemp("planted"))
    paths = [folder / f"net-e{epoch}.onnx" for epoch in (1, 2, 10)]
    return course(paths, trainings.data(folder))


def test_the_strongest_patch_jumps_as_planted(planted: Result) -> None:
    rows = {row["channel"]: row for row in planted.hints["tables"]["followed"]}
    assert planted.hints["checkpoints"] == ["e1", "e2", "e10"]
    assert rows[0]["layer"] == "relu1"
    assert rows[0]["image"] == ["data.npz:0", "data.npz:1", "data.npz:1"]
    assert rows[0]["position"] == [[2, 5], [6, 1], [6, 1]]
    assert rows[0]["activation"] == pytest.approx([1.0, 2.0, 3.0])
    assert rows[0]["jumps"] == ["e2"]
    assert rows[1]["image"] == ["data.npz:2"] * 3
    assert rows[1]["jumps"] == []
    (jumps,) = planted.hints["tables"]["jumps"]
    assert jumps["share"][1:] == [0.5, 0.0]
    jumped = [finding for finding in planted.hints["findings"] if "suddenly" in finding["text"]]
    assert [finding["evidence"] for finding in jumped] == ["relu1:0 at e2"]


def test_reconstructions_are_the_filters_where_the_patch_lies(planted: Result) -> None:
    rows = [row["channel"] for row in planted.hints["tables"]["followed"]]
    expected = np.zeros((3, 3, trainings.SIDE, trainings.SIDE))
    expected[0, 0, 2, 5] = 1 * 1  # activation times weight
    expected[1, 1, 6, 1] = 2 * 2
    expected[2, 1, 6, 1] = 3 * 3
    assert np.allclose(planted.array[rows.index(0)], expected, rtol=0, atol=CLOSE * 9)
    assert planted.arrays["boxes"][rows.index(0)].tolist() == [[2, 5, 3, 6], [6, 1, 7, 2], [6, 1, 7, 2]]
    shown = planted.arrays["views"][planted.arrays["image"][rows.index(0), 1]]
    assert np.array_equal(shown, trainings.photos()[1])


def test_accuracy_and_probabilities_by_hand(planted: Result) -> None:
    counts = np.array([6, 4, 2]) / 12  # of the labels; e1 says class 0 of all, e2 class 1, e10 class 2
    assert planted.arrays["accuracy"] == pytest.approx(counts)
    likely, other = math.e / (math.e + 2), 1 / (math.e + 2)
    assert planted.arrays["truth"] == pytest.approx(counts * likely + (1 - counts) * other, abs=1e-6)
    assert planted.arrays["surest"] == pytest.approx([likely] * 3, abs=1e-6)


def test_scores_that_are_the_same_for_all_images_have_no_cka(planted: Result) -> None:
    scores = next(row for row in planted.rows if row["layer"] == "dense1")
    assert np.isnan(scores["cka"]).all()
    assert scores["settles"] is None
    assert planted.arrays["settles"].tolist()[-1] == -1
    assert any(text.startswith("dense1: at some checkpoint the same") for text in planted.how["warnings"])


def test_a_planted_settling(tmp_path: Path) -> None:
    """Filters that turn together are the same features; a layer above them settles later."""
    rng = np.random.default_rng(0)
    red, rest = [trainings.RED, (0.5, 0.0, 0.0)], [trainings.GREEN, trainings.BLUE]
    turned = np.array([[0.6, 0.8], [-0.8, 0.6]]) @ np.array(rest)
    dense = [rng.normal(0, 1, (3, 32)).astype(np.float32) for _ in range(3)]
    nets = [
        trainings.net(filters, weight, (0, 0, 0))
        for filters, weight in (
            (red, dense[0]),
            (turned.tolist(), dense[1]),
            (rest, dense[2]),
            (rest, dense[2]),
        )
    ]
    paths = [trainings.kept(tmp_path, f"net-{number}", net) for number, net in enumerate(nets)]
    found = course(paths, trainings.data(tmp_path), layers=["conv1", "dense1"])
    conv1, dense1 = found.rows
    assert conv1["cka"][1:] == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    assert conv1["cka"][0] < 0.95
    assert (conv1["settles"], dense1["settles"]) == ("1", "2")
    assert found.hints["findings"][0]["text"] == "Layers settle from the bottom up."
    filters = {row["layer"]: row for row in found.hints["tables"]["filters"]}
    assert filters["conv1"]["cosine_last"] == pytest.approx([0, 0.6, 1, 1], abs=1e-6)
    # rows (0.6, 0.8) - (1, 0) and (-0.8, 0.6) - (0, 1) over two rows of length 1
    assert filters["conv1"]["change_last"][1] == pytest.approx(math.sqrt(2 * (0.16 + 0.64) / 2), abs=1e-6)
    assert filters["conv1"]["change_first"][2] == pytest.approx(math.sqrt((2 + 1.25) / 1.25), abs=1e-6)
    assert any(text.startswith("the same file twice: 2 and 3") for text in found.how["warnings"])


def values(path: Path, images: np.ndarray, name: str) -> np.ndarray:
    """A value of a file for all images, by onnxruntime with that value as a further output."""
    import onnx

    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([name], {"input": images})[0]
    return found.reshape(len(images), -1).astype(np.float64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, np.ndarray, list[object]]:
    """Three nets that were never trained, and images as arrays."""
    folder = tmp_path_factory.mktemp("nets")
    nets = [classifier(seed) for seed in (1, 2, 3)]
    paths = [saved(net.onnx(), folder, f"net{number}") for number, net in enumerate(nets)]
    images = pictures(5, 14, nets[0].shape, np.float32)
    np.savez(folder / "inputs.npz", inputs=images)
    return paths, folder / "inputs.npz", images, list(nets)


def test_likeness_is_that_of_the_values_of_onnxruntime(trained: tuple) -> None:  # type: ignore[type-arg]
    paths, data, images, _ = trained
    found = course(paths, data, layers=["relu1", "relu2"], batch_size=4)
    for row, name in enumerate(("relu1", "relu2")):
        held = [values(path, images, name) for path in paths]
        last = [cka.cka(one, held[-1]) for one in held]
        before = [cka.cka(one, other) for one, other in zip(held[1:], held[:-1], strict=True)]
        assert found.arrays["cka_last"][row] == pytest.approx(last, abs=CLOSE)
        assert found.arrays["cka_before"][row, 1:] == pytest.approx(before, abs=CLOSE)
        assert np.isnan(found.arrays["cka_before"][row, 0])


def test_units_and_reconstructions_are_those_of_the_slow_deconvnet(trained: tuple) -> None:  # type: ignore[type-arg]
    paths, data, images, nets = trained
    found = course(paths, data, channels=["relu2:1,0"], batch_size=5)
    rows = found.hints["tables"]["followed"]
    assert [(row["layer"], row["channel"]) for row in rows] == [("relu2", 1), ("relu2", 0)]
    for column, net in enumerate(nets):
        cut = net.until("relu2")
        traces = [deconvnet.forward(cut, image) for image in images]
        for row, channel in enumerate((1, 0)):
            best = max(range(len(images)), key=lambda i: float(traces[i].top[channel].max()))
            top = traces[best].top
            if not top[channel].max() > 0:
                assert rows[row]["image"][column] is None
                assert not found.array[row, column].any()
                continue
            place = np.unravel_index(top[channel].argmax(), top[channel].shape)
            assert rows[row]["image"][column] == f"inputs.npz:{best}"
            assert rows[row]["position"][column] == list(place)
            signal = np.zeros(top.shape)
            signal[(channel, *place)] = top[(channel, *place)]
            expected = deconvnet.backward(cut, traces[best], signal, "deconvnet")
            largest = np.abs(expected).max()
            assert np.abs(found.array[row, column] - expected).max() <= CLOSE * largest


def test_what_is_held_at_once_and_the_batch_change_nothing(trained: tuple) -> None:  # type: ignore[type-arg]
    paths, data, _, _ = trained
    model = convlens.load(paths[0], device="cpu", threads=1)
    layers = [model["relu1"], model["relu2"]]
    given = gather(model, open_source([str(data)], model.source, model.card), 512, 0)
    whole = passed(model, given, layers, layers, 14)
    for batch, held in ((3, 14 * 50), (1, 1), (5, 14 * 700)):
        parts = passed(model, given, layers, layers, batch, held=held)
        for one, other in zip(whole.grams, parts.grams, strict=True):
            assert np.abs(one.matrix - other.matrix).max() <= CLOSE * np.abs(one.matrix).max()
        for one, other in zip(whole.peaks, parts.peaks, strict=True):
            assert np.array_equal(one.place, other.place)


@pytest.mark.parametrize("batch", [4, 1])
def test_a_file_that_prescribes_its_batch_gives_the_same(
    batch: int,
    trained: tuple,  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    paths, data, _, nets = trained
    fixed = [saved(net.onnx(batch), tmp_path, f"net{number}") for number, net in enumerate(nets)]
    free, found = course(paths, data), course(fixed, data)
    assert np.abs(found.arrays["cka_last"] - free.arrays["cka_last"]).max() <= CLOSE
    assert np.array_equal(found.arrays["image"], free.arrays["image"])
    assert np.abs(found.array - free.array).max() <= CLOSE * np.abs(free.array).max()


def test_a_training_that_diverged_is_told(trained: tuple, tmp_path: Path) -> None:  # type: ignore[type-arg]
    paths, data, _, nets = trained
    model = nets[1].onnx()
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "conv2_b"]
    numbers = numpy_helper.to_array(bias).copy()
    numbers[0] = np.nan
    bias.CopyFrom(numpy_helper.from_array(numbers, "conv2_b"))
    broken = saved(model, tmp_path, "net1")
    found = course([paths[0], broken, paths[2]], data)
    rows = {row["layer"]: row["cka"] for row in found.rows}
    assert np.isfinite(rows["relu1"]).all()
    assert np.isnan(rows["relu2"]).tolist() == [False, True, False]
    (told,) = [text for text in found.how["warnings"] if "weights that are not finite" in text]
    assert "net1: " in told
    assert np.isfinite(found.array).all()


def test_images_are_drawn_from_every_part_of_the_data_set(tmp_path: Path) -> None:
    net = classifier(1)
    model = convlens.load(saved(net.onnx(), tmp_path), device="cpu", threads=1)
    np.savez(tmp_path / "many.npz", inputs=pictures(1, 100, net.shape, np.float32))
    source = open_source([str(tmp_path / "many.npz")], model.source, model.card)
    drawn = [int(name.split(":")[1]) for name in gather(model, source, 10, 0).names]
    assert [number // 10 for number in drawn] == list(range(10))
    assert drawn != [int(name.split(":")[1]) for name in gather(model, source, 10, 1).names]
    assert len(gather(model, source, 512, 0)) == 100


def test_it_is_saved_and_drawn_when_it_is_read_back(planted: Result, tmp_path: Path) -> None:
    planted.save(tmp_path, pictures=False)
    again = Result.load(tmp_path, "evolve")
    assert np.array_equal(again.array, planted.array)
    drawn = {picture.name: picture for picture in again.pictures}
    assert list(drawn) == [
        "relu1",
        *(f"curves-{part}" for part in ("features", "weights", "channels", "classes")),
    ]
    told = drawn["relu1"].alt
    assert "Channel 0: another image at e2, strongest for data.npz:1 at the end." in told
    assert "Channel 1: the same image throughout, strongest for data.npz:2 at the end." in told
    assert "1 at e10" in drawn["curves-features"].alt
    page = np.asarray(drawn["relu1"].image)
    jumps = (page == (213, 94, 0)).all(axis=2)
    assert jumps.any(axis=0).sum() == 2  # one bar, two pixels wide
