"""States of an agent: what is known of each is recorded, and a data set is recorded on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import convlens
from convlens import Recording, registry
from convlens.cli.app import run
from convlens.errors import UsageError
from convlens.recording.plan import plan_of
from convlens.recording.run import Run, locally, record
from convlens.recording.source import open_source
from convlens.registry import Job, Method, Paper, Parameters
from convlens.results import Result
from reference import catch, nets


class Tell(Method[Parameters]):
    """How many images were recorded."""

    name = "tell-recorded"
    summary = "how many images were recorded"
    paper = Paper("Nobody 2020", link="https://example.org")
    kind = "ranking"
    images = False
    recording = "must"

    def run(self, job: Job[Parameters]) -> Result:
        """Count."""
        count = np.array([job.recorded.manifest["images"]])
        rows = ({"images": int(count[0]), "folder": str(job.recorded.folder)},)
        return Result(self.name, self.kind, "count", {"count": count}, {"count": "images"}, rows=rows)


@pytest.fixture
def known() -> Iterator[None]:
    registry.methods()
    registry.register(Tell)
    yield
    del registry._METHODS[Tell.name]


def test_values_are_recorded_beside_the_best_action(tmp_path: Path) -> None:
    file, states = catch.saved(tmp_path)
    model = convlens.load(file, threads=1)
    source = open_source([str(states)], model.source, model.card)
    record(model, source, tmp_path / "rec", plan_of(model))
    recording = Recording.open(tmp_path / "rec")
    assert list(recording.values) == ["value", "row", "outcome"]
    found = catch.states()
    np.testing.assert_array_equal(recording.values["value"], catch.values(found))
    np.testing.assert_array_equal(recording.values["row"], found[:, 0])
    assert set(recording.values["outcome"]) == {"caught", "lost"}
    np.testing.assert_array_equal(recording.images["class"].astype(int), catch.actions(found))
    _, vectors = recording.features()
    away = found[:, 1] - found[:, 2]
    np.testing.assert_array_equal(vectors, np.stack([np.maximum(-away, 0), np.maximum(away, 0)], axis=1))
    columns = pq.read_schema(tmp_path / "rec" / "images.parquet")
    assert [str(columns.field(f"value.{name}").type) for name in recording.values] == [
        "double",
        "double",
        "string",
    ]


def test_a_recording_without_values_has_none(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(catch.player(), tmp_path), threads=1)
    np.savez(tmp_path / "set.npz", catch.screens(catch.states()[:3]))
    source = open_source([str(tmp_path / "set.npz")], model.source, model.card)
    manifest = record(model, source, tmp_path / "rec", plan_of(model))
    assert "columns" not in manifest["source"]
    assert Recording.open(tmp_path / "rec").values == {}


def test_missing_numbers_stay_missing(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(catch.player(), tmp_path), threads=1)
    given = {"reward": np.array([1, np.nan, -1], np.float32), "end": np.array([[True], [False], [True]])}
    np.savez(tmp_path / "set.npz", x=catch.screens(catch.states()[:3]), note=["", "b", "c"], **given)
    source = open_source([str(tmp_path / "set.npz")], model.source, model.card)
    record(model, source, tmp_path / "rec", plan_of(model))
    values = Recording.open(tmp_path / "rec").values
    np.testing.assert_array_equal(values["reward"], [1, np.nan, -1])
    np.testing.assert_array_equal(values["end"], [1, 0, 1])
    assert list(values["note"]) == [None, "b", "c"]


@pytest.mark.parametrize("name", ["observations", "whatever"])
def test_inputs_are_known_by_their_shape(tmp_path: Path, name: str) -> None:
    """Not by their name alone: x may be a place on the screen."""
    model = convlens.load(nets.saved(catch.player(), tmp_path), threads=1)
    given = {"x": np.arange(4.0), name: catch.screens(catch.states()[:4])}
    np.savez(tmp_path / "set.npz", **given)
    source = open_source([str(tmp_path / "set.npz")], model.source, model.card)
    assert [item.values for item in source.items(0, 4)] == [{"x": float(i)} for i in range(4)]
    np.testing.assert_array_equal(source.items(2, 3)[0].read(), given[name][2])


def test_of_several_that_fit_the_name_says_which(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(catch.player(), tmp_path), threads=1)
    screens = catch.screens(catch.states()[:4])
    np.savez(tmp_path / "set.npz", states=screens, next_states=screens)
    with pytest.raises(UsageError, match="the array next_states is"):
        open_source([str(tmp_path / "set.npz")], model.source, model.card)
    np.savez(tmp_path / "set.npz", before=screens, after=screens)
    with pytest.raises(UsageError, match="holds the arrays before, after; expected one of inputs"):
        open_source([str(tmp_path / "set.npz")], model.source, model.card)


def test_a_data_set_in_place_of_a_recording_is_recorded_first(
    known: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, states = catch.saved(tmp_path)
    given = ["tell-recorded", str(states), "--model", str(file), "-o", str(tmp_path / "out"), "--json"]
    assert run(given) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["rows"][0] == {"images": 900, "folder": str(tmp_path / "out" / "recording")}
    assert said.err == (
        f"convlens: recorded 900 of 900 inputs of {states} ({tmp_path / 'out' / 'recording'})\n"
    )
    made = (tmp_path / "out" / "recording" / "images.parquet").stat().st_mtime_ns
    assert run([*given, "--overwrite"]) == 0
    assert "took the recording" in capsys.readouterr().err
    assert (tmp_path / "out" / "recording" / "images.parquet").stat().st_mtime_ns == made


def test_another_data_set_is_not_taken_for_the_recorded_one(
    known: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, states = catch.saved(tmp_path)
    given = ["tell-recorded", str(states), "--model", str(file), "-o", str(tmp_path / "out"), "--json"]
    assert run(given) == 0
    np.savez(states, screens=catch.screens(catch.states()[:7]))
    capsys.readouterr()
    assert run([*given, "--overwrite"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["images"] == 7


def test_without_an_output_nothing_stays(
    known: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, states = catch.saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(["tell-recorded", str(states), "--model", str(file), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["rows"][0]["folder"])
    assert not folder.exists()
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_recorded_is_said_in_a_line(
    known: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, states = catch.saved(tmp_path)
    out = ["-o", str(tmp_path / "out")]
    assert run(["tell-recorded", str(states), *out]) == 2
    assert "no recording; where it is a data set, --model says" in capsys.readouterr().err
    assert run(["tell-recorded", str(tmp_path / "nothing"), *out]) == 2
    assert "no recording; `convlens record MODEL IMAGES" in capsys.readouterr().err
    assert run(["tell-recorded", str(states), "--model", str(file), "--data", str(states), *out]) == 2
    assert "--data says where the data set of a recording lies" in capsys.readouterr().err
    photo = tmp_path / "photos"
    photo.mkdir()
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(photo / "a.png")
    net = nets.saved(nets.classifier(0, (3, 12, 10)).onnx(), tmp_path, "photo")
    assert run(["tell-recorded", str(photo), "--model", str(net), *out]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no card says mean and std" in said
    assert "these options are of `convlens record`" in said
    assert not (tmp_path / "out").exists()


def test_an_unfinished_recording_is_gone_on_with(
    known: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some shards are there from before; the outcome is the same to the last byte."""
    file, states = catch.saved(tmp_path)
    given = ["tell-recorded", str(states), "--model", str(file), "--json", "--overwrite", "-o"]
    assert run([*given, str(tmp_path / "whole")]) == 0
    model = convlens.load(file)
    source = open_source([str(states)], model.source, model.card)
    stopped = tmp_path / "out" / "recording"

    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(model, source, stopped, plan_of(model), progress=stop)
    assert len(list((stopped / "shards").glob("*.npz"))) == 1
    asked = []

    def told(workers: int = 1) -> Run:
        def only(model: Any, plan: Any, source: Any, shards: Any) -> Any:
            asked.extend(shards)
            return locally(workers)(model, plan, source, shards)

        return only

    monkeypatch.setattr("convlens.recording.run.locally", told)
    assert run([*given, str(tmp_path / "out")]) == 0
    assert asked == [(256, 512), (512, 768), (768, 900)]
    for table in ("images", "channels", "strongest"):
        name = f"{table}.parquet"
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / "recording" / name).read_bytes()
