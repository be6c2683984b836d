"""Windows against whole images: equal on random graphs, for every patch, fill and cut."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convlens
from convlens.errors import UnsupportedError
from convlens.model import Model
from convlens.runtime.incremental import crops, hidden
from convlens.runtime.incremental.changes import Changes
from convlens.runtime.incremental.hidden import Told, probe
from convlens.runtime.incremental.probing import Probing
from convlens.runtime.patches import positions
from reference import nets
from reference.random_graphs import Net

CLOSE = 1e-5
"""Of the largest magnitude: float32, where another size takes another path through the kernels."""


def probed(
    model: Model,
    image: NDArray[Any],
    changes: Changes,
    names: list[str],
    exact: hidden.Exact,
    told: Told | None = None,
) -> dict[str, NDArray[Any]]:
    found: dict[str, Any] = {name: [None] * len(changes) for name in names}
    source = model.source
    for rows, values in probe(model.runner, source.name, source.axes, image, changes, names, 4, exact, told):
        for name in names:
            for row, value in zip(rows.tolist(), values[name], strict=True):
                assert found[name][row] is None
                found[name][row] = value
    return {name: np.stack(each) for name, each in found.items()}


def changes_of(
    rng: np.random.Generator, model: Model, image: NDArray[Any], side: int, stride: int
) -> Changes:
    """Noise over every patch, those at the border included."""
    axes = [axis - 1 for axis in model.source.axes]
    sides = tuple(min(side, image.shape[axis]) for axis in axes)
    starts = np.array(list(product(*positions([image.shape[axis] for axis in axes], sides, stride))))
    shape = list(image.shape)
    for axis, length in zip(axes, sides, strict=True):
        shape[axis] = length
    filled = rng.normal(0, 2, (len(starts), *shape)).astype(np.float32)
    return Changes(starts, sides, lambda rows: filled[rows])


def opened(proto: onnx.ModelProto, folder: Any) -> Model:
    return convlens.load(nets.saved(proto, folder, "net"), device="cpu", threads=1, kind="image")


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    axes=st.sampled_from([1, 2, 2, 3]),
    steps=st.integers(1, 9),
    side=st.integers(1, 5),
    stride=st.integers(2, 5),
)
def test_windows_are_equal_to_whole_images(
    seed: int, axes: int, steps: int, side: int, stride: int, tmp_path: Any
) -> None:
    rng = np.random.default_rng(seed)
    proto, names = Net(rng, axes, {1: 40, 2: 17, 3: 9}[axes]).model(steps)
    kind = {1: "signal", 2: "image", 3: "volume"}[axes]
    model = convlens.load(
        nets.saved(proto, tmp_path, f"net{seed}-{axes}-{steps}"), device="cpu", threads=1, kind=kind
    )
    image = rng.normal(0, 1, list(model.source.shape[1:])).astype(np.float32)  # type: ignore[index]
    changes = changes_of(rng, model, image, side, max(stride, 4 if axes == 3 else stride))
    try:
        dense = probed(model, image, changes, names, "dense")
    except UnsupportedError:  # ONNX and onnxruntime do not agree on all sizes of pooling that rounds up
        assume(False)
    told = Told()
    with suppress(UnsupportedError):
        found = probed(model, image, changes, names, "incremental", told)
    if told.way == "dense":
        assert told.why == "the first operator looks at everything"
        return
    assert told.way == "incremental"
    content, sides, starts = changes.content, changes.sides, changes.starts
    source = model.source
    probing = Probing(
        model.runner, source.name, source.axes, image[None], starts, sides, content, names, len(starts)
    )
    deepest = len(probing.parts.parts)
    whole = probing.tail(deepest, 1)(probing.windows(np.arange(len(starts)), deepest))
    for name in names:
        scale = float(np.abs(dense[name]).max()) or 1.0
        for windows in (found, whole):
            np.testing.assert_allclose(windows[name], dense[name], rtol=0, atol=CLOSE * scale, err_msg=name)


def chain(tmp_path: Any, side: int = 32) -> Model:
    """Three convolutions, the second of stride 2, then a mean and two scores."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(0, 0.3, (8, 2, 3, 3)),
        "b": rng.normal(0, 0.2, (8, 8, 3, 3)),
        "c": rng.normal(0, 0.2, (8, 8, 3, 3)),
        "d": rng.normal(0, 1, (8, 2)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["one"], pads=[1] * 4),
        helper.make_node("Relu", ["one"], ["two"]),
        helper.make_node("Conv", ["two", "b"], ["three"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["three", "c"], ["four"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["four"], ["five"]),
        helper.make_node("Flatten", ["five"], ["six"]),
        helper.make_node("MatMul", ["six", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return opened(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path
    )


def test_spans_are_those_of_the_receptive_fields(tmp_path: Any) -> None:
    """A patch of 4 from 8 reaches 7..12 behind a 3x3, 3..6 behind stride 2, 2..7 behind another 3x3."""
    model = chain(tmp_path)
    image = np.zeros((1, 2, 32, 32), np.float32)
    probing = Probing(
        model.runner, "x", (2, 3), image, np.array([[8, 0]]), (4, 4), lambda rows: image[:, :, :4, :4], ["y"]
    )
    assert [[node.op for node in part.nodes] for part in probing.parts.parts] == [
        ["Conv", "Relu"],
        ["Conv"],
        ["Conv"],
    ]
    reached = [(probing.spans[n].start[0].tolist(), probing.spans[n].stop[0].tolist()) for n in range(3)]
    assert reached == [([7, 0], [13, 5]), ([3, 0], [7, 3]), ([2, 0], [8, 4])]


def test_every_cut_gives_the_same(tmp_path: Any) -> None:
    model = chain(tmp_path)
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    changes = changes_of(rng, model, image, 7, 5)
    expected = probed(model, image, changes, ["y", "four"], "dense")
    probing = Probing(
        model.runner, "x", (2, 3), image[None], changes.starts, changes.sides, changes.content, ["y", "four"]
    )
    rows = np.arange(len(changes))
    for until in range(len(probing.parts.parts) + 1):
        for most in (1, 5, 1000):
            found = probing.tail(until, 1, most)(probing.windows(rows, until))
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=0, atol=CLOSE * np.abs(array).max())


def test_windows_that_differ_are_given_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(tmp_path)
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    changes = changes_of(rng, model, image, 4, 4)
    expected = probed(model, image, changes, ["y"], "dense")
    cut = crops.Clean.cut

    def wrong(self: crops.Clean, start: Any, size: Any, over: Any) -> NDArray[Any]:
        found = cut(self, start, size, over)
        return found + 1 if over is not None and found.shape[-1] < 20 else found

    monkeypatch.setattr(crops.Clean, "cut", wrong)
    told = Told()
    monkeypatch.setattr(hidden, "GAIN", 0.0)
    found = probed(model, image, changes, ["y"], "auto", told)
    assert told.way == "dense"
    assert "windows differ" in told.why
    np.testing.assert_array_equal(found["y"], expected["y"])
    with pytest.raises(UnsupportedError, match="windows differ"):
        probed(model, image, changes, ["y"], "incremental")


def test_one_way_is_taken_whatever_the_clock_says(tmp_path: Any) -> None:
    """The same inputs give the same bits, on any number of threads."""
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    found = []
    for threads in (1, 2, 1):
        model = convlens.load(chain(tmp_path).path, device="cpu", threads=threads, kind="image")
        changes = changes_of(np.random.default_rng(3), model, image, 5, 3)
        found.append(probed(model, image, changes, ["y"], "incremental")["y"].tobytes())
    assert found[0] == found[1] == found[2]


def test_the_next_image_takes_over_what_the_first_one_made(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, planned = chain(tmp_path), []
    plan = hidden._planned
    monkeypatch.setattr(hidden, "_planned", lambda *given: planned.append(1) or plan(*given))
    rng, kept = np.random.default_rng(4), hidden.Kept()
    source = model.source
    for number, side in enumerate((5, 5, 6)):  # other patches need another plan
        image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
        changes = changes_of(rng, model, image, side, 4)
        expected = probed(model, image, changes, ["y"], "dense")["y"]
        told = Told()
        for rows, values in probe(
            model.runner, source.name, source.axes, image, changes, ["y"], 4, "incremental", told, kept
        ):
            np.testing.assert_allclose(
                values["y"], expected[rows], rtol=0, atol=CLOSE * np.abs(expected).max()
            )
        assert told.way == "incremental"
        assert len(planned) == (1, 1, 2)[number]


def test_a_part_that_does_not_run_alone_is_no_error(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(tmp_path)
    rng = np.random.default_rng(5)
    image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    changes = changes_of(rng, model, image, 4, 4)

    def refuse(self: Probing, *given: Any) -> Any:
        raise RuntimeError("no kernel\nfor this part")

    monkeypatch.setattr(Probing, "_part", refuse)
    monkeypatch.setattr(hidden, "GAIN", 0.0)
    told = Told()
    found = probed(model, image, changes, ["y"], "auto", told)
    assert told.why == "the graph does not run in pieces (no kernel for this part)"
    np.testing.assert_array_equal(found["y"], probed(model, image, changes, ["y"], "dense")["y"])


def test_dense_layers_of_many_weights_take_several_groups_at_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain(tmp_path)
    rng = np.random.default_rng(6)
    image = rng.normal(0, 1, (2, 32, 32)).astype(np.float32)
    changes = changes_of(rng, model, image, 4, 4)
    expected = probed(model, image, changes, ["y"], "dense")["y"]
    sizes = []
    for heavy in (0, 10**9):
        monkeypatch.setattr(hidden, "_HEAVY", heavy)
        groups = [
            (len(rows), np.abs(values["y"] - expected[rows]).max())
            for rows, values in probe(
                model.runner, "x", (2, 3), image, changes, ["y"], 64, "incremental", Told()
            )
        ]
        assert max(apart for _, apart in groups) <= CLOSE * np.abs(expected).max()
        sizes.append(max(count for count, _ in groups))
    assert sizes == [24, 9]  # 8 x 8 positions in tiles of 3 x 3: three across hold 9, 9 and 6
