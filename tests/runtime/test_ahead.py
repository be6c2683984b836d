"""Work side by side: order, errors, how much is taken ahead, and the same bits however many there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convlens
from convlens.errors import UnsupportedError
from convlens.graph.load import load_graph
from convlens.runtime import ahead as module
from convlens.runtime import runner as runner_module
from convlens.runtime.ahead import ahead, divided, small
from convlens.runtime.runner import Runner
from graph.nets import classifier, numbers, put, refused
from reference import nets

IMAGES = numbers(7, 3, 8, 8)
ALONE = "ahead"  # what its threads are called


def waiting() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(ALONE)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    def late(number: int) -> int:
        time.sleep(0.002 * (number * 7 % 5))
        return number * number

    assert list(ahead(late, range(23), workers)) == [number**2 for number in range(23)]
    assert list(ahead(late, [], workers)) == []
    assert waiting() == []


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_taken_ahead_than_is_said(workers: int) -> None:
    lock, taken, handed, busy, most = threading.Lock(), 0, 0, 0, [0, 0]

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(30):
            taken += 1
            most[0] = max(most[0], taken - handed)
            yield number

    def work(number: int) -> int:
        nonlocal busy
        with lock:
            busy += 1
            most[1] = max(most[1], busy)
        time.sleep(0.001)
        with lock:
            busy -= 1
        return number

    for _ in ahead(work, items(), workers):
        handed += 1
    assert most[0] == workers + 2
    assert most[1] <= workers


def test_a_single_item_needs_no_thread() -> None:
    assert list(ahead(lambda _: threading.current_thread(), [0], 4)) == [threading.main_thread()]
    assert threading.main_thread() not in ahead(lambda _: threading.current_thread(), [0, 1], 4)


def test_errors_come_where_the_result_would_have_come() -> None:
    def work(number: int) -> int:
        if number == 4:
            raise ValueError("four")
        return number

    found = ahead(work, range(100), 3)
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="four"):
        next(found)
    assert waiting() == []


def test_what_is_not_asked_for_is_not_done() -> None:
    done: list[int] = []
    found = ahead(done.append, range(1000), 2)
    next(found)
    found.close()
    assert len(done) <= 5
    assert waiting() == []


@pytest.mark.parametrize(
    ("cores", "threads", "wanted"),
    [
        (1, None, (1, 1)),
        (2, None, (2, 1)),
        (12, None, (8, 1)),
        (64, None, (8, 8)),
        (8, 2, (4, 2)),
        (2, 4, (1, 4)),
    ],
)
def test_cores_are_shared_out(
    cores: int, threads: int | None, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    assert divided(threads) == wanted


def test_which_models_are_small() -> None:
    assert small((3, 224, 224), lambda: 4_100_000_000)
    assert not small((3, 224, 224), lambda: 15_500_000_000)
    assert not small((3, 224, 224), lambda: None)
    assert not small((3, 2048, 2048), lambda: 1)
    assert not small((3, "height", 224), lambda: 1)
    assert not small((), lambda: 1)


def test_how_cores_are_divided_depends_on_sizes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load_graph(put(classifier(), tmp_path))[0]
    monkeypatch.setattr(module, "cores", lambda: 4)
    assert Runner(graph, "cpu", macs=lambda: 1000).division == (4, 1)
    assert Runner(graph, "cpu", macs=lambda: 10**10).division == (0, None)
    assert Runner(graph, "cpu").division == (0, None)
    assert Runner(graph, "cpu", 1, macs=lambda: 1000).division == (0, 1)
    assert Runner(graph, "cpu", 3, macs=lambda: 1000).division == (0, 3)
    assert Runner(graph, "cpu", macs=lambda: 1000).for_many(1).division == (0, 1)
    assert Runner(graph, "cpu", macs=lambda: 1000).whole().division == (4, 1)
    on_a_gpu = Runner(graph, "cpu", macs=lambda: 1000)
    on_a_gpu.device = "cuda"
    assert on_a_gpu.division == (1, None)
    monkeypatch.setattr(module, "cores", lambda: 1)
    assert Runner(graph, "cpu", macs=lambda: 1000).division == (0, 1)


def divided_into(runner: Runner, workers: int) -> Runner:
    runner.__dict__["division"] = (workers, 1)
    return runner


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_stream_gives_the_same_bits_however_many_at_once(
    workers: int, batch: int | str, tmp_path: Path
) -> None:
    graph = load_graph(put(classifier(batch), tmp_path))[0]
    batches = [{"image": numbers(1 + number % 3, 3, 8, 8) * number} for number in range(12)]
    names = ["logits", "relu1", "w1", "image"]
    wanted = list(Runner(graph, "cpu", 1).stream(batches, names))
    found = list(divided_into(Runner(graph, "cpu"), workers).stream(iter(batches), names))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert list(one) == list(other)
        for name in names:
            np.testing.assert_array_equal(one[name], other[name])


def test_one_session_is_made_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[frozenset[str]] = []
    make = runner_module.session_of

    def spy(shared: Any, names: frozenset[str], *given: Any) -> Any:
        made.append(names)
        time.sleep(0.01)
        return make(shared, names, *given)

    monkeypatch.setattr(runner_module, "session_of", spy)
    runner = divided_into(Runner(load_graph(put(classifier(), tmp_path))[0], "cpu"), 4)
    runner.run({"image": IMAGES}, ["logits"], batch_size=1)
    runner.run({"image": IMAGES}, ["logits"])
    assert made == [frozenset({"logits"})]


def test_what_onnxruntime_refuses_comes_in_its_place(tmp_path: Path) -> None:
    runner = divided_into(Runner(load_graph(put(classifier(), tmp_path))[0], "cpu"), 2)
    batches = [{"image": IMAGES}] * 3 + [{"image": numbers(1, 3, 9, 9)}] + [{"image": IMAGES}] * 9
    found = runner.stream(batches, ["logits"])
    assert [len(next(found)["logits"]) for _ in range(3)] == [7, 7, 7]
    with refused(UnsupportedError, "image [1, 3, 9, 9]", "onnxruntime cannot run the model"):
        next(found)
    assert waiting() == []


METHODS: dict[str, dict[str, Any]] = {
    "rise": {"masks": 90},
    "lime": {"samples": 150, "parts": 3},
    "kernel-shap": {"samples": 140, "parts": 4},
    "score-cam": {},
    "occlusion": {"patch": 3, "stride": 1, "exact": "dense"},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_give_the_same_bits_however_many_at_once(method: str, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    path = nets.saved(net.onnx(), tmp_path)
    results = []
    for workers in (0, 1, 3):
        model = convlens.load(path, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], threads=1)
        divided_into(model.runner, workers)
        results.append(model.run(method, images, 2, batch_size=5, **METHODS[method]))
    for other in results[1:]:
        assert other.rows == results[0].rows
        for name, array in results[0].arrays.items():
            np.testing.assert_array_equal(other.arrays[name], array)


def test_until_stops_at_the_same_mask_however_many_at_once(tmp_path: Path) -> None:
    net = nets.classifier(0)
    found = []
    for workers in (0, 3):
        model = convlens.load(nets.saved(net.onnx(), tmp_path), mean=[0.4] * 3, std=[0.2] * 3, threads=1)
        divided_into(model.runner, workers)
        options: dict[str, Any] = {"masks": 3000, "until": 0.2, "batch_size": 16}
        found.append(model.run("rise", nets.pictures(0, 1, net.shape), 2, **options))
    assert found[0].rows[0]["forwards"] < 3001
    assert found[1].rows == found[0].rows
    np.testing.assert_array_equal(found[1].array, found[0].array)
    assert waiting() == []
