"""``patches``: planted things are found where they were put, and reconstructions equal the slow reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens import Recording, registry
from convlens.cli.app import run
from convlens.errors import LayerError, UsageError
from convlens.model import Model
from convlens.recording.plan import plan_of
from convlens.recording.run import record
from convlens.recording.source import open_source
from convlens.recording.strongest import patches as cutting
from convlens.results import Result
from reference import deconvnet, nets
from reference.recorded import recorded

SINGLE = 1e-5
"""Of the largest number: float32 against float64."""

HEIGHT, WIDTH = 30, 26
BAR = np.zeros((5, 5, 3), np.float64)
BAR[:, 2, 0] = 1.0  # a vertical line of red
CORNER = np.zeros((5, 5, 3), np.float64)
CORNER[0, :, 1] = CORNER[:, 0, 1] = 1.0  # green, open to the lower right
CROSS = np.zeros((5, 5, 3), np.float64)
CROSS[np.arange(5), np.arange(5), 2] = CROSS[np.arange(5), 4 - np.arange(5), 2] = 1.0  # blue
SHAPES = (BAR, CORNER, CROSS)


def detector() -> nets.Net:
    """A channel a shape, by a filter of its form that everything else lowers; pooled; then all three moved.

    Channel c of the second convolution reads channel 2 - c of the pooled first one at its middle.
    """
    first = np.zeros((3, 3, 5, 5), np.float32)
    for channel, shape in enumerate(SHAPES):
        on = np.moveaxis(shape, -1, 0)
        first[channel] = on / on.sum() - 0.5 * (1 - on) / (1 - on).sum()
    second = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        second[channel, 2 - channel, 1, 1] = 1.0
    low = np.full(3, -0.3, np.float32)
    layers = (
        nets.Conv(first, low, pad=2),
        nets.Relu(),
        nets.MaxPool(2, 2),
        nets.Conv(second, np.zeros(3, np.float32), pad=1),
        nets.Relu(),
    )
    return nets.Net((3, HEIGHT, WIDTH), layers)


Planted = dict[int, list[tuple[str, int, int]]]


def plant(folder: Path) -> Planted:
    """Photos of dim noise with one shape each; per shape the names, rows and columns, the brightest first."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    there: dict[int, list[tuple[int, str, int, int]]] = {0: [], 1: [], 2: []}
    for number in range(15):
        pixels = rng.integers(0, 40, (HEIGHT, WIDTH, 3))
        shape, bright = number % 3, 160 + 5 * ((number * 7) % 15)
        row, column = int(rng.integers(0, HEIGHT - 5)), int(rng.integers(0, WIDTH - 5))
        on = SHAPES[shape] > 0
        pixels[row : row + 5, column : column + 5][on] = bright
        name = f"{number:02d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        there[shape].append((bright, name, row, column))
    return {shape: [each[1:] for each in sorted(all_of, reverse=True)] for shape, all_of in there.items()}


def made(model: Model, given: list[str], folder: Path, **options: Any) -> Recording:
    plan = plan_of(model, **{"k": 4, "batch_size": 4, **options})
    record(model, open_source(given, model.source, model.card), folder, plan)
    return Recording.open(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Recording, Planted, Path]:
    root = tmp_path_factory.mktemp("planted")
    planted = plant(root / "photos")
    file = nets.saved(detector().onnx(), root, "detector")
    model = convlens.load(file, mean=[0.0], std=[1.0], range=[0.0, 1.0], threads=1)
    return model, made(model, [str(root / "photos")], root / "rec"), planted, root


@pytest.mark.parametrize("rule", ["deconvnet", "guided", "plain"])
def test_planted_shapes_are_found_and_reconstructed(rule: str, scene: Any) -> None:
    model, recording, planted, root = scene
    result = model.run("patches", recording=recording, channels=("relu1", "relu2"), rule=rule, order="number")
    assert result.arrays["layer"].tolist() == [0] * 3 + [1] * 3
    assert result.arrays["channel"].tolist() == [0, 1, 2] * 2
    assert result.arrays["patches_relu1"].shape == (3, 4, 5, 5, 3)
    assert result.arrays["patches_relu2"].shape == (3, 4, 10, 10, 3)
    files = sorted(path.name for path in (root / "photos").iterdir())
    for line in range(6):
        layer, channel = divmod(line, 3)
        shape = channel if layer == 0 else 2 - channel
        found = [files[number] for number in result.arrays["image"][line]]
        assert found == [name for name, _, _ in planted[shape]][:4]
        for rank, (name, row, column) in enumerate(planted[shape][:4]):
            photo = np.asarray(Image.open(root / "photos" / name))
            top, left, bottom, right = result.arrays["boxes"][line, rank]
            assert top <= row
            assert left <= column
            assert bottom >= row + 5
            assert right >= column + 5
            if layer == 0:
                assert (top, left, bottom, right) == (row, column, row + 5, column + 5)
            start = result.arrays["windows"][line, rank, :2]
            patch = result.arrays[f"patches_relu{layer + 1}"][channel, rank]
            within = tuple(
                slice(a - s, b - s) for a, b, s in zip((top, left), (bottom, right), start, strict=True)
            )
            np.testing.assert_array_equal(patch[within], photo[top:bottom, left:right])
            outside = np.ones(patch.shape[:2], bool)
            outside[within] = False
            assert (patch[outside] == 238).all()
            signal = result.arrays[f"reconstruction_relu{layer + 1}"][channel, rank]
            on = np.zeros(signal.shape, bool)
            at = slice(row - start[0], row - start[0] + 5), slice(column - start[1], column - start[1] + 5)
            on[(slice(None), *at)] = np.moveaxis(SHAPES[shape], -1, 0) > 0
            assert (signal[on] > 0).all()
            assert (signal[on] ** 2).sum() > 0.75 * (signal**2).sum()
            assert np.abs(signal[~on]).max() < signal[on].min()


@pytest.mark.parametrize("layer", ["relu1", "relu2"])
@pytest.mark.parametrize("rule", ["deconvnet", "guided", "plain"])
def test_reconstructions_equal_the_reference(layer: str, rule: Any, tmp_path: Path) -> None:
    """Windows by hand: 3 x 3 from one pixel before; behind pooling and a stride of 2, 8 x 8 from three."""
    net = nets.classifier(2)
    images = nets.pictures(2, 6, net.shape, np.float32)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    result = model.run("patches", recording=recorded(model, images, tmp_path), channels=(layer,), rule=rule)
    size, stride, before = {"relu1": (3, 1, 1), "relu2": (8, 4, 3)}[layer]
    part = net.until(layer)
    traces = [deconvnet.forward(part, image.astype(np.float64)) for image in images]
    patches, signals = result.arrays[f"patches_{layer}"], result.arrays[f"reconstruction_{layer}"]
    for line, channel in enumerate(result.arrays["channel"].tolist()):
        best = [float(trace.top[channel].max()) for trace in traces]
        order = [i for i in np.argsort([-value for value in best], kind="stable").tolist() if best[i] > 0][:4]
        assert result.arrays["image"][line].tolist() == order + [-1] * (4 - len(order))
        assert not signals[line, len(order) :].any()
        for rank, image in enumerate(order):
            assert abs(result.arrays["activation"][line, rank] - best[image]) < SINGLE * max(best)
            trace = traces[image]
            place = np.unravel_index(trace.top[channel].argmax(), trace.top.shape[1:])
            assert tuple(result.arrays["position"][line, rank]) == place
            signal = best[image] * deconvnet.unit(trace.top.shape, (channel, *map(int, place)))
            whole = deconvnet.backward(part, trace, signal, rule)
            around = ((0, 0), (size, size), (size, size))
            at = (
                slice(None),
                *(slice(size + stride * p - before, 2 * size + stride * p - before) for p in place),
            )
            wanted = np.pad(whole, around)[at]
            assert np.abs(whole).sum() == pytest.approx(np.abs(wanted).sum())  # nothing arrives elsewhere
            assert np.abs(signals[line, rank] - wanted).max() <= SINGLE * np.abs(wanted).max()
            assert patches.shape[2:] == (size, size, 3)


def test_colours_and_channels_last_do_not_change_what_is_seen(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 11, 9, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(tmp_path / "photos" / f"{number}.png")
    found = {}
    for nhwc in (False, True):
        file = nets.saved(nets.classifier(1).onnx(nhwc=nhwc), tmp_path, f"net{nhwc}")
        for colours in ("RGB", "BGR"):
            model = convlens.load(file, mean=[0.5], std=[0.3], channels=colours, threads=1)
            recording = made(model, [str(tmp_path / "photos")], tmp_path / f"{nhwc}{colours}")
            found[nhwc, colours] = model.run("patches", recording=recording, channels=("relu2:0", "relu1:1"))
    one = found[False, "RGB"]
    for colours in ("RGB", "BGR"):
        first, last = found[False, colours], found[True, colours]
        np.testing.assert_array_equal(first.arrays["patches_relu2"], last.arrays["patches_relu2"])
        moved = np.moveaxis(last.arrays["reconstruction_relu2"], -1, 2)
        np.testing.assert_allclose(first.arrays["reconstruction_relu2"], moved, atol=1e-6)
        for a, b in zip(first.pictures, last.pictures, strict=True):
            np.testing.assert_array_equal(np.asarray(a.image), np.asarray(b.image))
    (line, rank) = (0, 0)
    top, left, bottom, right = one.arrays["boxes"][line, rank]
    start = one.arrays["windows"][line, rank, :2]
    patch = one.arrays["patches_relu2"][line, rank][
        top - start[0] : bottom - start[0], left - start[1] : right - start[1]
    ]
    np.testing.assert_array_equal(patch, pixels[one.arrays["image"][line, rank], top:bottom, left:right])


def test_arrays_for_a_model_of_photos_are_shown_as_photos(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 11, 9, 3), np.uint8)
    file = nets.saved(nets.classifier(1).onnx(), tmp_path)
    known = convlens.load(file, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], channels="BGR", threads=1)
    arrays = known.preprocess.array(pixels)
    result = known.run(
        "patches", recording=recorded(known, arrays, tmp_path), channels="relu2:3", rule="none"
    )
    top, left, bottom, right = result.arrays["boxes"][0, 0]
    start = result.arrays["windows"][0, 0, :2]
    patch = result.arrays["patches_relu2"][0, 0]
    patch = patch[top - start[0] : bottom - start[0], left - start[1] : right - start[1]]
    np.testing.assert_array_equal(patch, pixels[result.arrays["image"][0, 0], top:bottom, left:right])
    bare = convlens.load(file, threads=1)
    result = bare.run("patches", recording=recorded(bare, arrays, tmp_path), channels="relu2:3", rule="none")
    assert result.arrays["patches_relu2"].dtype == np.uint8


def test_unknown_layers_and_channels_are_refused_before_an_image_is_read(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recording, _, _ = scene
    monkeypatch.setattr(Recording, "batch", lambda *_: pytest.fail("an image was read"))
    for text, words in {
        "conv1:0": "layer 'conv1' was not recorded.*recorded are relu1, relu2",
        "relu1:3": "layer 'relu1' has no channel 3; it has channels 0 to 2",
        "relu2:0,-1": "no channel -1",
        "relu2:red": "'relu2:red' names no channel; expected a number",
        "relu2:": "names no channel",
        "": "layer '' was not recorded",
    }.items():
        with pytest.raises(LayerError, match=words) as caught:
            model.run("patches", recording=recording, channels=("relu1:0", text))
        assert "\n" not in str(caught.value)


def test_channels_keep_the_order_in_which_they_were_asked_for(scene: Any) -> None:
    model, recording, _, _ = scene
    asks = ("relu2:2", "relu1:1,0", "relu2:0,2")
    result = model.run("patches", recording=recording, channels=asks, rule="none", top=1)
    assert result.arrays["layer"].tolist() == [1, 1, 0, 0]
    assert result.arrays["channel"].tolist() == [2, 0, 1, 0]
    assert [sheet["layer"] for sheet in result.hints["sheets"]] == ["relu2", "relu1"]
    assert not [name for name in result.arrays if name.startswith("reconstruction")]
    assert [(row["layer"], row["channel"]) for row in result.rows] == [
        ("relu2", 2), ("relu2", 0), ("relu1", 1), ("relu1", 0),
    ]  # fmt: skip


def test_a_layer_as_a_whole_and_what_is_left_out(scene: Any) -> None:
    model, recording, _, _ = scene
    method = registry.method("patches")
    result = model.run("patches", recording=recording, channels="relu2", limit=2, order="strongest")
    strongest = np.argsort(-recording.strongest[1].value[:, 0])[:2]
    assert result.arrays["channel"].tolist() == strongest.tolist()
    (finding,) = method.findings(result)
    assert finding.text == "2 of the 3 channels of relu2 are shown, those with the largest activations."
    assert finding.evidence == "--limit 3 shows all of them"
    whole = model.run("patches", recording=recording, channels="relu1", rule="none")
    assert method.findings(whole) == []
    (picture,) = whole.pictures
    assert all(f"channel {channel}: " in picture.alt for channel in range(3))
    usual = model.run("patches", recording=recording, top=1)  # they see 5 and 10 of 26 pixels
    assert [sheet["layer"] for sheet in usual.hints["sheets"]] == ["relu1", "relu2"]


def test_the_most_selective_channel_comes_first(tmp_path: Path) -> None:
    """Channel 0 is large everywhere, channel 1 rarely, channel 2 on one image alone, channel 3 never."""
    weight = np.zeros((4, 3, 1, 1), np.float32)
    weight[0, 0, 0, 0], weight[1, 1, 0, 0], weight[2, 2, 0, 0] = 100.0, 1.0, 1.0
    net = nets.Net((3, 6, 7), (nets.Conv(weight, np.zeros(4, np.float32)), nets.Relu()))
    images = np.zeros((6, 3, 6, 7), np.float32)
    images[:, 0] = np.random.default_rng(0).uniform(0.9, 1, (6, 6, 7))
    images[:, 1, 3, 2] = np.arange(1, 7)
    images[2, 2, 4, 4] = 9.0
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    recording = recorded(model, images, tmp_path)
    result = model.run("patches", recording=recording, channels="relu1", top=3)
    assert result.arrays["channel"].tolist() == [1, 0, 2, 3]
    assert result.arrays["image"][0].tolist() == [5, 4, 3]
    assert result.arrays["image"][2:].tolist() == [[2, -1, -1], [-1, -1, -1]]
    silent, filters = registry.method("patches").findings(result)
    assert silent.text == "Channel 3 of relu1 is above zero on no image."
    assert silent.evidence == "images: 6"
    assert filters.text.startswith("No max pooling lies before relu1")
    assert "channel 2: 9; channel 3: silent" in result.pictures[0].alt


def test_channels_that_all_saturate_are_told_of(tmp_path: Path) -> None:
    from onnx.helper import make_node

    nodes = [
        make_node("Conv", ["input", "w"], ["before"]),
        make_node("Clip", ["before", "lo", "hi"], ["six"]),
    ]
    stored: dict[str, NDArray[Any]] = {
        "w": np.ones((1, 1, 3, 3), np.float32), "lo": np.float32(0), "hi": np.float32(6),
    }  # fmt: skip
    proto = nets.model_of(nodes, {"input": ["N", 1, 8, 8]}, ["six"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    images = np.abs(nets.pictures(0, 5, (1, 8, 8), np.float32)) + 1
    result = model.run("patches", recording=recorded(model, images, tmp_path), rule="plain")
    assert result.arrays["image"].tolist() == [[0, 1, 2, 3]]
    findings = registry.method("patches").findings(result)
    assert findings[0].text.startswith("All places of channel 0 of six are equally strong")
    assert findings[0].evidence == "activation 6"
    np.testing.assert_array_equal(
        result.arrays["reconstruction_six"], np.full((1, 4, 1, 3, 3), 6, np.float32)
    )


def test_images_that_changed_since_are_told_of(tmp_path: Path) -> None:
    net = nets.classifier(2)
    images = nets.pictures(2, 6, net.shape, np.float32)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1)
    (tmp_path / "data").mkdir()
    for number, image in enumerate(images):
        np.save(tmp_path / "data" / f"{number}.npy", image[None])
    recording = made(model, [str(tmp_path / "data")], tmp_path / "rec")
    same = model.run("patches", recording=recording, channels="relu2:0", rule="none")
    assert same.how["warnings"] == []
    np.testing.assert_allclose(same.arrays["again"], same.arrays["activation"], rtol=1e-5)
    first = int(same.arrays["image"][0, 0])
    np.save(tmp_path / "data" / f"{first}.npy", images[first][None] * 0.5)  # the same name and size
    other = model.run("patches", recording=Recording.open(tmp_path / "rec"), channels="relu2:0", rule="none")
    (text,) = other.how["warnings"]
    assert text.startswith("1 of 3 places of relu2 are not what was recorded, so images have changed since")
    assert f"{first}.npy gave channel 0" in text
    assert (other.arrays["again"] != same.arrays["again"]).sum() == 1


def test_images_of_several_sizes(tmp_path: Path) -> None:
    """Units that see 3 x 3, and units that see everything, whose patches are filled up at their ends."""
    from onnx.helper import make_node

    rng = np.random.default_rng(0)
    nodes = [
        make_node("Conv", ["input", "w"], ["conv"], pads=[1] * 4),
        make_node("Relu", ["conv"], ["relu"]),
        make_node("GlobalAveragePool", ["relu"], ["mean"]),
        make_node("Conv", ["mean", "v"], ["dense"]),
        make_node("Relu", ["dense"], ["all"]),
    ]
    stored = {"w": rng.normal(size=(2, 1, 3, 3)).astype("f4"), "v": np.ones((1, 2, 1, 1), np.float32)}
    proto = nets.model_of(nodes, {"input": ["N", 1, "H", "W"]}, ["all"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), kind="image", threads=1)
    sizes = [(6, 7), (9, 5), (6, 7), (4, 8)]
    (tmp_path / "data").mkdir()
    arrays = [np.abs(rng.normal(size=(1, 1, *size))).astype(np.float32) for size in sizes]
    for number, array in enumerate(arrays):
        np.save(tmp_path / "data" / f"{number}.npy", array)
    recording = made(model, [str(tmp_path / "data")], tmp_path / "rec")
    result = model.run("patches", recording=recording, channels=("relu:0", "all:0"), batch_size=3)
    assert result.arrays["patches_relu"].shape == (1, 4, 1, 3, 3)
    assert result.arrays["patches_all"].shape == (1, 4, 1, 9, 8)
    for rank, number in enumerate(result.arrays["image"][1].tolist()):
        height, width = sizes[number]
        assert result.arrays["boxes"][1, rank].tolist() == [0, 0, height, width]
        patch = result.arrays["patches_all"][0, rank, 0]
        np.testing.assert_array_equal(patch[:height, :width], arrays[number][0, 0])
        assert not patch[height:].any()
        assert not patch[:, width:].any()


def test_each_image_is_read_once_and_patches_are_bounded(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, recording, _, _ = scene
    real, numbers = Recording.batch, []

    def counted(self: Recording, model: Model, wanted: list[int]) -> Any:
        numbers.extend(wanted)
        return real(self, model, wanted)

    monkeypatch.setattr(Recording, "batch", counted)
    result = model.run("patches", recording=recording, channels=("relu1", "relu2"), batch_size=2)
    assert sorted(numbers) == sorted(set(result.arrays["image"].reshape(-1).tolist()))
    monkeypatch.setattr(cutting, "_MOST", 12 * 75 * 5 - 1)
    with pytest.raises(UsageError, match=r"12 patches of relu1 need .* GiB.*fewer channels"):
        model.run("patches", recording=recording, channels="relu1")
    assert isinstance(model.run("patches", recording=recording, channels="relu1", rule="none"), Result)


def test_patches_alone_need_no_torch(scene: Any) -> None:
    _, recording, _, root = scene
    code = f"""
import sys
from convlens import Recording
from convlens.recording.strongest.patches import cut_out, places
import numpy as np
recording = Recording.open({str(recording.folder)!r})
model = recording.model({str(root / "detector.onnx")!r}, threads=1)
found = places(recording, 1, model.layers.find("relu2"), np.arange(3), 4)
cut_out(model, recording, [found], None, 4)
assert found.patches.shape == (3, 4, 10, 10, 3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_many_channels_stand_on_several_sheets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    net = nets.Net((3, 12, 12), (nets.conv(rng, 3, 90, 3), nets.Relu()))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, mean=[0.5] * 3, std=[0.2] * 3)
    images = nets.pictures(0, 6, (3, 12, 12), np.float32)
    recording = recorded(model, images, tmp_path)
    result = model.run("patches", recording=recording, channels="relu1", rule="none")
    assert len(result.arrays["channel"]) == 90
    assert [picture.name for picture in result.pictures] == ["relu1", "relu1-2"]
    assert all(max(picture.image.size) <= 2048 for picture in result.pictures)
    assert "sheet 2 of 2" in result.pictures[1].caption
    assert len(model.run("patches", recording=recording, channels="relu1", top=1).arrays["channel"]) == 9


def test_the_command(scene: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, recording, planted, _ = scene
    given = ["patches", str(recording.folder), "relu1:0", "relu2", "--top", "2", "-o", str(tmp_path / "out")]
    assert run([*given, "--json", "--threads", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in told["rows"][:2]] == [name for name, _, _ in planted[0]][:2]
    assert {Path(file).name for file in told["files"]} == {
        "patches.json", "patches.npz", "patches-relu1.png", "patches-relu2.png",
    }  # fmt: skip
    assert run(["patches", str(recording.folder), "relu9:0"]) == 2
    assert "layer 'relu9' was not recorded" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["deconvnet", "guided", "plain"])
def test_units_that_share_a_backward_do_not_meet(
    rule: str, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer backwards than units are made, and each unit sends what it sends alone."""
    model, _, _, root = scene
    images = nets.pictures(5, 3, (3, HEIGHT, WIDTH), np.float32)
    recording = recorded(model, images, root / "noise")
    asks = {"channels": ("relu1", "relu2"), "rule": rule, "recording": recording}
    made: list[int] = []
    real = cutting.together

    def counted(*given: Any) -> list[list[int]]:
        found = real(*given)
        made.append(len(found))
        return found

    monkeypatch.setattr(cutting, "together", counted)
    some = model.run("patches", **asks)
    units = int((some.arrays["image"] >= 0).sum())
    assert sum(made) < 0.7 * units
    monkeypatch.setattr(cutting, "together", lambda boxes, *_: [[unit] for unit in range(len(boxes))])
    alone = model.run("patches", **asks)
    for name, array in alone.arrays.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(some.arrays[name], array, rtol=0, atol=1e-6 * scale, err_msg=name)


def test_what_is_not_known_exactly_shares_nothing() -> None:
    from dataclasses import replace

    from convlens.attribution.layerwise.projected import together
    from convlens.graph.layers import Layer, ReceptiveField

    field = ReceptiveField((3, 3), (1.0, 1.0), (-1.0, -1.0))
    layer = Layer("x", "x", "Conv", "conv", None, 0, None, field, 1, (2, 3))
    boxes = np.array([[0, 0, 3, 3], [3, 0, 6, 3], [2, 2, 5, 5], [0, 0, 3, 3], [0, 9, 3, 12]])
    image = np.array([0, 0, 0, 1, 0])
    assert together(boxes, image, layer) == [[0, 1, 4], [2], [3]]
    for unknown in (replace(field, exact=False), replace(field, size=(3, None)), None):
        assert together(boxes, image, replace(layer, field=unknown)) == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("how", ["zero", "nan", "some nan", "some inf"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 40, 2), (5, 7)])
def test_pictures_bear_any_number(how: str, shape: tuple[int, ...]) -> None:
    signal = np.random.default_rng(0).normal(size=(2, 3, *shape)).astype(np.float32)
    flat = signal.reshape(-1)
    if how == "some inf":
        flat[::3], flat[1::3] = np.inf, -np.inf
    else:
        flat[:: 1 if how in ("zero", "nan") else 3] = 0 if how == "zero" else np.nan
    arrays: dict[str, NDArray[Any]] = {
        "activation": np.array([[3.0, 2.0, 0.0], [0.0, 0.0, 0.0]]),
        "image": np.array([[0, 1, -1], [-1, -1, -1]]),
        "channel": np.array([4, 2]),
        "p": np.zeros((2, 3, *shape[-2:], 3), np.uint8),
        "r": signal,
    }
    sheet = {"layer": "relu1", "patches": "p", "reconstruction": "r", "first": 0, "after": 2}
    hints = {
        "layout": "NHW" if len(shape) == 2 else "NCHW",
        "channels": "RGB",
        "images": 2,
        "sheets": [sheet],
    }
    units = dict.fromkeys(arrays, "numbers")
    (photo,) = Result("drawn", "patches", "activation", arrays, units, hints=hints).pictures
    assert photo.alt.endswith("channel 4: 3 to 2; channel 2: silent.")
    if len(shape) == 2:
        return
    info = {"kind": "image", "layout": "NCHW", "channel": 1, "spatial": [2, 3], "axes": ["rows", "columns"]}
    planes = {**arrays, "p": np.zeros_like(signal)}
    drawn = Result(
        "drawn", "patches", "activation", planes, units, hints={**hints, "input": {**info, "rate": None}}
    )
    assert [picture.name for picture in drawn.pictures] == ["relu1-4", "relu1-2"]
