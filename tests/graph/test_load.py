"""Files that are no models, broken models and models in two files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from PIL import Image

from convlens import catalogue
from convlens.errors import ModelFileError, UnsupportedError
from convlens.graph.load import load_graph
from graph.nets import classifier, model, numbers, op, opened, put, refused


def test_text_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("these are notes, no weights\n" * 40)
    with refused(ModelFileError, path, "not an ONNX file", f"{path.stat().st_size:,} bytes"):
        load_graph(path)


@pytest.mark.parametrize(
    ("suffix", "what"), [("png", "PNG picture"), ("jpg", "JPEG picture"), ("pt", "zip archive")]
)
def test_other_formats_are_named(tmp_path: Path, suffix: str, what: str) -> None:
    path = tmp_path / f"file.{suffix}"
    if suffix == "pt":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", b"0" * 100)
    else:
        Image.new("RGB", (9, 9)).save(path)
    with refused(ModelFileError, path, what, "expected an ONNX model", "export"):
        load_graph(path)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x1c\0\0\0ORTM", "onnxruntime's own format"),
    ],
)
def test_magic_numbers(tmp_path: Path, start: bytes, what: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(start + b"\0" * 64)
    with refused(ModelFileError, path, what, "expected an ONNX model"):
        load_graph(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    with refused(ModelFileError, path, "0 bytes", "at least one node"):
        load_graph(path)


def test_folder(tmp_path: Path) -> None:
    with refused(ModelFileError, tmp_path, "folder", "expected an ONNX file"):
        load_graph(tmp_path)


def test_missing(tmp_path: Path) -> None:
    with refused(ModelFileError, tmp_path / "no.onnx", "no such file", "expected an ONNX model"):
        load_graph(tmp_path / "no.onnx")


def test_protobuf_without_a_graph(tmp_path: Path) -> None:
    path = put(onnx.ModelProto(ir_version=8, producer_name="nobody"), tmp_path)
    with refused(ModelFileError, path, "without a graph", "at least one node"):
        load_graph(path)


def test_graph_without_nodes(tmp_path: Path) -> None:
    path = put(model([], {"x": [1, 3, 4, 4]}, ["x"]), tmp_path)
    with refused(ModelFileError, path, "without a graph"):
        load_graph(path)


def test_every_truncation_of_a_small_model_is_refused(tmp_path: Path) -> None:
    raw = classifier().SerializeToString()
    path = tmp_path / "cut.onnx"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with refused(ModelFileError, path, f"{length:,} bytes"):
            load_graph(path)


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_truncations_of_a_real_model(tmp_path: Path, share: float) -> None:
    raw = catalogue.locate("vgg16-conv4_1").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(raw[: int(len(raw) * share)])
    with refused(ModelFileError, path, "truncated", "again"):
        load_graph(path)


def test_truncation_inside_the_last_tensor(tmp_path: Path) -> None:
    proto = onnx.load(catalogue.locate("vgg16-conv4_1"))
    raw = proto.SerializeToString()
    last = proto.graph.initializer[-1].raw_data
    path = tmp_path / "cut.onnx"
    path.write_bytes(raw[: raw.rindex(last) + len(last) // 2])
    with refused(ModelFileError, path, "truncated", "again"):
        load_graph(path)


def test_file_that_ends_before_its_opset(tmp_path: Path) -> None:
    proto = classifier()
    del proto.opset_import[:]
    path = put(proto, tmp_path)
    with refused(ModelFileError, path, "truncated", "opset", "again"):
        load_graph(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_escape_the_error_tree(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.onnx"
    path.write_bytes(raw)
    with refused(ModelFileError, path):
        load_graph(path)


def test_weight_shorter_than_its_shape(tmp_path: Path) -> None:
    proto = classifier()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    # w1 is 4 x 3 x 3 x 3 numbers of 4 bytes
    with refused(ModelFileError, "net.onnx", "'w1'", "428", "[4, 3, 3, 3]", "432", "damaged"):
        load_graph(put(proto, tmp_path))


def test_weight_in_the_typed_field_shorter_than_its_shape(tmp_path: Path) -> None:
    proto = classifier()
    short = helper.make_tensor("b1", onnx.TensorProto.FLOAT, [4], [0.0] * 4)
    del short.float_data[3:]
    proto.graph.initializer[1].CopyFrom(short)
    with refused(ModelFileError, "net.onnx", "malformed", "export the model again"):
        load_graph(put(proto, tmp_path))


def test_damaged_constant_node(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    constant.attribute[0].t.raw_data = b"abc"
    path = put(model([constant, op("Add", "x c", "y")], {"x": [1, 3]}, ["y"]), tmp_path)
    with refused(ModelFileError, path, "malformed"):
        load_graph(path)


def test_weight_of_an_unknown_type(tmp_path: Path) -> None:
    proto = classifier()
    proto.graph.initializer[0].data_type = 99
    with refused(ModelFileError, "net.onnx", "'w1'", "unknown type 99"):
        load_graph(put(proto, tmp_path))


def test_cycle(tmp_path: Path) -> None:
    path = put(model([op("Add", "x b", "a"), op("Relu", "a", "b")], {"x": [1, 3]}, ["b"]), tmp_path)
    with refused(ModelFileError, path, "malformed", "cycle"):
        load_graph(path)


def test_value_that_nothing_computes(tmp_path: Path) -> None:
    path = put(model([op("Add", "x ghost", "y")], {"x": [1, 3]}, ["y"]), tmp_path)
    with refused(ModelFileError, path, "Add", "'ghost'", "export the model again"):
        load_graph(path)


def external(folder: Path) -> Path:
    """The classifier with its weights in a second file."""
    path = folder / "net.onnx"
    onnx.save_model(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data(tmp_path: Path) -> None:
    graph, _ = load_graph(external(tmp_path))
    for name, array in (("w1", numbers(4, 3, 3, 3)), ("b2", numbers(5))):
        np.testing.assert_array_equal(graph.constants[name], array)


def test_hash_covers_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    _, before = load_graph(path)
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert load_graph(path)[1] != before


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with refused(ModelFileError, path, "'weights.bin'", "put the two together"):
        load_graph(path)


def test_truncated_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:100])
    with refused(ModelFileError, path, "'weights.bin'", "100", "truncated"):
        load_graph(path)


def edited(folder: Path, key: str, value: str, which: int = 0) -> Path:
    """The classifier in two files, with one entry of one weight's whereabouts changed."""
    path = external(folder)
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[which].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    "place", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..\\weights.bin", ""]
)
def test_external_data_outside_the_folder(place: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = edited(inner, "location", place)
    (tmp_path / "weights.bin").write_bytes((inner / "weights.bin").read_bytes())
    with refused(ModelFileError, path, "'w1'", repr(place), "in the model's folder"):
        load_graph(path)


def test_external_data_beyond_the_file(tmp_path: Path) -> None:
    path = edited(tmp_path, "offset", "4096", which=3)
    size = (tmp_path / "weights.bin").stat().st_size
    # the last bias is 5 numbers of 4 bytes
    with refused(ModelFileError, path, "'weights.bin'", "'b2'", "4,116", f"{size:,}"):
        load_graph(path)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-4"), ("offset", "x"), ("length", "-1"), ("length", "4.5")]
)
def test_external_data_at_no_place(key: str, value: str, tmp_path: Path) -> None:
    path = edited(tmp_path, key, value)
    with refused(ModelFileError, path, "'w1'", repr(value), "from 0 on"):
        load_graph(path)


def test_external_data_of_another_length(tmp_path: Path) -> None:
    path = edited(tmp_path, "length", "400")
    # w1 is 4 x 3 x 3 x 3 numbers of 4 bytes
    with refused(ModelFileError, path, "'w1'", "400", "[4, 3, 3, 3]", "432"):
        load_graph(path)


def test_external_data_of_a_constant_node(tmp_path: Path) -> None:
    proto = model(
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(numbers(3), "c")),
            op("Add", "x c", "y"),
        ],
        {"x": ["N", 3]},
        ["y"],
    )
    path = tmp_path / "net.onnx"
    onnx.save_model(
        proto, path, save_as_external_data=True, location="c.bin", size_threshold=0, convert_attribute=True
    )
    np.testing.assert_array_equal(load_graph(path)[0].constants["c"], numbers(3))
    (tmp_path / "c.bin").unlink()
    with refused(ModelFileError, path, "'c.bin'", "put the two together"):
        load_graph(path)


def test_custom_operators_are_opened_and_refused_by_name(tmp_path: Path) -> None:
    nodes = [op("Relu", "x", "a"), helper.make_node("Magic", ["a"], ["y"], domain="acme", name="trick", k=3)]
    proto = model(
        nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 3, 8, 8]}, imports=[helper.make_opsetid("acme", 1)]
    )
    loaded = opened(proto, tmp_path)
    assert [(layer.op, layer.kind) for layer in loaded.layers] == [
        ("Relu", "rectifier"),
        ("acme.Magic", "other"),
    ]
    with refused(UnsupportedError, "acme.Magic", "'convlens.ops'"):
        loaded.instrument()
