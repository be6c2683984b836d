"""Methods that read a recording: what they are given, from Python and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convlens
from convlens import Recording, registry
from convlens.cli.app import run
from convlens.errors import UsageError
from convlens.registry import Field, Job, Method, Paper, Parameters
from convlens.results import Result
from reference import nets


class CountParameters(Parameters):
    """What the method of this test can be told."""

    channels: tuple[str, ...] = Field((), description="whatever")
    first: int = Field(0, ge=0, description="number of an image that is read again")


class Count(Method[CountParameters]):
    """How many images were recorded, and one of them read again."""

    name = "count-recorded"
    summary = "how many images were recorded"
    paper = Paper("Nobody 2020", link="https://example.org")
    kind = "ranking"
    images = False
    Parameters = CountParameters
    recording = "must"
    asks = "channels"

    def run(self, job: Job[CountParameters]) -> Result:
        """Count, and read one image."""
        again = job.recorded.batch(job.model, [job.parameters.first])
        rows = ({"asked": ",".join(job.parameters.channels), "name": again.names[0]},)
        arrays = {"count": np.array([job.recorded.manifest["images"]]), "again": again.array}
        return Result(self.name, self.kind, "count", arrays, dict.fromkeys(arrays, "images"), rows=rows)


@pytest.fixture
def known() -> Iterator[None]:
    registry.methods()
    registry.register(Count)
    yield
    del registry._METHODS[Count.name]


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made by the command line in a folder of its own, with names relative to it."""
    monkeypatch.chdir(tmp_path)
    file = nets.saved(nets.classifier(0, (3, 12, 10)).onnx(), tmp_path, "net")
    assert file == tmp_path / "net.onnx"
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (15, 11, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    given = ["record", "net.onnx", "photos/0.png", "photos/1.png", "photos/2.png", "-o", "rec"]
    assert run([*given, "--mean", "0.5", "--std", "0.25", "--threads", "1"]) == 0
    return tmp_path / "rec"


def test_a_command_takes_the_recording_and_what_it_asks_for(
    known: None,
    recording: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    capsys.readouterr()
    assert run(["count-recorded", str(recording), "a:1", "b:2", "--first", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == [{"asked": "a:1,b:2", "name": "2.png"}]
    assert told["how"]["recording"]["images"] == 3
    assert len(told["how"]["recording"]["sha256"]) == 64


def test_images_read_again_are_as_the_card_of_the_recording_says(known: None, recording: Path) -> None:
    opened = Recording.open(recording)
    model = opened.model()
    expected = convlens.load(model.path, mean=[0.5], std=[0.25])
    photo = recording.parent / "photos" / "1.png"
    found = model.run("count-recorded", recording=opened, first=1).arrays["again"]
    np.testing.assert_array_equal(found, expected.images(photo).array)


def test_model_and_data_may_be_moved_and_said_anew(
    known: None, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = recording.parent
    (root / "net.onnx").rename(root / "moved.onnx")
    (root / "photos").rename(root / "data")
    assert run(["count-recorded", str(recording)]) == 2
    assert "--model says where it lies now" in capsys.readouterr().err
    assert run(["count-recorded", str(recording), "--model", str(root / "moved.onnx")]) == 2
    assert "--data says where it lies now" in capsys.readouterr().err
    files = [part for n in range(3) for part in ("--data", str(root / "data" / f"{n}.png"))]
    assert run(["count-recorded", str(recording), "--model", str(root / "moved.onnx"), *files]) == 0


def test_another_model_and_another_data_set_are_refused(known: None, recording: Path) -> None:
    root = recording.parent
    other = root / "other.onnx"
    nets.saved(nets.classifier(1, (3, 12, 10)).onnx(), root, "other")
    opened = Recording.open(recording)
    with pytest.raises(UsageError, match="not from other"):
        opened.model(other)
    model = opened.model()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "photos" / "1.png")
    with pytest.raises(UsageError, match="not the data set that was recorded"):
        model.run("count-recorded", recording=opened)


def test_a_recording_is_asked_for_and_not_taken_in_vain(known: None, recording: Path) -> None:
    opened = Recording.open(recording)
    model = opened.model()
    with pytest.raises(UsageError, match="`convlens record` makes one"):
        model.run("count-recorded")
    with pytest.raises(UsageError, match="saliency reads no recording"):
        model.run("saliency", recording.parent / "photos", recording=opened)
