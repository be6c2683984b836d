"""Recordings: planted answers are found, nothing is lost, and shards do not show."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import convlens
from convlens.errors import ImageError, LayerError, OutputError, TargetError, UsageError
from convlens.model import Model
from convlens.recording import run as running
from convlens.recording import store
from convlens.recording.part import Part
from convlens.recording.plan import Followed, plan_of
from convlens.recording.reading import Recording
from convlens.recording.recorder import Recorder
from convlens.recording.run import record
from convlens.recording.seen import unpacked
from convlens.recording.source import Item, open_source
from convlens.recording.tables import read_channels, read_strongest
from convlens.runtime import ahead
from convlens_adapters.sources.numbered import Numbered
from reference import nets
from reference.others import Maker

SIDE = 12


def planted(path: Path, side: int | None = SIDE) -> Model:
    """Three channels: red, green and blue above one half; then their means, and two scores."""
    weight = np.eye(3, dtype=np.float32)[:, :, None, None]
    score = np.array([[1, 0, 0], [0, 1, 0]], np.float32).T
    stored = {"w": weight, "b": np.full(3, -0.5, np.float32), "s": score}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["before"]),
        helper.make_node("Relu", ["before"], ["colours"]),
        helper.make_node("GlobalAveragePool", ["colours"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["code"]),
        helper.make_node("MatMul", ["code", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, side or "H", side or "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return convlens.load(nets.saved(proto, path), threads=1, mean=[0.0], std=[1.0], range=[0.0, 1.0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photo i is dark but for one pixel a colour, the brighter the larger 7 i modulo 20; one is broken."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(20):
        array = np.zeros((SIDE, SIDE, 3), np.uint8)
        for colour in range(3):
            array[number % SIDE, colour + 1, colour] = 150 + 5 * ((7 * number + colour) % 20)
        below = folder / ("even" if number % 2 == 0 else "odd")
        below.mkdir(exist_ok=True)
        Image.fromarray(array).save(below / f"{number:02d}.png")
    (folder / "odd" / "99.png").write_bytes(b"no picture")
    return folder


def recorded(model: Model, photos: Path, folder: Path, **options: object) -> dict[str, bytes]:
    settings = {name: options.pop(name) for name in ("shard", "batch_size", "k") if name in options}
    plan = plan_of(model, **{"shard": 6, "batch_size": 4, "k": 3, **settings})  # type: ignore[arg-type]
    source = open_source([str(photos)], model.source, model.card)
    record(model, source, folder, plan, **options)  # type: ignore[arg-type]
    return files(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_planted_places_and_statistics_are_found(model: Model, photos: Path, tmp_path: Path) -> None:
    recorded(model, photos, tmp_path)
    images = pq.read_table(tmp_path / "images.parquet").to_pylist()
    assert [row["number"] for row in images] == list(range(21))
    assert {row["label"] for row in images} == {"even", "odd"}
    assert [row["name"] for row in images if row["reason"]] == ["odd/99.png"]
    drawn = {
        row["name"]: np.asarray(Image.open(photos / row["name"]).convert("RGB")) / 255
        for row in images
        if not row["reason"]
    }
    colours = {name: np.maximum(array - 0.5, 0) for name, array in drawn.items()}
    for row in images[:20]:
        mean = colours[row["name"]].mean(axis=(0, 1))
        np.testing.assert_allclose(row["feature"], mean, rtol=1e-5)
        assert row["class"] == mean[:2].argmax()
    assert images[20]["feature"] is None
    strongest = pq.read_table(tmp_path / "strongest.parquet").to_pylist()
    channels = pq.read_table(tmp_path / "channels.parquet").to_pylist()
    everything = np.stack(list(colours.values()))
    for channel in range(3):
        own = [row for row in strongest if row["channel"] == channel]
        best = sorted(colours, key=lambda name, c=channel: -colours[name][..., c].max())[:3]
        assert [row["name"] for row in own] == best
        for row in own:
            found = colours[row["name"]][..., channel]
            assert row["value"] == pytest.approx(found.max(), rel=1e-5)
            assert found[tuple(row["position"])] == found.max()
        told, values = channels[channel], everything[..., channel]
        assert told["images"] == 20
        assert told["values"] == values.size
        assert told["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert told["variance"] == pytest.approx(values.var(), rel=1e-4)
        assert told["maximum"] == pytest.approx(values.max(), rel=1e-6)
        assert told["zeros"] == (values == 0).sum()
        assert told["q50"] == pytest.approx(np.sort(values.max(axis=(1, 2)))[9], rel=0.1)


def test_shards_do_not_show(model: Model, photos: Path, tmp_path: Path) -> None:
    recorded(model, photos, tmp_path / "one", shard=100)
    recorded(model, photos, tmp_path / "many", shard=4)
    one = pq.read_table(tmp_path / "one" / "strongest.parquet")
    assert one.equals(pq.read_table(tmp_path / "many" / "strongest.parquet"))
    plan = plan_of(model, k=3)
    for a, b in zip(
        read_channels(tmp_path / "one" / "channels.parquet", plan.layers),
        read_channels(tmp_path / "many" / "channels.parquet", plan.layers),
        strict=True,
    ):
        for name, array in a.arrays().items():
            np.testing.assert_allclose(array, b.arrays()[name], rtol=1e-12, err_msg=name)


def test_tables_are_read_back_as_they_were(model: Model, photos: Path, tmp_path: Path) -> None:
    plan = plan_of(model, k=3, batch_size=4)
    source = open_source([str(photos)], model.source, model.card)
    (part,) = Recorder(model, plan).parts(source, [(0, 21)])
    record(model, source, tmp_path, plan)
    (tally,) = read_channels(tmp_path / "channels.parquet", plan.layers)
    (strongest,) = read_strongest(tmp_path / "strongest.parquet", plan.layers, 3)
    for name, array in part.tallies[0].arrays().items():
        np.testing.assert_array_equal(array, tally.arrays()[name], err_msg=name)
    for name, array in part.strongest[0].arrays().items():
        np.testing.assert_array_equal(array, strongest.arrays()[name], err_msg=name)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_how_many_work_at_once_does_not_show(
    workers: int, model: Model, photos: Path, tmp_path: Path
) -> None:
    usual = recorded(model, photos, tmp_path / "usual")
    assert recorded(model, photos, tmp_path / "other", run=running.locally(workers)) == usual


def test_cores_are_divided(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, card = plan_of(model), {"mean": [0.0], "std": [1.0], "range": [0.0, 1.0]}
    free = convlens.load(model.path, **card)
    for cores, workers, threads in ((1, 1, 1), (2, 2, 1), (8, 8, 1), (12, 8, 1), (64, 8, 8)):
        monkeypatch.setattr(ahead, "cores", lambda cores=cores: cores)
        found = Recorder(free, plan)
        assert (found.workers, found._runner.threads) == (workers, threads)
        assert Recorder(free, plan, 3)._runner.threads == threads  # which the last digits depend on
    assert free.runner.threads is None
    told = convlens.load(model.path, threads=16, **card)
    assert Recorder(told, plan).workers == 4
    assert Recorder(told, plan)._runner.threads == 16


def test_images_of_several_sizes(tmp_path: Path) -> None:
    model = planted(tmp_path, side=None)
    rng = np.random.default_rng(0)
    sides = [(5, 6), (5, 6), (8, 4), (5, 6), (3, 3), (3, 3), (8, 4)]
    arrays = [rng.random((3, *side), dtype=np.float32) for side in sides]
    source = Numbered("arrays", 7, lambda i: Item(f"{i}", None, lambda: arrays[i]), [])
    (part,) = Recorder(model, plan_of(model, k=7, batch_size=3)).parts(source, [(0, 7)])
    values = [np.maximum(array.astype(np.float64) - 0.5, 0) for array in arrays]
    for channel in range(3):
        own = [value[channel] for value in values]
        order = sorted(range(7), key=lambda i, own=own: -own[i].max())
        assert part.strongest[0].image[channel].tolist() == order
        places = unpacked(part.strongest[0].place[channel], 2)
        assert [own[i][y, x] for i, y, x in zip(order, *places, strict=True)] == [own[i].max() for i in order]
        flat = np.concatenate([one.reshape(-1) for one in own])
        assert part.tallies[0].values[channel] == flat.size
        assert part.tallies[0].mean[channel] == pytest.approx(flat.mean(), rel=1e-6)
        assert part.tallies[0].variance[channel] == pytest.approx(flat.var(), rel=1e-5)


@pytest.mark.parametrize("finished", [0, 1, 2, 3])
def test_what_stopped_goes_on_to_the_same_bytes(
    finished: int, model: Model, photos: Path, tmp_path: Path
) -> None:
    whole = recorded(model, photos, tmp_path / "whole")

    def stops(
        model: Model, plan: object, source: object, shards: Sequence[tuple[int, int]]
    ) -> Iterable[Part]:
        parts = Recorder(model, plan).parts(source, shards)  # type: ignore[arg-type]
        for _ in range(finished):
            yield next(parts)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(model, photos, tmp_path / "part", run=stops)
    assert not (tmp_path / "part" / "manifest.json").exists()
    with pytest.raises(OutputError, match="--resume goes on"):
        recorded(model, photos, tmp_path / "part")
    if finished:
        first = tmp_path / "part" / "shards" / "000000000000.npz"
        first.write_bytes(first.read_bytes()[:-20])  # a shard that the disk lost is done again
    assert recorded(model, photos, tmp_path / "part", resume=True) == whole


_CHILD = """
import sys
sys.path[:0] = {path!r}
import convlens
from pathlib import Path
from convlens.recording.plan import plan_of
from convlens.recording.run import record
from convlens.recording.seen import unpacked
from convlens.recording.source import Item, open_source
model = convlens.load({model!r}, threads=1, mean=[0.0], std=[1.0], range=[0.0, 1.0])
plan = plan_of(model, k=3, shard=2, batch_size=2)
record(model, open_source([{photos!r}], model.source, model.card), Path({folder!r}), plan, resume=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    model: Model, photos: Path, tmp_path: Path
) -> None:
    whole = recorded(model, photos, tmp_path / "whole", shard=2, batch_size=2)
    folder = tmp_path / "killed"
    code = _CHILD.format(
        path=[part for part in sys.path if part],
        model=str(model.path),
        photos=str(photos),
        folder=str(folder),
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None and not folder.exists():
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.15)))
        child.send_signal(signal.SIGKILL)
        child.wait()
    if not (folder / "manifest.json").exists():
        subprocess.run([sys.executable, "-c", code], check=True)
    left = {name: data for name, data in files_below(folder).items() if not name.startswith(".")}
    assert left == whole


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_job_is_refused(model: Model, photos: Path, tmp_path: Path) -> None:
    def stops(*given: object) -> Iterable[Part]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded(model, photos, tmp_path / "part", run=stops)
    with pytest.raises(OutputError, match=r"another recording unfinished \(plan differ\)"):
        recorded(model, photos, tmp_path / "part", k=5, resume=True)
    recorded(model, photos, tmp_path / "part", k=5, overwrite=True)
    with pytest.raises(OutputError, match="is not empty"):
        recorded(model, photos, tmp_path / "part", k=5, resume=True)


def test_a_full_disk_stops_it_and_it_goes_on(
    model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recorded(model, photos, tmp_path / "whole")
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OutputError, match=r"no space is left.*--resume"):
        recorded(model, photos, tmp_path / "part")
    monkeypatch.undo()
    assert not list((tmp_path / "part").rglob("*.tmp"))
    assert recorded(model, photos, tmp_path / "part", resume=True) == whole


def test_without_a_readable_image_nothing_is_written(model: Model, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / "bad" / f"{number}.png").write_bytes(b"no")
    with pytest.raises(ImageError, match="none of 3 items can be read and nothing was written"):
        recorded(model, tmp_path / "bad", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_are_checked_before_the_run(model: Model) -> None:
    with pytest.raises(LayerError, match="no layer 'colors'"):
        plan_of(model, ["colors"])
    assert [layer.alias for layer in plan_of(model, ["pooled"]).layers] == ["pooled"]


def test_a_model_without_channels_is_refused(tmp_path: Path) -> None:
    m = Maker()
    m.add("ReduceMax", "x", "largest", keepdims=0)
    found = convlens.load(nets.saved(m.model([2, 3, 4], "largest"), tmp_path), threads=1)
    with pytest.raises(LayerError, match="no layer of the model has channels that could be followed"):
        plan_of(found)


def test_the_manifest_says_how_it_was_made(model: Model, photos: Path, tmp_path: Path) -> None:
    recorded(model, photos, tmp_path)
    told = json.loads((tmp_path / "manifest.json").read_text())
    assert told["model"]["sha256"] == model.sha256
    assert told["source"]["count"] == 21
    assert (told["images"], told["unread"]) == (20, 1)
    assert running.MANIFEST == "manifest.json"


def test_a_recording_is_opened_and_asked(model: Model, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recording"):
        Recording.open(tmp_path)
    recorded(model, photos, tmp_path / "rec")
    found = Recording.open(tmp_path / "rec").of(model)
    assert [layer.alias for layer in found.layers] == ["colours"]
    assert found.feature is not None
    numbers, vectors = found.features()
    assert numbers.tolist() == list(range(20))
    rows = pq.read_table(tmp_path / "rec" / "images.parquet").to_pylist()
    np.testing.assert_array_equal(vectors, np.array([row["feature"] for row in rows[:20]], np.float32))
    assert found.images["name"].tolist() == [row["name"] for row in rows]
    with pytest.raises(LayerError, match="was not recorded"):
        found.layer("before")


def test_a_recording_of_another_model_is_refused(model: Model, photos: Path, tmp_path: Path) -> None:
    recorded(model, photos, tmp_path / "rec")
    other = convlens.load(
        nets.saved(nets.classifier(0, (3, SIDE, SIDE)).onnx(), tmp_path), mean=[0.0], std=[1.0], threads=1
    )
    with pytest.raises(UsageError, match=r"recorded from .*, not from"):
        Recording.open(tmp_path / "rec").of(other)
    again = convlens.load(model.path, threads=1, mean=[0.5], std=[1.0], range=[0.0, 1.0])
    with pytest.raises(UsageError, match="another card"):
        Recording.open(tmp_path / "rec").of(again)


def test_positions_count_every_axis_of_a_layer(tmp_path: Path) -> None:
    """Of N x channels x length x 1, where the last axis is none of space, positions still say where."""
    weight = np.ones((1, 1, 3, 1), np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["long"]),
        helper.make_node("Conv", ["long", "w"], ["wide"], pads=[1, 0, 1, 0]),
        helper.make_node("Relu", ["wide"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "long",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 9, 1])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([3]), "last")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    inputs = np.zeros((3, 1, 9), np.float32)
    for row, place in enumerate((2, 7, 5)):
        inputs[row, 0, place - 1 : place + 2] = 1 + row
    np.save(tmp_path / "inputs.npy", inputs)
    source = open_source([str(tmp_path / "inputs.npy")], model.source, model.card)
    record(model, source, tmp_path / "rec", plan_of(model, ["y"], k=3))
    table = pq.read_table(tmp_path / "rec" / "strongest.parquet").to_pylist()
    assert [(row["image"], row["value"], row["position"]) for row in table] == [
        (2, 9.0, [5, 0]),
        (1, 6.0, [7, 0]),
        (0, 3.0, [2, 0]),
    ]


def test_places_that_count_as_rows_are_not_taken_for_images(tmp_path: Path) -> None:
    """A reader of lines: behind its convolutions each column is a row of its own, one line at a time."""
    m = Maker()
    m.conv("x", "conv1", 4, 1, 3, 3)
    m.add("ReduceMean", "conv1_relu", "columns", axes=[2], keepdims=0)
    m.add("Transpose", "columns", "first", perm=[2, 0, 1])
    m.constant("flat", -1, 4)
    m.add("Reshape", "first flat", "rows")
    m.weight("letters_w", 4, 7)
    m.add("MatMul", "rows letters_w", "letters")
    path = nets.saved(m.model([1, 1, 6, "W"], "letters"), tmp_path)
    model = convlens.load(path, threads=1, kind="image")
    plan = plan_of(model)
    assert [layer.alias for layer in plan.layers] == ["conv1_relu"]
    assert plan.feature is not None
    assert plan.feature.alias == "columns"
    lines = np.random.default_rng(0).normal(size=(3, 1, 6, 9)).astype(np.float32)
    np.save(tmp_path / "lines.npy", lines)
    source = open_source([str(tmp_path / "lines.npy")], model.source, model.card)
    record(model, source, tmp_path / "rec", plan)
    assert len(Recording.open(tmp_path / "rec").features()[0]) == 3
    with pytest.raises(LayerError, match="'letters' does not count images along its first axis"):
        plan_of(model, ["letters"])
    np.save(tmp_path / "line.npy", lines[:1])
    one = open_source([str(tmp_path / "line.npy")], model.source, model.card)
    blind = replace(plan, layers=(Followed("rows", "rows", "Reshape", 4, 1, (), 0),))
    with pytest.raises(TargetError, match="'rows' is 9 x 4 for 1 input: its first axis is not the batch"):
        record(model, one, tmp_path / "other", blind)
