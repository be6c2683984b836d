"""Recordings that are merged or appended to: the same as one recording of everything, and never lost.

Images go in one by one, since onnxruntime may round an image otherwise in another batch.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import convlens
from convlens.cli import app
from convlens.errors import OutputError, UsageError
from convlens.model import Model
from convlens.recording import merge as merging
from convlens.recording.joined import Joined
from convlens.recording.merge import append, merge
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import Source, open_source
from reference import nets

SIDE = 10
TABLES = ("images.parquet", "channels.parquet", "strongest.parquet", "classes.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(0, tmp_path_factory.mktemp("net"))


def loaded(seed: int, folder: Path, **settings: Any) -> Model:
    proto = nets.classifier(seed, (3, SIDE, SIDE)).onnx()
    given = {"mean": [0.0], "std": [1.0], **settings}
    return convlens.load(nets.saved(proto, folder), threads=1, **given)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    """Three sets; one image comes in two of them, so that equal values meet."""
    rng = np.random.default_rng(3)
    made = [rng.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32) for count in (12, 5, 8)]
    made[1][2] = made[0][7]
    made[2][0] = made[0][7]
    return made


LABELS = (["cat", "dog", "eel"] * 4, ["dog", "fox", "cat", "cat", "fox"], ["eel"] * 8)


@pytest.fixture(scope="module")
def sets(arrays: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The three as files, and all of them in one."""
    folder = tmp_path_factory.mktemp("sets")
    for name, inputs, labels in zip("abc", arrays, LABELS, strict=True):
        np.savez(folder / f"{name}.npz", inputs=inputs, labels=np.array(labels))
    np.savez(folder / "all.npz", inputs=np.concatenate(arrays), labels=np.concatenate(LABELS))
    return [folder / f"{name}.npz" for name in ("a", "b", "c", "all")]


def opened(model: Model, path: Path) -> Source:
    return open_source([str(path)], model.source, model.card)


def recorded(model: Model, source: Path | Source, folder: Path, **options: Any) -> Recording:
    plan = plan_of(model, **{"shard": 6, "batch_size": 1, "k": 4, **options})
    found = opened(model, source) if isinstance(source, Path) else source
    record(model, found, folder, plan)
    return Recording.open(folder)


def same(merged: Recording, whole: Recording, names: bool = False) -> None:
    """What two recordings of the same images tell."""
    for a, b in zip(merged.tallies, whole.tallies, strict=True):
        for name, array in a.arrays().items():
            if name in ("mean", "spread"):
                np.testing.assert_allclose(array, b.arrays()[name], rtol=1e-12, atol=1e-15, err_msg=name)
            else:
                np.testing.assert_array_equal(array, b.arrays()[name], err_msg=name)
    for one, other in zip(merged.strongest, whole.strongest, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)
    for name, array in merged.images.items():
        if names or name != "name":
            assert array.tolist() == whole.images[name].tolist(), name
    for a, b in zip(merged.features(), whole.features(), strict=True):
        np.testing.assert_array_equal(a, b)
    for number in range(len(merged.layers)):
        one, other = merged.by_class(number), whole.by_class(number)
        assert one.labels == other.labels
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
        np.testing.assert_allclose(one.variance, other.variance, rtol=1e-9, atol=1e-15)


def test_merged_is_what_recording_all_of_it_gives(model: Model, sets: list[Path], tmp_path: Path) -> None:
    found = [recorded(model, path, tmp_path / path.stem) for path in sets]
    merge(found[:3], tmp_path / "merged")
    merged = Recording.open(tmp_path / "merged").of(model)
    same(merged, found[3])
    told = merged.manifest["source"]
    assert told["count"] == 25
    assert [part["count"] for part in told["parts"]] == [12, 5, 8]
    names = pq.read_table(tmp_path / "merged" / "strongest.parquet")
    by_number = dict(zip(merged.images["number"], merged.images["name"], strict=True))
    assert all(by_number[row["image"]] == row["name"] for row in names.to_pylist())


def test_merging_is_associative(model: Model, sets: list[Path], tmp_path: Path) -> None:
    a, b, c = (recorded(model, path, tmp_path / path.stem) for path in sets[:3])
    merge([a, b], tmp_path / "ab")
    merge([Recording.open(tmp_path / "ab"), c], tmp_path / "ab_c")
    merge([b, c], tmp_path / "bc")
    merge([a, Recording.open(tmp_path / "bc")], tmp_path / "a_bc")
    one, other = Recording.open(tmp_path / "ab_c"), Recording.open(tmp_path / "a_bc")
    same(one, other, names=True)
    assert one.manifest == other.manifest


def test_whole_shards_and_one_more_give_the_same_bytes(
    model: Model, sets: list[Path], tmp_path: Path
) -> None:
    """The first has two whole shards, the second is one, so nothing is merged in another order."""
    a, b = (recorded(model, path, tmp_path / path.stem) for path in sets[:2])
    merge([a, b], tmp_path / "merged")
    joined = Joined([opened(model, path) for path in sets[:2]])
    recorded(model, joined, tmp_path / "joined")
    for name in TABLES:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "joined" / name).read_bytes(), name
    one, other = (Recording.open(tmp_path / name).manifest for name in ("merged", "joined"))
    assert {key: one[key] for key in one if key != "source"} == {
        key: other[key] for key in other if key != "source"
    }
    assert one["source"]["fingerprint"] == joined.fingerprint() == other["source"]["fingerprint"]


def test_images_of_merged_recordings_are_read_again(
    model: Model, sets: list[Path], arrays: list[np.ndarray], tmp_path: Path
) -> None:
    found = [recorded(model, path, tmp_path / path.stem) for path in sets[:3]]
    merge(found, tmp_path / "merged")
    every, numbers = np.concatenate(arrays), [24, 0, 12, 11, 16]
    batch = Recording.open(tmp_path / "merged").batch(model, numbers)
    np.testing.assert_array_equal(batch.array, every[numbers])
    moved = [shutil.copytree(sets[0].parent, tmp_path / "moved") / path.name for path in sets[:1]]
    moved += [tmp_path / "moved" / path.name for path in sets[1:3]]
    again = Recording.open(tmp_path / "merged", [str(path) for path in moved])
    np.testing.assert_array_equal(again.batch(model, numbers).array, every[numbers])
    with pytest.raises(UsageError, match="it is 3 data sets, and 1 paths say"):
        Recording.open(tmp_path / "merged", [str(moved[0])]).batch(model, [0])
    with pytest.raises(UsageError, match="not the data set that was recorded"):
        Recording.open(tmp_path / "merged", [str(moved[i]) for i in (1, 0, 2)]).batch(model, [0])


def test_several_sets_typed_together_are_one_of_those_merged(
    model: Model, sets: list[Path], arrays: list[np.ndarray], tmp_path: Path
) -> None:
    together = open_source([str(path) for path in sets[:2]], model.source, model.card)
    ab = recorded(model, together, tmp_path / "ab")
    merge([ab, recorded(model, sets[2], tmp_path / "c")], tmp_path / "merged")
    found = Recording.open(tmp_path / "merged")
    assert len(found.manifest["source"]["parts"]) == 2
    numbers = [24, 0, 12, 11, 16]
    np.testing.assert_array_equal(found.batch(model, numbers).array, np.concatenate(arrays)[numbers])


def test_items_of_joined_sets_run_on(model: Model, sets: list[Path], arrays: list[np.ndarray]) -> None:
    joined = Joined([opened(model, path) for path in sets[:3]])
    assert len(joined) == 25
    for first, stop in ((0, 25), (11, 13), (12, 17), (10, 20), (24, 99), (5, 5)):
        got = [item.read() for item in joined.items(first, stop)]
        expected = np.concatenate(arrays)[first:stop]
        assert len(got) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    assert [item.label for item in joined.items(11, 14)] == ["eel", "dog", "fox"]


def test_values_of_one_set_are_missing_in_the_other(model: Model, tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "a.npz", inputs=inputs, reward=np.arange(4.0))
    np.savez(tmp_path / "b.npz", inputs=inputs + 1, move=np.array(["up"] * 4))
    np.savez(tmp_path / "c.npz", inputs=inputs + 2, reward=np.array(["much"] * 4))
    a, b, c = (recorded(model, tmp_path / f"{name}.npz", tmp_path / name) for name in "abc")
    merge([a, b], tmp_path / "merged")
    values = Recording.open(tmp_path / "merged").values
    np.testing.assert_array_equal(values["reward"], [0, 1, 2, 3, *[np.nan] * 4])
    assert values["move"].tolist() == [None] * 4 + ["up"] * 4
    with pytest.raises(UsageError, match="'reward' is a text in one data set and a number in another"):
        merge([a, c], tmp_path / "no")
    assert not (tmp_path / "no" / "manifest.json").exists()


def test_what_does_not_add_up_is_refused(
    model: Model, sets: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    a = recorded(model, sets[0], tmp_path / "a")
    b = recorded(model, sets[1], tmp_path / "b")
    other = loaded(1, tmp_path_factory.mktemp("other"))
    carded = convlens.load(model.path, threads=1, mean=[0.5], std=[1.0])
    refused: Sequence[tuple[Recording, str]] = (
        (recorded(other, sets[1], tmp_path / "o"), "differ in the model's hash"),
        (recorded(carded, sets[1], tmp_path / "d"), "differ in the card"),
        (recorded(model, sets[1], tmp_path / "k", k=2), r"number of places \(-k\)"),
        (recorded(model, sets[1], tmp_path / "l", **layer_of(model)), "layers that were followed"),
    )
    for one, why in refused:
        with pytest.raises(UsageError, match=why):
            merge([a, one], tmp_path / "no")
    with pytest.raises(UsageError, match=r"both hold the data set .*count twice"):
        merge([a, recorded(model, sets[0], tmp_path / "again")], tmp_path / "no")
    with pytest.raises(UsageError, match="both hold the data set"):
        merge([a, a], tmp_path / "no")
    with pytest.raises(UsageError, match="one recording given"):
        merge([a], tmp_path / "no")
    with pytest.raises(OutputError, match="is one of the recordings"):
        merge([a, b], tmp_path / "b", overwrite=True)
    assert not (tmp_path / "no").exists()
    with pytest.raises(OutputError, match="is not empty"):
        merge([a, b], tmp_path / "o")
    merge([a, b], tmp_path / "o", overwrite=True)
    assert Recording.open(tmp_path / "o").of(model).manifest["images"] == 17
    merge([a, a], tmp_path / "twice", repeats=True)
    assert Recording.open(tmp_path / "twice").tallies[0].images[0] == 24


def layer_of(model: Model) -> dict[str, Any]:
    return {"layers": [layer.alias for layer in model.layers if layer.channels is not None][:1]}


def test_appended_is_merged(model: Model, sets: list[Path], tmp_path: Path) -> None:
    rec = tmp_path / "rec"
    for path in sets:
        recorded(model, path, tmp_path / path.stem)
    shutil.copytree(tmp_path / "a", rec)
    for path in sets[1:3]:
        append(model, opened(model, path), rec)
    same(Recording.open(rec), Recording.open(tmp_path / "all"))
    assert sorted(path.name for path in rec.iterdir()) == sorted([*TABLES, "manifest.json"])
    with pytest.raises(UsageError, match=r"holds .*b\.npz already"):
        append(model, opened(model, sets[1]), rec)
    assert append(model, opened(model, sets[1]), rec, resume=True)["images"] == 25
    append(model, opened(model, sets[1]), rec, repeats=True, pieces={"shard": 2})
    assert Recording.open(rec).manifest["images"] == 30
    with pytest.raises(UsageError, match="no recording"):
        append(model, opened(model, sets[1]), tmp_path / "nowhere")


class Killed(BaseException):
    """In place of a signal."""


def test_killed_at_any_moment_it_is_the_old_or_the_new_one(
    model: Model, sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change of a file's name, every write to the disk and every removal is the last one in turn."""
    start = tmp_path / "start"
    recorded(model, sets[0], start)
    done = shutil.copytree(start, tmp_path / "done")
    append(model, opened(model, sets[1]), done)
    new, old = contents(done), contents(start)
    removed = merging.swap.shutil.rmtree
    seen, moment = set(), 0
    while True:
        rec = shutil.copytree(start, tmp_path / f"rec{moment}")
        with monkeypatch.context() as patched:
            left = [moment]

            def dies(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
                def call(*given: Any, **options: Any) -> Any:
                    if left[0] == 0:
                        raise Killed
                    left[0] -= 1
                    return real(*given, **options)

                return call

            for name in ("replace", "fsync"):
                patched.setattr(os, name, dies(getattr(os, name)))
            patched.setattr(shutil, "rmtree", dies(removed))
            try:
                append(model, opened(model, sets[1]), rec)
                killed = False
            except Killed:
                killed = True
        Recording.open(rec)
        state = {name: data for name, data in contents(rec).items() if "/" not in name}
        assert state in (old, new), moment
        seen.add(state == new)
        append(model, opened(model, sets[1]), rec, resume=True)
        assert contents(rec) == new
        if not killed:
            break
        moment += 1
    assert moment > 20
    assert seen == {False, True}


def contents(folder: Path) -> dict[str, bytes]:
    """Files by their path; what is hidden directly below is none of the recording's."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def test_another_set_half_appended_is_named(model: Model, sets: list[Path], tmp_path: Path) -> None:
    rec = tmp_path / "rec"
    recorded(model, sets[0], rec)

    def stops(*given: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(model, opened(model, sets[1]), rec, run=stops)
    with pytest.raises(OutputError, match="another recording unfinished"):
        append(model, opened(model, sets[2]), rec, resume=True)
    with pytest.raises(OutputError, match="--resume goes on with it"):
        append(model, opened(model, sets[1]), rec)
    append(model, opened(model, sets[2]), rec, overwrite=True)
    assert Recording.open(rec).manifest["images"] == 20


def test_the_commands(
    model: Model, sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--mean", "0", "--std", "1", "--threads", "1"]
    for path in sets:
        command = ["record", str(model.path), str(path), "-o", str(tmp_path / path.stem), "-k", "4"]
        assert app.run([*command, "--shard", "6", "--batch-size", "1", *usual]) == 0
    merged = str(tmp_path / "merged")
    assert app.run(["merge", *(str(tmp_path / name) for name in "ab"), "-o", merged]) == 0
    assert "17 images recorded" in capsys.readouterr().out
    more = ["record", str(model.path), str(sets[2]), "-o", merged, "--append", *usual]
    assert app.run([*more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 25
    same(Recording.open(merged), Recording.open(tmp_path / "all"))
    assert app.run(more) == 2
    assert "--allow-repeats" in capsys.readouterr().err
    assert app.run([*more, "-k", "5"]) == 2
    assert "leave both out" in capsys.readouterr().err
    assert app.run(["record", str(model.path), str(sets[2]), "-o", merged, "--runner", "rey", *usual]) == 2
    assert "no runner 'rey'" in capsys.readouterr().err
