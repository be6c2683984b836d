"""Tallies: monoids whose numbers are those of a plain pass over all values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convlens.recording.seen import packed, seen, unpacked
from convlens.recording.tallies import BINS, Strongest, Tally, bins_of, middles

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False, width=32) | st.just(0.0) | st.integers(-3, 3).map(float)


def counted(values: np.ndarray) -> Tally:
    """Channels x images, one value each, counted the slow way."""
    tally = Tally.nothing(len(values))
    tally.images[:] = values.shape[1]
    for channel, row in enumerate(values):
        if not len(row):
            continue
        tally.values[channel] = len(row)
        tally.mean[channel] = row.mean()
        tally.spread[channel] = ((row - row.mean()) ** 2).sum()
        tally.zeros[channel] = sum(value == 0 for value in row)
        tally.most[channel] = row.max()
        for place in bins_of(row):
            tally.histogram[channel, place] += 1
    return tally


def same(one: Tally, other: Tally) -> None:
    for name, array in one.arrays().items():
        if name in ("mean", "spread"):
            np.testing.assert_allclose(array, other.arrays()[name], rtol=1e-9, atol=1e-6)
        else:
            np.testing.assert_array_equal(array, other.arrays()[name])


def ranked(values: np.ndarray, numbers: np.ndarray, k: int) -> Strongest:
    found = Strongest.nothing(len(values), k)
    for channel, row in enumerate(values):
        order = sorted(range(len(row)), key=lambda i: (-row[i], numbers[i]))[:k]
        for rank, i in enumerate(order):
            found.value[channel, rank], found.image[channel, rank] = row[i], numbers[i]
            found.place[channel, rank] = numbers[i] % 7
    return found


@given(arrays(np.float64, (3, 12), elements=NUMBERS), st.lists(st.integers(0, 12), min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_shards_add_up_to_one_pass(values: np.ndarray, cuts: list[int]) -> None:
    first, second = sorted(cuts)
    a, b, c = (counted(part) for part in np.split(values, [first, second], axis=1))
    same(a.merged(b).merged(c), counted(values))
    same(a.merged(b.merged(c)), counted(values))
    same(c.merged(a).merged(b), counted(values))
    nothing = Tally.nothing(3)
    for name, array in nothing.merged(a).arrays().items():
        np.testing.assert_array_equal(array, a.arrays()[name])
        np.testing.assert_array_equal(array, a.merged(nothing).arrays()[name])


@given(
    arrays(np.float64, (2, 10), elements=st.integers(-3, 3).map(float)),
    st.permutations(range(10)),
    st.integers(1, 12),
    st.integers(0, 10),
)
@settings(max_examples=80, deadline=None)
def test_the_strongest_of_shards_are_those_of_one_pass(
    values: np.ndarray, order: list[int], k: int, cut: int
) -> None:
    numbers = np.arange(10)
    whole = ranked(values, numbers, k)
    mixed = np.array(order)
    parts = [ranked(values[:, part], numbers[part], k) for part in np.split(mixed, [cut])]
    nothing = Strongest.nothing(2, k)
    for found in (parts[0].merged(parts[1]), parts[1].merged(parts[0]), nothing.merged(whole)):
        for name, array in whole.arrays().items():
            np.testing.assert_array_equal(array, found.arrays()[name], err_msg=name)


@given(st.floats(-(2.0**15), 2.0**15, width=32))
def test_the_middle_of_a_bin_is_near_its_values(value: float) -> None:
    place = int(bins_of(np.array([value]))[0])
    assert 0 <= place < BINS
    if abs(value) < 2.0**-16:
        assert middles()[place] == 0 or abs(middles()[place]) < 2.0**-15
    else:
        assert middles()[place] == pytest.approx(value, rel=1 / 10)


def test_bins_are_in_order() -> None:
    values = np.array([-1e30, -5.0, -4.9, -1e-3, -1e-12, 0.0, 1e-12, 1e-3, 4.9, 5.0, 1e30])
    places = bins_of(values)
    assert (np.diff(places) >= 0).all()
    assert places[0] == 0
    assert places[-1] == BINS - 1
    assert (np.diff(middles()) > 0).all()


def test_quantiles_are_within_a_bin() -> None:
    values = np.random.default_rng(0).lognormal(size=(2, 5000))
    tally = counted(values)
    for share in (0.01, 0.5, 0.9, 0.995):
        np.testing.assert_allclose(tally.quantile(share), np.quantile(values, share, axis=1), rtol=1 / 8)
    assert tally.quantile(1.0) == pytest.approx(values.max(axis=1), rel=1 / 10)
    assert np.isnan(Tally.nothing(2).quantile(0.5)).all()
    with pytest.raises(ValueError, match="0 to 1"):
        tally.quantile(2)


VALUES = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    elements=st.integers(-4, 4).map(float) | st.floats(-100, 100, width=32),
)


@given(VALUES, st.sampled_from(["NCHW", "NHWC"]))
@settings(max_examples=80, deadline=None)
def test_batches_add_up_to_what_a_plain_pass_says(value: np.ndarray, layout: str) -> None:
    channels = value.shape[1]
    tally, strongest = Tally.nothing(channels), Strongest.nothing(channels, 2)
    for first in range(0, len(value), 2):
        part = value[first : first + 2]
        given_part = part if layout == "NCHW" else part.transpose(0, 2, 3, 1)
        one = seen(given_part, 1 if layout == "NCHW" else 3)
        tally.add(one)
        strongest.add(one, np.arange(first, first + len(part)))
    for channel in range(channels):
        row = value[:, channel].astype(np.float64)
        assert tally.values[channel] == row.size
        assert tally.mean[channel] == pytest.approx(row.mean(), rel=1e-5, abs=1e-4)
        assert tally.variance[channel] == pytest.approx(row.var(), rel=1e-4, abs=1e-2)
        assert tally.zeros[channel] == (row == 0).sum()
        assert tally.most[channel] == row.max()
        best = row.reshape(len(row), -1)
        order = sorted(range(len(best)), key=lambda i: (-best[i].max(), i))[:2]
        assert strongest.image[channel].tolist() == order + [-1] * (2 - len(order))
        row_of, column_of = unpacked(strongest.place[channel, :1], 2)
        assert row_of[0] * value.shape[3] + column_of[0] == best[order[0]].argmax()
        assert tally.histogram[channel].sum() == len(row)
    assert tally.images[0] == len(value)


def test_a_small_spread_about_a_large_mean_is_kept() -> None:
    value = 1000 + np.random.default_rng(0).standard_normal((6, 2, 32, 32)).astype(np.float32)
    tally = Tally.nothing(2)
    for part in np.split(value, 3):
        tally.add(seen(part, 1))
    exact = value.astype(np.float64)
    np.testing.assert_allclose(tally.variance, exact.var(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(tally.mean, exact.mean(axis=(0, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_counted_and_left_out(bad: float) -> None:
    value = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
    broken = value.copy()
    broken[1, 0, 1, 1] = bad
    tally, strongest = Tally.nothing(2), Strongest.nothing(2, 3)
    one = seen(broken, 1)
    tally.add(one)
    strongest.add(one, np.arange(3))
    assert tally.unsound.tolist() == [1, 0]
    assert tally.values.tolist() == [8, 12]
    assert tally.mean[0] == pytest.approx(value[[0, 2], 0].mean())
    assert strongest.image.tolist() == [[2, 0, -1], [2, 1, 0]]
    assert np.isfinite(tally.mean).all()
    assert np.isfinite(tally.variance).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
@settings(deadline=None)
def test_places_keep_their_coordinates(extent: list[int], data: st.DataObject) -> None:
    flat = np.array([data.draw(st.integers(0, int(np.prod(extent)) - 1))])
    found = unpacked(packed(flat, extent), len(extent))
    assert tuple(int(axis[0]) for axis in found) == tuple(int(i) for i in np.unravel_index(flat[0], extent))
