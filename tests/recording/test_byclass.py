"""Moments by class: a monoid whose numbers are those of a plain pass, and a table that is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import convlens
from convlens.recording.byclass import Group, Groups, naturally
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import open_source
from reference import nets

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False, width=32) | st.integers(-3, 3).map(float)
GROUPS = st.none() | st.builds(Group, st.booleans(), st.sampled_from(["cat", "dog", "10", "9"]))


def grouped(groups: list[Group | None], most: np.ndarray) -> Groups:
    found = Groups.nothing()
    found.add(groups, most)
    return found


def same(one: Groups, other: Groups) -> None:
    assert one.groups() == other.groups()
    for name, array in one.arrays().items():
        if name == "images":
            np.testing.assert_array_equal(array, other.arrays()[name])
        else:
            np.testing.assert_allclose(array, other.arrays()[name], rtol=1e-9, atol=1e-5)


@given(
    arrays(np.float32, (12, 3), elements=NUMBERS),
    st.lists(GROUPS, min_size=12, max_size=12),
    st.lists(st.integers(0, 12), min_size=2, max_size=2),
)
@settings(max_examples=80, deadline=None)
def test_shards_add_up_to_one_pass(most: np.ndarray, groups: list[Group | None], cuts: list[int]) -> None:
    first, second = sorted(cuts)
    pieces = [slice(0, first), slice(first, second), slice(second, None)]
    a, b, c = (grouped(groups[piece], most[piece]) for piece in pieces)
    whole = grouped(groups, most)
    same(a.merged(b).merged(c), whole)
    same(a.merged(b.merged(c)), whole)
    same(c.merged(a).merged(b), whole)
    bit_by_bit = Groups.nothing()
    for piece in pieces:
        bit_by_bit.add(groups[piece], most[piece])
    same(bit_by_bit, whole)
    for left in (Groups.nothing().merged(a), a.merged(Groups.nothing()), Groups.of(a.groups(), a.arrays())):
        assert left.groups() == a.groups()
        for name, array in left.arrays().items():
            np.testing.assert_array_equal(array, a.arrays()[name])
    for group, moments in whole.held.items():
        own = most[[one == group for one in groups]].astype(np.float64)
        assert moments.images == len(own)
        np.testing.assert_allclose(moments.mean, own.mean(axis=0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(moments.spread / len(own), own.var(axis=0), rtol=1e-6, atol=1e-5)


def test_merging_changes_neither_side() -> None:
    one = grouped([Group(False, "cat")], np.array([[1.0]]))
    other = grouped([Group(False, "cat")], np.array([[3.0]]))
    both = one.merged(other)
    both.add([Group(False, "cat")], np.array([[5.0]]))
    assert both.held[Group(False, "cat")].mean.tolist() == [3.0]
    assert (one.held[Group(False, "cat")].images, other.held[Group(False, "cat")].mean.tolist()) == (1, [3.0])


def test_given_labels_come_before_predicted_ones() -> None:
    mixed = grouped([Group(False, "10"), Group(True, "cat"), Group(False, "9"), None], np.zeros((4, 1)))
    assert [group.label for group, _ in mixed.chosen()] == ["9", "10"]
    assert [group.label for group, _ in grouped([Group(True, "cat")], np.zeros((1, 1))).chosen()] == ["cat"]
    assert Groups.nothing().chosen() == []


def test_numbers_in_text_sort_by_size() -> None:
    texts = ["10", "9", "img10", "img9", "", "b", "img", "09"]
    assert sorted(texts, key=naturally) == ["", "09", "9", "10", "b", "img", "img9", "img10"]


@pytest.mark.parametrize("labels", [None, np.array([7, 10, 7, 7, 10, 2, 2, 2, 2, 10, 7])])
def test_classes_are_read_back(labels: np.ndarray | None, tmp_path: Path) -> None:
    net = nets.classifier(0, (3, 8, 8))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, mean=[0.0], std=[1.0])
    inputs = np.random.default_rng(0).standard_normal((11, 3, 8, 8)).astype(np.float32)
    inputs[3] = np.sign(inputs[3]) * 3e38  # whose sums float32 does not hold
    given_labels = {} if labels is None else {"labels": labels}
    np.savez(tmp_path / "data.npz", inputs=inputs, **given_labels)
    plan = plan_of(model, k=2, shard=4, batch_size=2)
    record(model, open_source([str(tmp_path / "data.npz")], model.source, model.card), tmp_path / "rec", plan)
    found = Recording.open(tmp_path / "rec")
    names = [layer.name for layer in plan.layers]
    assert model.classes is not None
    values = model.runner.run({model.source.name: inputs}, [*names, model.classes.name])
    texts = values[model.classes.name].argmax(axis=1) if labels is None else labels
    if labels is None:
        texts[3] = -1  # no scores, no class
    for number, layer in enumerate(plan.layers):
        told = found.by_class(number)
        assert told.predicted == (labels is None)
        assert told.labels == tuple(map(str, sorted(set(texts.tolist()) - {-1})))
        assert told.images.tolist() == [int((texts == int(label)).sum()) for label in told.labels]
        value = np.moveaxis(values[layer.name], layer.channel_axis, 1)
        value = value.reshape(*value.shape[:2], -1).astype(np.float64)
        most = np.where(np.isfinite(value).all(axis=2), value.max(axis=2), np.nan)
        for row, label in enumerate(told.labels):
            own = most[texts == int(label)]
            np.testing.assert_allclose(told.mean[row], own.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(told.variance[row], own.var(axis=0), rtol=1e-5, atol=1e-9)
    rows = pq.read_table(tmp_path / "rec" / "classes.parquet").to_pylist()
    assert list(rows[0]) == ["layer", "label", "predicted", "images", "mean", "spread"]
    assert len(rows) == len(plan.layers) * len(told.labels)
    assert len(rows[0]["mean"]) == plan.layers[0].channels
