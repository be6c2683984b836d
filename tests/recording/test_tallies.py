"""Tallies: monoids whose numbers are those of a plain pass over all values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convlens.recording import seen as module
from convlens.recording.seen import Seen, joined, packed, seen, unpacked
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


def slowly(value: np.ndarray, channel_axis: int) -> dict[str, np.ndarray]:
    """Images x channels, value by value in float64."""
    rows = np.moveaxis(value, channel_axis, 1).astype(np.float64)
    rows = rows.reshape(*rows.shape[:2], -1)
    return {
        "most": rows.max(axis=2),
        "place": rows.argmax(axis=2),
        "total": rows.sum(axis=2),
        "square": (rows**2).sum(axis=2),
        "zeros": (rows == 0).sum(axis=2),
    }


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "uint8", "int32", "bool"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "extent", [(), (1, 1), (5,), (7, 7), (13, 11), (3, 5, 9), (16, 16), (997,), (64, 33), (97, 89)]
)
def test_every_kind_of_value_is_reduced(
    kind: str, layout: str, extent: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 500)  # so that there are many blocks, and rows longer than one
    shape = (3, 4, *extent) if layout == "NCHW" else (3, *extent, 4)
    drawn = np.random.default_rng(0).integers(-4, 5, shape)
    value = np.maximum(drawn, 0).astype(kind) if kind in ("uint8", "bool") else (drawn / 2).astype(kind)
    axis = 1 if layout == "NCHW" else value.ndim - 1
    found, exact = seen(value, axis), slowly(value, axis)
    assert found.count == np.prod(extent, dtype=int)
    assert found.extent == extent
    for name, array in exact.items():
        np.testing.assert_allclose(getattr(found, name), array, rtol=1e-6, atol=1e-9, err_msg=name)
    both = joined([seen(value[:1], axis), seen(value[1:], axis)])
    for name in exact:  # an image's numbers do not depend on those beside it
        np.testing.assert_array_equal(getattr(both, name), getattr(found, name), err_msg=name)


@pytest.mark.parametrize("extent", [(7, 7), (16, 16)])
def test_the_largest_of_numbers_below_zero_is_found(extent: tuple[int, ...]) -> None:
    value = -np.abs(np.random.default_rng(0).standard_normal((2, 5, *extent))).astype(np.float32)
    value[0, 0] = -0.0
    value[0, 1].flat[3] = -0.0
    value[1, 2].flat[[2, 5]] = 0.0
    value[1, 3].flat[4] = 7.0
    found = seen(value, 1)
    for name, array in slowly(value, 1).items():
        np.testing.assert_allclose(getattr(found, name), array, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("shift", [0.0, 3.0, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("extent", [(7, 7), (120, 110)])
def test_the_variance_keeps_four_digits(shift: float, extent: tuple[int, int]) -> None:
    value = (shift + np.random.default_rng(0).standard_normal((2, 3, *extent))).astype(np.float32)
    found, exact = seen(value, 1), value.astype(np.float64)
    variance = found.square / found.count - (found.total / found.count) ** 2
    np.testing.assert_allclose(variance, exact.var(axis=(2, 3)), rtol=1e-4)


def test_numbers_whose_squares_overflow_are_numbers() -> None:
    value = np.full((1, 2, 4, 4), 1e30, np.float32)
    value[0, 1, 0, 0] = np.inf
    found = seen(value, 1)
    assert found.total[0, 0] == pytest.approx(16e30)
    assert found.square[0, 0] == pytest.approx(16e60)
    assert found.sound is not None
    assert found.sound.tolist() == [[True, False]]


@given(arrays(np.float32, 40, elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_bins_are_the_same_in_both_precisions(values: np.ndarray) -> None:
    np.testing.assert_array_equal(bins_of(values), bins_of(values.astype(np.float64)))


def test_bins_begin_where_their_powers_do() -> None:
    edges = 2.0 ** (np.arange(-64, 64) / 4)
    above, below = np.nextafter(edges, np.inf), np.nextafter(edges, 0)
    assert (bins_of(above) - bins_of(below) == 1).all()
    assert (np.diff(bins_of(above)) == 1).all()


@given(
    arrays(np.float32, (12, 3), elements=st.integers(-2, 2).map(float) | st.just(-0.0)),
    st.integers(1, 14),
    st.integers(0, 12),
    st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=80, deadline=None)
def test_images_taken_in_are_ranked(most: np.ndarray, k: int, cut: int, kind: type) -> None:
    found, numbers = Strongest.nothing(3, k), np.arange(5, 17)
    for own in (slice(0, cut), slice(cut, 12)):
        part = most[own].astype(kind)
        places = np.broadcast_to(numbers[own, None] % 7, part.shape)
        finite = np.zeros(part.shape)
        found.add(Seen(7, part, places, finite, finite, places, (7,)), numbers[own])
    whole = ranked(most.T.astype(np.float64), numbers, k)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, found.arrays()[name], err_msg=name)
    with pytest.raises(ValueError, match="expected ascending numbers"):
        found.add(Seen(7, part[:1], places[:1], finite[:1], finite[:1], places[:1], (7,)), numbers[:1])
