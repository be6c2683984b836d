"""Recording on a Ray cluster of this machine: the same bytes as in this process, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import convlens
from convlens.cli import app
from convlens.errors import ConvLensError, ImageError, UsageError
from convlens.model import Model
from convlens.recording.joined import lies
from convlens.recording.part import Part
from convlens.recording.plan import plan_of
from convlens.recording.recorder import Recorder
from convlens.recording.run import record
from convlens.recording.source import Source, open_source
from reference import nets

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed; pip install 'convlens[ray]'"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:ray.data.context"
    ),  # it sets old options of its own
    pytest.mark.xdist_group("ray"),  # one cluster for all
]

SIDE = 8
COUNT = 22


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two cores, with nothing said to the network."""
    from convlens_adapters.runners.cluster import imported

    found = imported()
    found.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    proto = nets.classifier(0, (3, SIDE, SIDE)).onnx()
    path = nets.saved(proto, tmp_path_factory.mktemp("net"))
    return convlens.load(path, threads=1, mean=[0.5], std=[0.25])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in two classes; one file is broken."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        below = folder / ("even" if number % 2 == 0 else "odd")
        below.mkdir(exist_ok=True)
        array = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(array).save(below / f"{number:02d}.png")
    (folder / "odd" / "05.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def table(photos: Path) -> Path:
    """The same in the order of their paths, in two files of three row groups."""
    folder = photos.parent / "table"
    folder.mkdir(exist_ok=True)
    paths = sorted(photos.rglob("*.png"))
    for number, part in enumerate((paths[:13], paths[13:])):
        rows = {
            "image": [path.read_bytes() for path in part],
            "label": [path.parent.name for path in part],
            "name": [path.relative_to(photos).as_posix() for path in part],
        }
        pq.write_table(pa.table(rows), folder / f"{number}.parquet", row_group_size=5)
    return folder


def opened(model: Model, given: str | Path) -> Source:
    return open_source([str(given)], model.source, model.card)


def recorded(model: Model, source: Source, folder: Path, **options: Any) -> dict[str, bytes]:
    plan = plan_of(model, shard=4, batch_size=3, k=4)
    record(model, source, folder, plan, **options)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(model: Model, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local runner gives."""
    return recorded(model, opened(model, photos), tmp_path_factory.mktemp("whole"))


def test_the_same_bytes_although_copies_of_the_model_are_killed(
    ray: Any, model: Model, photos: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    from convlens_adapters.runners.ray_runner import on_ray

    assert recorded(model, opened(model, photos), tmp_path / "calm", run=on_ray()) == whole
    killed: list[int] = []

    def shot(model: Model, plan: Any, source: Source, shards: Any) -> Iterable[Part]:
        for part in on_ray(replicas=1)(model, plan, source, shards):
            if not killed:
                killed.extend(replicas())
                for process in killed:
                    os.kill(process, signal.SIGKILL)
            yield part

    assert recorded(model, opened(model, photos), tmp_path / "killed", run=shot) == whole
    assert killed
    assert ray.is_initialized()  # a cluster that was there before stays


def replicas() -> list[int]:
    """Processes below this one that hold a copy of the model for Ray."""
    parents, named = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_bytes().startswith(b"ray::Replica"):
                named.append(int(path.name))
        except OSError:
            continue
    return [process for process in named if below(process, parents)]


def below(process: int, parents: dict[int, int]) -> bool:
    while process in parents and process != os.getpid():
        process = parents[process]
    return process == os.getpid()


def test_what_stopped_goes_on_with_either_runner(
    ray: Any, model: Model, photos: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    from convlens_adapters.runners.ray_runner import on_ray

    asked: list[int] = []

    def stops(model: Model, plan: Any, source: Source, shards: Sequence[tuple[int, int]]) -> Iterable[Part]:
        asked.append(len(shards))
        parts = iter(on_ray(replicas=1)(model, plan, source, shards))
        yield next(parts)
        yield next(parts)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            recorded(model, opened(model, photos), tmp_path / "part", run=stops, resume=True)
    assert asked == [6, 4]
    assert recorded(model, opened(model, photos), tmp_path / "part", resume=True) == whole
    assert not [actor for actor in replicas() if not gone(actor)]


def gone(process: int) -> bool:
    """Whether a process ends within some seconds."""
    import time

    for _ in range(100):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.05)
    return False


def test_rows_that_ray_reads_are_recorded_by_reference(
    ray: Any,
    model: Model,
    table: Path,
    tmp_path: Path,
    whole: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command; the photos are the same as in the folder, so the statistics are too."""
    card = ["--mean", "0.5", "--std", "0.25", "--threads", "1"]
    plan = ["--shard", "4", "--batch-size", "3", "-k", "4"]
    for name in ("local", "ray"):
        output = ["-o", str(tmp_path / name), "--runner", name]
        assert app.run(["record", str(model.path), f"ray:parquet:{table}", *output, *plan, *card]) == 4
        assert "1 of 22 items could not be read" in capsys.readouterr().err
    there, here = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("ray", "local")
    )
    assert there == here
    assert len(there) == 5
    for name in ("channels.parquet", "strongest.parquet", "classes.parquet"):
        assert there[name] == whole[name], name
    images = pq.read_table(tmp_path / "ray" / "images.parquet").to_pylist()
    assert [row["name"] for row in images] == pq.read_table(table)["name"].to_pylist()
    assert [row["number"] for row in images if row["reason"]] == [13]


def test_any_dataset_will_do(ray: Any, model: Model, table: Path) -> None:
    from convlens_adapters.sources.ray_rows import RaySource

    rows = [{"pic": np.full((SIDE, SIDE, 3), 10 * i, np.uint8), "y": i} for i in range(20)]
    dataset = ray.data.from_items(rows, override_num_blocks=3)
    held = RaySource(dataset, model.source, image="pic")
    assert len(held) == 20
    pixels = [np.asarray(item.read())[0, 0, 0] for item in held.items(3, 19)]
    assert pixels == list(range(30, 190, 10))
    assert [(item.name, item.label) for item in held.items(7, 9)] == [("row:7", "7"), ("row:8", "8")]
    with pytest.raises(UsageError, match="no column 'picture'; the columns are pic, y"):
        RaySource(dataset, model.source, image="picture")
    with pytest.raises(UsageError, match="no column of inputs; expected one called"):
        RaySource(dataset, model.source)
    with pytest.raises(UsageError, match=r"expected ray:READER:PATH with a reader of Ray Data: .*parquet"):
        opened(model, f"ray:parket:{table}")


def test_shards_are_cut_from_blocks(model: Model) -> None:
    from convlens_adapters.sources.ray_rows import RaySource

    class Blocks(RaySource):
        def __init__(self) -> None:
            self.text = "blocks"

        def __len__(self) -> int:
            return 12

        def blocks(self) -> Any:
            yield from (("a", 0, 3), ("b", 2, 4), ("c", 0, 6))

    cut = Blocks().pieces([(8, 11), (0, 4)])
    assert list(cut) == [(0, 4, [("a", 0, 3), ("b", 2, 3)]), (8, 11, [("c", 3, 6)])]
    assert list(Blocks().pieces([(4, 11)])) == [(4, 11, [("b", 3, 4), ("c", 0, 6)])]
    with pytest.raises(ImageError, match="gave 11 rows and not 12"):
        list(Blocks().pieces([(8, 12)]))


def test_a_model_that_a_node_does_not_see_arrives_whole(
    ray: Any, model: Model, photos: Path, tmp_path: Path
) -> None:
    """With its weights in a second file, by reference, through the cluster's store."""
    from convlens_adapters.runners.replica import Job, Replica, contents, versions

    proto = onnx.load(model.path)
    path = tmp_path / "outside.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    far = convlens.load(path, model.card, threads=1)
    assert list(contents(path)) == ["outside.onnx", "weights.bin"]
    plan = plan_of(far, shard=4, batch_size=3, k=4)
    source = opened(far, photos)
    (part,) = Recorder(far, plan).parts(source, [(4, 8)])

    def told(**changes: Any) -> list[Any]:
        files = {name: ray.put(one.read_bytes()) for name, one in contents(path).items()}
        settings = {
            "path": str(tmp_path / "elsewhere" / "outside.onnx"),
            "files": files,
            "sha256": far.sha256,
            "card": far.card,
            "feeds": {},
            "device": "cpu",
            "cores": 1,
            "workers": 1,
            "plan": plan,
            "lies": lies(source),
            "count": len(source),
            "fingerprint": source.fingerprint(),
            "versions": versions(),
        }
        return [ray.put(Job(**{**settings, **changes}))]

    assert Replica().shard(told(), 4, 8) == part.to_bytes()
    assert Replica().shard(told(path=str(model.path)), 4, 8) == part.to_bytes()  # another file of that name
    with pytest.raises(UsageError, match="another data set lies there"):
        Replica().ready(told(count=3))
    with pytest.raises(UsageError, match=r"a node has numpy .* instead of 1\.0"):
        Replica().ready(told(versions={**versions(), "numpy": "1.0"}))


def test_what_goes_wrong_is_told_in_one_line(
    ray: Any, model: Model, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from convlens_adapters.runners.ray_runner import _got, on_ray

    source = opened(model, photos)
    plan = plan_of(model, shard=4, batch_size=3)
    with pytest.raises(UsageError, match="is to have 9 cores, and the cluster has 2 for copies"):
        list(on_ray(cores=9)(model, plan, source, [(0, 4)]))

    @ray.remote(num_cpus=0)
    def fails(error: Exception) -> None:
        raise error

    with pytest.raises(UsageError, match=r"^no such thing$"):
        _got(ray, fails.remote(UsageError("no such thing")))
    with pytest.raises(
        ConvLensError, match=r"failed on the cluster \(ZeroDivisionError: by zero\).*--resume"
    ):
        _got(ray, fails.remote(ZeroDivisionError("by zero")))

    @ray.remote(num_cpus=0, max_retries=0)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ConvLensError, match=r"the cluster lost a copy of the model 3 times .*--resume"):
        _got(ray, dies.remote())


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from convlens_adapters.runners import cluster

    class Absent:
        """Ray in a process that has joined no cluster, so that the one of the other tests stays."""

        @staticmethod
        def is_initialized() -> bool:
            return False

    monkeypatch.setattr(cluster, "imported", Absent)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens
        address = "127.0.0.1:" + str(held.getsockname()[1])
        with pytest.raises(UsageError, match=f"the Ray cluster at {address} cannot be joined: .*refused"):
            cluster.started(address)
