"""Every kind of source: the same pictures and labels in other clothes, and what is broken said so."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import convlens
from convlens.errors import ImageError, UsageError
from convlens.model import Model
from convlens.recording.joined import lies, reopened
from convlens.recording.source import Source, open_source
from reference import nets

COUNT = 6
LABELS = [f"kind{i % 2}" for i in range(COUNT)]
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 9, 11, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("net")
    return convlens.load(
        nets.saved(nets.classifier(0, (3, 16, 16)).onnx(), path), threads=1, mean=[0.5], std=[0.25]
    )


def encoded(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(out, format="PNG")
    return out.getvalue()


def opened(model: Model, *given: object) -> Source:
    return open_source([str(one) for one in given], model.source, model.card)


def check(source: Source, labels: list[str | None]) -> None:
    assert len(source) == COUNT
    items = [*source.items(0, 2), *source.items(2, COUNT + 5)]
    assert [item.label for item in items] == labels
    assert len({item.name for item in items}) == COUNT
    for item, pixels in zip(items, PIXELS, strict=True):
        np.testing.assert_array_equal(np.asarray(item.read()), pixels)


def folder(path: Path) -> Path:
    for number in range(COUNT):
        below = path / LABELS[number]
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number}.png").write_bytes(encoded(number))
    return path


def by_folder() -> list[int]:
    return sorted(range(COUNT), key=lambda number: (LABELS[number], number))


def test_folders_are_labels(model: Model, tmp_path: Path) -> None:
    source = opened(model, folder(tmp_path / "set"))
    items = source.items(0, COUNT)
    assert [item.label for item in items] == sorted(LABELS)
    for item, number in zip(items, by_folder(), strict=True):
        np.testing.assert_array_equal(np.asarray(item.read()), PIXELS[number])


def test_patterns_and_lists(model: Model, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    assert len(opened(model, f"{root}/*/[0-3].png")) == 4
    assert len(opened(model, root / "kind0" / "0.png", root / "kind1" / "1.png")) == 2
    with pytest.raises(UsageError, match="no file fits"):
        opened(model, f"{root}/*.gif")


def test_zip(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(COUNT):
            archive.writestr(f"{LABELS[number]}/{number}.png", encoded(number))
        archive.writestr("readme.md", "no picture")
    items = opened(model, path).items(0, COUNT)
    assert [item.label for item in items] == sorted(LABELS)
    for item, number in zip(items, by_folder(), strict=True):
        np.testing.assert_array_equal(np.asarray(item.read()), PIXELS[number])


@pytest.mark.parametrize("beside", ["cls", "json"])
def test_shards_of_webdataset(beside: str, model: Model, tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as archive:
            for number in range(3 * shard, 3 * shard + 3):
                told = LABELS[number].encode()
                told = told if beside == "cls" else json.dumps({"label": LABELS[number]}).encode()
                for suffix, data in (("png", encoded(number)), (beside, told)):
                    info = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    check(opened(model, f"{tmp_path}/train-*.tar"), list(LABELS))


def test_a_compressed_tar_says_what_to_do(model: Model, tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(UsageError, match="unpack it"):
        opened(model, tmp_path / "set.tar.gz")


def columns() -> dict[str, Any]:
    held = [{"bytes": encoded(number), "path": f"{number}.png"} for number in range(COUNT)]
    return {"image": held, "label": [number % 2 for number in range(COUNT)]}


def named() -> pa.Schema:
    told = {"info": {"features": {"label": {"names": ["kind0", "kind1"]}}}}
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", picture), ("label", pa.int64())])
    return schema.with_metadata({b"huggingface": json.dumps(told).encode()})


def test_parquet_with_bytes(model: Model, tmp_path: Path) -> None:
    table = pa.table(
        {"img": [encoded(number) for number in range(COUNT)], "label": [n % 2 for n in range(COUNT)]}
    )
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=4)
    check(opened(model, tmp_path / "set.parquet"), [str(n % 2) for n in range(COUNT)])


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_data_sets_of_hugging_face(form: str, model: Model, tmp_path: Path) -> None:
    table = pa.table(columns(), schema=named())
    for shard, part in enumerate((table.slice(0, 4), table.slice(4))):
        path = tmp_path / f"data-{shard:05d}-of-00002.{form}"
        if form == "parquet":
            pq.write_table(part, path)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, part.schema) as writer:
                writer.write_table(part, max_chunksize=3)
    check(opened(model, tmp_path), list(LABELS))


def test_a_table_without_pictures_says_its_columns(model: Model, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "set.parquet")
    with pytest.raises(UsageError, match="no column holds encoded pictures; the columns are a, b"):
        opened(model, tmp_path / "set.parquet")


def test_numpy_photos_with_labels(model: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=PIXELS, y=np.array(LABELS))
    check(opened(model, tmp_path / "set.npz"), list(LABELS))
    np.save(tmp_path / "set.npy", PIXELS)
    check(opened(model, tmp_path / "set.npy"), [None] * COUNT)


def test_numpy_inputs_as_they_are(model: Model, tmp_path: Path) -> None:
    given = np.random.default_rng(0).standard_normal((4, 3, 16, 16))
    np.save(tmp_path / "set.npy", given)
    items = opened(model, tmp_path / "set.npy").items(0, 9)
    assert len(items) == 4
    np.testing.assert_array_equal(items[2].read(), given[2])


def test_npz_with_too_much_in_it(model: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", a=PIXELS, b=PIXELS)
    with pytest.raises(UsageError, match="holds the arrays a, b; expected one of inputs"):
        opened(model, tmp_path / "set.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_the_files_of_mnist(compressed: bool, model: Model, tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, *grey.shape) + grey.tobytes()
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, COUNT) + bytes(range(COUNT))
    end = ".gz" if compressed else ""
    for name, data in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        (tmp_path / f"{name}{end}").write_bytes(gzip.compress(data) if compressed else data)
    source = opened(model, tmp_path / f"train-images-idx3-ubyte{end}")
    items = source.items(0, COUNT)
    assert [item.label for item in items] == [str(n) for n in range(COUNT)]
    for item, pixels in zip(items, grey, strict=True):
        np.testing.assert_array_equal(np.asarray(item.read()), pixels)
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(images[:40])
    with pytest.raises(ImageError, match="not an IDX file"):
        opened(model, tmp_path / f"train-images-idx3-ubyte{end}")


def test_several_data_sets_are_one(model: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=PIXELS[:2], labels=LABELS[:2])
    for number in (2, 3):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    np.savez(tmp_path / "b.npz", inputs=PIXELS[4:], labels=LABELS[4:])
    given = [tmp_path / name for name in ("a.npz", "2.png", "3.png", "b.npz")]
    source = opened(model, *given)
    check(source, [*LABELS[:2], None, None, *LABELS[4:]])
    assert source.given == tuple(map(str, given))
    assert opened(model, *given).fingerprint() == source.fingerprint()
    assert opened(model, *given[::-1]).fingerprint() != source.fingerprint()
    again = reopened(lies(source), model.source, model.card)
    assert again.fingerprint() == source.fingerprint()


def test_a_folder_of_sounds(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 1, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["audio", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "net",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", 1, 50])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 48])],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "net").mkdir()
    model = convlens.load(nets.saved(proto, tmp_path / "net"), threads=1, kind="signal", rate=8000)
    for number in range(2):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((np.arange(50, dtype="<i2") * (number + 1)).tobytes())
    items = open_source([str(tmp_path)], model.source, model.card).items(0, 5)
    assert [item.name for item in items] == ["0.wav", "1.wav"]
    found = [np.asarray(item.read()) for item in items]
    assert found[0].shape == (1, 50)
    np.testing.assert_allclose(found[1], 2 * found[0])


def test_a_broken_picture_is_named(model: Model, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"no", encoded(0)]}), tmp_path / "set.parquet")
    items = opened(model, tmp_path / "set.parquet").items(0, 2)
    with pytest.raises(ImageError, match=r"set\.parquet:0: not a picture"):
        items[0].read()
    np.testing.assert_array_equal(np.asarray(items[1].read()), PIXELS[0])


def test_a_change_changes_the_fingerprint(model: Model, tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    before = opened(model, root).fingerprint()
    assert opened(model, root).fingerprint() == before
    (root / "kind0" / "0.png").write_bytes(encoded(0) + b"\0")
    assert opened(model, root).fingerprint() != before
