"""How unusual an activation is: held against counting images, and ``channels`` with a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import convlens
from convlens.errors import LayerError
from convlens.model import Model
from convlens.recording.channels.unusual import ranked, share_below, times
from convlens.recording.seen import Seen
from convlens.recording.tallies import Strongest, Tally
from reference import nets
from reference.recorded import recorded


def seen(most: np.ndarray) -> Seen:
    """Images x channels, as if each image had one value a channel."""
    return Seen(1, most, np.zeros(most.shape, np.int64), most, most**2, (most == 0).astype(np.int64))


def both(most: np.ndarray, k: int) -> tuple[Tally, Strongest]:
    tally, strongest = Tally.nothing(most.shape[1]), Strongest.nothing(most.shape[1], k)
    tally.add(seen(most))
    strongest.add(seen(most), np.arange(len(most)))
    return tally, strongest


def test_the_share_is_that_of_counting_and_never_too_large() -> None:
    rng = np.random.default_rng(0)
    most = np.maximum(rng.normal(0, 3, (500, 5)), [[-9, 0, 0, 0, 1]])
    tally, strongest = both(most, 9)
    values = np.concatenate([rng.normal(0, 4, (40, 5)), most[:40], np.zeros((1, 5)), np.full((1, 5), 99.0)])
    found = share_below(tally, strongest, values)
    truth = (most[None] < values[:, None]).mean(axis=1)
    assert (found <= truth + 1e-12).all()
    # a bin is a quarter of a power of two wide: what it can hold is what is missing at most
    low = np.where(values > 0, values / 2**0.25, values * 2**0.25)
    assert (found >= (most[None] < low[:, None]).mean(axis=1) - 1e-12).all()
    kept = np.sort(most, axis=0)[-9]
    top = values > 1.001 * np.abs(kept)
    assert top.any()
    np.testing.assert_allclose(found[top], truth[top])
    assert (found[-1] == 1).all()


def test_with_few_images_the_share_is_exact() -> None:
    most = np.array([[1.0, 0.0], [2.0, 0.0], [2.1, 0.0], [2.2, 5.0]])
    tally, strongest = both(most, 4)
    values = np.array([[2.15, 0.0], [1.0, 5.0], [3.0, 6.0], [2.0, 0.1]])
    expected = np.array([[0.75, 0.0], [0.0, 0.75], [1.0, 1.0], [0.25, 0.75]])
    np.testing.assert_array_equal(share_below(tally, strongest, values), expected)


def test_nothing_recorded_says_nothing() -> None:
    tally, strongest = Tally.nothing(2), Strongest.nothing(2, 3)
    assert share_below(tally, strongest, np.array([[1.0, -1.0]])).tolist() == [[0.0, 0.0]]
    assert tally.share_below(np.array([1.0, -1.0])).tolist() == [0.0, 0.0]


def test_the_order() -> None:
    share = np.array([[0.5, 1.0, 1.0, 1.0, 0.0]])
    values = np.array([[9.0, 2.0, 3.0, 0.5, 0.0]])
    ratio = times(values, np.array([1.0, 2.0, 1.0, 0.0, np.nan]))
    assert ratio.tolist() == [[9.0, 1.0, 3.0, 0.0, 0.0]]
    # the fourth never fired when it was recorded, so nothing is more unusual
    assert ranked(share, ratio, values).tolist() == [[3, 2, 1, 0, 4]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unusual")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    """Three planes as they are behind one Relu, and doubled behind another."""
    double = (2 * np.eye(3, dtype=np.float32)).reshape(3, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["one"]),
        helper.make_node("Conv", ["one", "v"], ["again"]),
        helper.make_node("Relu", ["again"], ["two"]),
        helper.make_node("GlobalAveragePool", ["two"], ["y"]),
    ]
    stored = {"w": double / 2, "v": double}
    proto = nets.model_of(nodes, {"x": ["N", 3, 8, 8]}, ["y"], stored)
    return convlens.load(nets.saved(proto, root, "planes"), threads=1)


def test_channels_stand_in_the_order_of_how_unusual_they_are(model: Model, root: Path) -> None:
    """The second channel is always the strongest, so only against the recording the first stands out."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (30, 3, 8, 8)).astype(np.float32) * np.array([1, 50, 1], np.float32)[:, None, None]
    image = x[:1].copy()
    image[0, 0, 3, 4] = 1.5  # above everything; the others stay as they were
    image[0, 1] = 20.0
    found = recorded(model, x, root / "recordings")
    plain = model.run("channels", image, top=3)
    assert plain.arrays["channel"][0, 0] == 1
    assert "share" not in plain.arrays
    result = model.run("channels", image, top=3, recording=found)
    assert result.hints["title"].startswith("most unusual channels of two")
    assert result.arrays["channel"][0].tolist()[0] == 0
    assert result.arrays["channel"][0].tolist()[-1] == 1
    most = 2 * x.max(axis=(2, 3))
    share = (most < 2 * image.max(axis=(2, 3))).mean(axis=0)
    for k, channel in enumerate(result.arrays["channel"][0].tolist()):
        assert result.arrays["share"][0, k] <= share[channel] + 1e-9
        ratio = 2 * image.max(axis=(2, 3))[0, channel] / np.sort(most[:, channel])[-1]
        assert result.arrays["ratio"][0, k] == pytest.approx(ratio, rel=0.1)
        assert result.rows[k]["share"] == result.arrays["share"][0, k]
    assert result.arrays["share"][0, 0] == 1.0
    assert result.how["recording"]["images"] == 30


def test_only_recorded_layers_can_be_asked_for(model: Model, root: Path) -> None:
    x = np.random.default_rng(2).uniform(0, 1, (6, 3, 8, 8)).astype(np.float32)
    found = recorded(model, x, root / "recordings", layers=("one",))
    assert model.run("channels", x[:1], recording=found).rows[0]["layer"] == "one"
    with pytest.raises(LayerError, match=r"layer 'two' was not recorded.*recorded are one"):
        model.run("channels", x[:1], recording=found, layer="two")
