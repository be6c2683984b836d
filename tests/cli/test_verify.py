"""``convlens verify`` over folders: one row a file, whatever is in them."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from cli.tiny import model_of, tiny
from convlens.cli.app import run
from convlens.coverage import Settings, find_models, survey
from convlens.errors import FINDING, USAGE

QUICK = ["--threads", "1", "--limit", "120"]


def custom(path: Path) -> Path:
    """A model with an operator that nobody knows; onnxruntime refuses it."""
    model = model_of([helper.make_node("Relu", ["photo"], ["y"])], ["N", 3, 8, 8], "y", {})
    model.graph.node[0].op_type, model.graph.node[0].domain = "Sharpen", "my.domain"
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    path.write_bytes(model.SerializeToString())
    return path


def dynamic(path: Path) -> Path:
    """A model with a loop that ends by what is in the image: onnxruntime runs it, ConvLens refuses it."""
    body = onnx.parser.parse_graph(
        "l (int64 i, bool go, float[N, 3, 8, 8] s) => (bool on, float[N, 3, 8, 8] t) "
        "{ half = Constant<value_float = 0.5> () t = Mul (s, half) most = ReduceMax<keepdims = 0> (t) "
        "limit = Constant<value_float = 1.0> () on = Greater (most, limit) }"
    )
    nodes = [helper.make_node("Loop", ["", "", "photo"], ["y"], body=body)]
    model = model_of(nodes, ["N", 3, 8, 8], "y", {})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models: fine, with its weights beside it, refused by ConvLens, refused by onnxruntime."""
    root = tmp_path_factory.mktemp("models")
    tiny(root / "fine")
    large = onnx.load(root / "fine" / "tiny.onnx")
    onnx.save_model(
        large,
        root / "outside.onnx",
        save_as_external_data=True,
        location="weights.onnx",  # looks like a model and is none
        size_threshold=0,
    )
    dynamic(root / "dynamic.onnx")
    (root / "deeper" / "still").mkdir(parents=True)
    custom(root / "deeper" / "still" / "custom.ONNX")
    (root / "notes.txt").write_text("no model")
    return root


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``--json`` says about the folder, with the exit code."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(["verify", str(folder), "--json", *QUICK])
    data: dict[str, Any] = json.loads(out.getvalue())
    data["code"] = code
    data["by_name"] = {Path(row["file"]).stem: row for row in data["files"]}
    return data


def test_every_model_below_is_found_and_weights_are_none(found: dict[str, Any]) -> None:
    assert set(found["by_name"]) == {"tiny", "outside", "dynamic", "custom"}


def test_a_model_that_works(found: dict[str, Any]) -> None:
    row = found["by_name"]["tiny"]
    assert row["verdict"] == "fine"
    assert row["opened"]
    assert row["certified"]
    assert 0 <= row["worst"] < 1e-4
    assert row["batch"] == "free"
    assert row["differentiable"]
    assert row["fed"].startswith("photo 2x3x32x32 float32")
    assert row["seconds"] > 0
    assert found["by_name"]["outside"]["verdict"] == "fine"
    assert found["by_name"]["outside"]["weights"] == ["weights.onnx"]


def test_what_is_refused_names_operator_and_reason(found: dict[str, Any]) -> None:
    row = found["by_name"]["dynamic"]
    assert row["verdict"] == "refused"
    assert not row["opened"]
    assert "Loop" in row["why"]
    assert "loop" in row["why"]


def test_what_onnxruntime_refuses_is_not_counted(found: dict[str, Any]) -> None:
    row = found["by_name"]["custom"]
    assert row["verdict"] == "not counted"
    assert "my.domain" in row["runtime"]
    assert found["summary"]["files"] == 4
    assert found["summary"]["runs"] == 3


def test_a_refusal_is_a_finding(found: dict[str, Any]) -> None:
    assert found["code"] == FINDING


def test_the_table_ends_with_the_shares(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["verify", str(folder / "fine" / "tiny.onnx"), str(folder / "outside.onnx"), *QUICK])
    out, err = capsys.readouterr()
    assert code == 0
    last = out.strip().splitlines()[-1]
    assert last.startswith("2 files; onnxruntime runs 2; of these opened 2 (100.0%), certified 2 (100.0%)")
    assert "outside.onnx: fine" in err


def test_one_file_is_told_value_by_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(folder / "fine" / "tiny.onnx"), "--all"]) == 0
    assert "relative" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["verify", "{}/nowhere", "{}/fine"], "no such file or folder"),
        (["verify", "{}/empty"], "a folder without models"),
        (["verify", "{}", "--all"], "--all lists the values of one model"),
        (["verify"], "Missing argument"),
    ],
)
def test_bad_requests(
    folder: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    assert run([text.replace("{}", str(folder)) for text in arguments]) == USAGE
    assert part in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked up in /proc")
def test_a_child_that_hangs_or_dies_costs_its_own_row_only(folder: Path, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging.onnx"
    os.mkfifo(hanging)  # who reads it waits for a writer that never comes
    rows = survey([hanging, folder / "dynamic.onnx"], Settings(threads=1, limit=6), jobs=2)
    assert [row.verdict for row in rows] == ["lost", "refused"]
    assert "not done in 6 s" in rows[0].why

    timer = threading.Timer(2, _end_children)
    timer.start()
    (row,) = survey([hanging], Settings(threads=1, limit=60))
    timer.join()
    assert row.verdict == "lost"
    assert "killed" in row.why


def _end_children() -> None:
    """End the examining processes of this test: the children of the fork server that this process started."""
    from multiprocessing.forkserver import _forkserver

    server = _forkserver._forkserver_pid  # type: ignore[attr-defined]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == server:
            os.kill(int(stat.parent.name), signal.SIGKILL)


def test_a_file_given_twice_is_examined_once(folder: Path) -> None:
    file = folder / "dynamic.onnx"
    assert find_models([file, file]) == [file]
