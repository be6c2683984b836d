"""The script that trains digits: what it writes is what it says, and comes out the same again."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch

import convlens
from convlens.cli.app import run
from convlens.errors import FAILED, FINE, USAGE

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_digits.py"
QUICK = ["--limit", "400", "--width", "8", "--epochs", "0,1,4", "--threads", "1", "--batch-size", "8"]
QUICK += ["--learning-rate", "0.03"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _torch_stays_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_checkpoints_are_what_it_says_and_evolve_reads_them(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "digits"
    assert script.main(["-o", str(folder), *QUICK]) == FINE
    said = capsys.readouterr().out.splitlines()
    names = [f"digits-e{epoch:02d}.onnx" for epoch in (0, 1, 4)]
    assert {path.name for path in folder.iterdir()} == {
        *names, "card.toml", "labels.json", "test.npz", "training.json",
    }  # fmt: skip
    with np.load(folder / "test.npz") as held:
        inputs, labels = held["inputs"], held["labels"]
    assert inputs.shape == (80, 28, 28)
    told = json.loads((folder / "training.json").read_text())
    for name, row, line in zip(names, told, said, strict=True):
        model = convlens.load(folder / name, device="cpu", threads=1)
        mean, std = model.card.input.mean, model.card.input.std
        assert mean is not None
        assert std is not None
        x = ((inputs[:, None].astype(np.float32) / 255) - mean[0]) / std[0]
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        right = (session.run(None, {"input": x.astype(np.float32)})[0].argmax(axis=1) == labels).mean()
        assert row["accuracy"] == pytest.approx(right)
        assert f"test accuracy {right:.4f}" in line
        assert model.certificate().passed
    assert told[0]["accuracy"] < 0.5 < told[-1]["accuracy"]
    assert run(["evolve", str(folder), str(folder / "test.npz"), "--json", "--threads", "1"]) == FINE
    found = json.loads(capsys.readouterr().out)
    rows = found["hints"]["tables"]["checkpoints"]
    assert [row["accuracy"] for row in rows] == pytest.approx([row["accuracy"] for row in told])
    assert [row["layer"] for row in found["rows"]] == ["relu1", "relu2", "relu3", "relu4", "logits"]
    assert found["how"]["warnings"] == []


def idx(path: Path, array: np.ndarray) -> Path:
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())
    return path


def test_the_same_seed_gives_the_same_files_from_npz_and_idx(script: ModuleType, tmp_path: Path) -> None:
    own = script.own()
    assert own.images.shape == (1797, 28, 28)
    images, labels = own.images[:120], own.labels[:120].astype(np.uint8)
    np.savez(tmp_path / "some.npz", inputs=images, labels=labels)
    given = idx(tmp_path / "some-images-idx3-ubyte", images)
    idx(tmp_path / "some-labels-idx1-ubyte", labels)
    quick = ["--width", "2", "--epochs", "2", "--threads", "1"]
    for folder, data in (("one", tmp_path / "some.npz"), ("two", given)):
        assert script.main(["-o", str(tmp_path / folder), "--data", str(data), *quick]) == FINE
    first = (tmp_path / "one" / "digits-e02.onnx").read_bytes()
    assert first == (tmp_path / "two" / "digits-e02.onnx").read_bytes()
    other = ["-o", str(tmp_path / "three"), "--data", str(given), "--seed", "1", *quick]
    assert script.main([*other, "--test", str(tmp_path / "some.npz")]) == FINE
    assert first != (tmp_path / "three" / "digits-e02.onnx").read_bytes()
    with np.load(tmp_path / "three" / "test.npz") as held:
        assert np.array_equal(held["inputs"], images)


def test_refusals(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["-o", str(tmp_path / "out"), *QUICK]
    bad = tmp_path / "bad.npz"
    np.savez(bad, x=np.zeros(3))
    assert script.main(["--data", str(bad), *output]) == USAGE
    assert "expected the arrays inputs and labels" in capsys.readouterr().err
    np.savez(bad, inputs=np.zeros((5, 28, 28)), labels=np.zeros(5, np.int64))
    assert script.main(["--data", str(bad), *output]) == USAGE
    assert "expected N x height x width of 8 bits" in capsys.readouterr().err
    lonely = idx(tmp_path / "a-images-idx3-ubyte", np.zeros((3, 4, 4), np.uint8))
    assert script.main(["--data", str(lonely), *output]) == USAGE
    assert "no labels beside it" in capsys.readouterr().err
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(b"nothing")
    assert script.main(["--data", str(lonely), *output]) == FAILED
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert script.main(output) == USAGE
    assert "is not empty and was left as it is" in capsys.readouterr().err
