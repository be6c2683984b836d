"""Searches that are stopped and taken up again: the same picture, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

import convlens
from convlens.errors import ConvLensError, OutputError, UsageError
from convlens.model import Model
from convlens.synthesis.fitting import groups
from convlens.watch import FRAMES, PREVIEW, STATES, Watch
from reference import nets
from reference.impatient import Impatient

SETTINGS = {"steps": 12, "channel": "0-2", "batch_size": 2}
WAYS = [
    {"preset": "lucid2017"},
    {"preset": "graetz2019", "octaves": 3},
    {"preset": "yosinski2015"},
    {"preset": "lucid2017", "optimiser": "lbfgs"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("net")
    return convlens.load(
        nets.saved(nets.classifier(0, (3, 16, 16)).onnx(), path), threads=1, mean=[0.5], std=[0.25]
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("patience", [1, 4, 11, 12, 17])
def test_a_stopped_search_goes_on_to_the_same_picture(
    way: dict[str, object], patience: int, model: Model, tmp_path: Path
) -> None:
    whole = model.run("visualise", None, "relu1", **SETTINGS, **way)  # type: ignore[arg-type]
    watch = Impatient(tmp_path)
    watch.patience = patience
    partly = model.run("visualise", None, "relu1", watch=watch, **SETTINGS, **way)  # type: ignore[arg-type]
    assert watch.stopped
    assert (tmp_path / STATES).is_dir()
    assert 1 <= len(partly.array) <= 3
    assert "--resume" in partly.how["warnings"][0]
    again = Watch(tmp_path, resume=True)
    found = model.run("visualise", None, "relu1", watch=again, **SETTINGS, **way)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.array, whole.array)
    np.testing.assert_array_equal(found.arrays["history"], whole.arrays["history"])
    assert found.rows == whole.rows
    assert not (tmp_path / STATES).exists()
    assert not (tmp_path / PREVIEW).exists()


def test_another_job_is_not_taken_up(model: Model, tmp_path: Path) -> None:
    model.run("visualise", None, "relu1:0", watch=Impatient(tmp_path), steps=12)
    with pytest.raises(OutputError, match=r"another job .*parameters"):
        model.run("visualise", None, "relu1:0", watch=Watch(tmp_path, resume=True), steps=13)


def test_without_resume_it_starts_afresh(model: Model, tmp_path: Path) -> None:
    model.run("visualise", None, "relu1:0", watch=Impatient(tmp_path), steps=12)
    found = model.run("visualise", None, "relu1:0", watch=Watch(tmp_path), steps=13)
    assert found.arrays["history"].shape == (1, 13)


def test_frames_need_a_folder(model: Model) -> None:
    with pytest.raises(UsageError, match="frames are files"):
        model.run("visualise", None, "relu1:0", watch=Watch(frames=3), steps=2)


@pytest.mark.parametrize(("steps", "frames", "kept"), [(10, 4, 4), (3, 8, 3), (7, 7, 7), (5, 0, 0)])
def test_as_many_frames_as_asked_for(
    steps: int, frames: int, kept: int, model: Model, tmp_path: Path
) -> None:
    model.run("visualise", None, "relu1:0", watch=Watch(tmp_path, frames=frames), steps=steps)
    folder = tmp_path / FRAMES
    assert len(list(folder.iterdir()) if folder.is_dir() else []) == kept


def test_the_handler_of_ctrl_c_is_put_back(model: Model, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    model.run("visualise", None, "relu1:0", watch=Impatient(tmp_path), steps=12)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_does_not_fit_is_halved() -> None:
    said: list[str] = []

    def run(first: int, rows: int) -> tuple[int, int]:
        if rows > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return first, rows

    assert list(groups(5, 5, run, said)) == [(0, 2), (2, 2), (4, 1)]
    assert said == ["5 pictures at once did not fit in memory; went on with 2"]


def test_one_picture_that_does_not_fit_is_said() -> None:
    def run(first: int, rows: int) -> None:
        raise MemoryError

    with pytest.raises(ConvLensError, match="one picture alone does not fit"):
        list(groups(2, 2, run, []))


def test_other_errors_come_through() -> None:
    def run(first: int, rows: int) -> None:
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes"):
        list(groups(2, 2, run, []))
