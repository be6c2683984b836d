"""Files read in pieces: the same numbers as onnx reads, and the same hash as of the file's bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from convlens.errors import ModelFileError
from convlens.graph.load import load_graph
from convlens.graph.pieces import cut
from graph.nets import model, numbers, op, put, refused


def every_kind() -> onnx.ModelProto:
    """Weights of every type, stored in every way, small and large, also inside a node."""
    weights = {
        f"w_{kind}": numbers(9, 17).astype(kind) for kind in ("f4", "f2", "f8", "i1", "i4", "i8", "u2")
    }
    proto = model([op("Relu", "x", "y")], {"x": [1, 4]}, ["y"], {**weights, "small": np.float32([1, 2])})
    brief = numpy_helper.from_array(numbers(9, 17), "w_bf16")
    words = (np.frombuffer(brief.raw_data, np.uint32) >> 16).astype(np.uint16)
    proto.graph.initializer.append(
        TensorProto(name="w_bf16", data_type=TensorProto.BFLOAT16, dims=[9, 17], raw_data=words.tobytes())
    )
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [9, 17], numbers(9, 17).reshape(-1))
    double = helper.make_tensor("typed double", TensorProto.DOUBLE, [153], numbers(153).astype(np.float64))
    whole = helper.make_tensor("typed whole", TensorProto.INT64, [153], range(153))
    proto.graph.initializer.extend([typed, double, whole])
    kept = numpy_helper.from_array(numbers(9, 17), "inside")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["inside"], value=kept))
    return proto


def test_every_kind_of_weight(tmp_path: Path) -> None:
    proto = every_kind()
    path = put(proto, tmp_path)
    pieces = cut(path, least=200)
    assert pieces is not None
    names = {"w_f4", "w_f2", "w_f8", "w_i4", "w_i8", "w_u2", "w_bf16", "typed", "typed double", "inside"}
    assert len(pieces.weights) == len(
        names
    )  # w_i1 is too small, and "typed whole" is stored number by number
    assert len(pieces.rest) < path.stat().st_size - sum(weight.nbytes for weight in pieces.weights) + 600
    assert pieces.sha256().hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    parsed = onnx.ModelProto.FromString(pieces.rest)
    found = ir.serde.deserialize_model(parsed)
    pieces.attach(found)
    for tensor in proto.graph.initializer:
        value = found.graph.initializers[tensor.name].const_value
        assert value is not None
        assert int(value.dtype) == tensor.data_type
        expected = numpy_helper.to_array(tensor)
        assert value.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(value.numpy(), expected, err_msg=tensor.name)
        assert not (tensor.name in names and value.numpy().flags.writeable)
    inside = next(node for node in found.graph if node.op_type == "Constant").attributes["value"].as_tensor()
    np.testing.assert_array_equal(inside.numpy(), numbers(9, 17))


def test_every_truncation_is_left_to_the_parser(tmp_path: Path) -> None:
    raw = put(every_kind(), tmp_path).read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(raw), 7):
        path.write_bytes(raw[:length])
        pieces = cut(path, least=200)
        if pieces is not None:  # cut between two fields: what is left hashes to what is there
            assert pieces.sha256().hexdigest() == hashlib.sha256(raw[:length]).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.dims.append(2),
        lambda tensor: tensor.float_data.append(1.0),
        lambda tensor: setattr(tensor, "data_type", 77),
    ],
    ids=["another shape", "two kinds of numbers", "unknown type"],
)
def test_odd_weights_stay_in_the_protobuf(tmp_path: Path, change: object) -> None:
    proto = model([op("Add", "x w", "y")], {"x": [1, 200]}, ["y"], {"w": numbers(1, 200)})
    assert callable(change)
    change(proto.graph.initializer[0])
    assert cut(put(proto, tmp_path), least=200) is None


def large(folder: Path, **options: object) -> Path:
    path = folder / "large.onnx"
    proto = model([op("Add", "x w", "y")], {"x": [1, 1 << 19]}, ["y"], {"w": numbers(1, 1 << 19)})
    onnx.save_model(proto, path, **options)
    return path


def test_hash_of_a_large_file(tmp_path: Path) -> None:
    path = large(tmp_path)
    graph, digest = load_graph(path)
    assert digest.hex == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(graph.constants["w"], numbers(1, 1 << 19))


def test_hash_is_that_of_what_was_read(tmp_path: Path) -> None:
    path = large(tmp_path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    graph, digest = load_graph(path)
    path.write_bytes(b"another export of the same name")
    assert digest.hex == expected
    np.testing.assert_array_equal(graph.constants["w"], numbers(1, 1 << 19))


def test_hash_with_external_data(tmp_path: Path) -> None:
    path = large(tmp_path, save_as_external_data=True, location="w.bin")
    both = path.read_bytes() + (tmp_path / "w.bin").read_bytes()
    assert load_graph(path)[1].hex == hashlib.sha256(both).hexdigest()


def test_external_data_that_changes_before_it_is_hashed(tmp_path: Path) -> None:
    path = large(tmp_path, save_as_external_data=True, location="w.bin")
    _, digest = load_graph(path)
    os.utime(tmp_path / "w.bin", (1, 1))
    with refused(ModelFileError, path, "'w.bin'", "written to", "load it again"):
        assert digest.hex
