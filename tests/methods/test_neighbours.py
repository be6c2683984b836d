"""``neighbours`` against loops over a recording and its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from convlens import registry
from convlens.errors import UsageError
from convlens.model import Model
from convlens.recording.reading import Recording
from reference import nets
from reference.recorded import recorded

SHAPE = (3, 12, 10)
CLOSE = 1e-5
"""Of a distance: features in float32, of a batch of another size."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("neighbours")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    return convlens.load(
        nets.saved(nets.classifier(0, SHAPE).onnx(), root), mean=[0.5], std=[0.25], threads=1
    )


@pytest.fixture(scope="module")
def pictures() -> NDArray[Any]:
    return nets.pictures(2, 14, SHAPE, np.float32)


@pytest.fixture(scope="module")
def recording(model: Model, pictures: NDArray[Any], root: Path) -> Recording:
    return recorded(model, pictures, root / "rec", np.arange(14) % 2)


def queries(pictures: NDArray[Any]) -> NDArray[Any]:
    """One that is in the data set, and one that is not."""
    return np.stack([pictures[5], pictures[7] * 0.9 + 0.1])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_they_are_the_nearest_of_all(
    metric: str, model: Model, recording: Recording, pictures: NDArray[Any]
) -> None:
    given = queries(pictures)
    result = model.run("neighbours", given, recording=recording, metric=metric, count=4)
    feature = recording.feature
    assert feature is not None
    values = model.runner.run({"input": np.concatenate([pictures, given])}, [feature.name])[feature.name]
    vectors = values.reshape(*values.shape[:2], -1).astype(np.float64).mean(axis=2)
    for index in range(2):
        query, held = vectors[14 + index], vectors[:14]
        if metric == "cosine":
            lengths = np.sqrt((held**2).sum(axis=1)) * np.sqrt((query**2).sum())
            distance = 1 - (held * query).sum(axis=1) / lengths
        else:
            distance = np.sqrt(((held - query) ** 2).sum(axis=1))
        order = np.argsort(distance)[:4]
        assert result.arrays["number"][index].tolist() == order.tolist()
        np.testing.assert_allclose(result.arrays["distance"][index], distance[order], rtol=0, atol=CLOSE)
        gaps = np.sqrt(((pictures.astype(np.float64) - given[index]) ** 2).sum(axis=(1, 2, 3)))
        order = np.argsort(gaps)[:4]
        assert result.arrays["pixel_number"][index].tolist() == order.tolist()
        np.testing.assert_allclose(result.arrays["pixel_distance"][index], gaps[order], rtol=0, atol=CLOSE)


def test_an_image_of_the_data_set_finds_itself_and_is_not_counted(
    model: Model, recording: Recording, pictures: NDArray[Any]
) -> None:
    result = model.run("neighbours", queries(pictures), recording=recording, count=5)
    same = result.arrays["same"]
    assert same[0].tolist() == [True, False, False, False, False]
    assert not same[1].any()
    assert result.arrays["number"][0, 0] == 5
    assert result.arrays["distance"][0, 0] == pytest.approx(0, abs=1e-6)
    first, second = result.hints["each"]
    assert (first["by"], first["class"]) == ("label", "1")
    assert second["by"] == "prediction"
    own = result.arrays["number"][0, 1:]
    assert result.arrays["share"][0, 0] == np.mean(own % 2 == 1)
    told = model.probabilities(model.images(np.concatenate([pictures, queries(pictures)]))).argmax(axis=1)
    assert result.arrays["share"][1, 0] == np.mean(told[result.arrays["number"][1]] == told[15])
    for index in range(2):
        lists = [set(result.arrays[name][index].tolist()) for name in ("number", "pixel_number")]
        lists = [one - {5} if index == 0 else one for one in lists]
        assert result.arrays["overlap"][index] == len(lists[0] & lists[1]) / len(lists[0])
    findings = registry.method("neighbours").findings(result)
    assert [finding.image for finding in findings] == [0, 1]
    assert "have its label, 1" in findings[0].text


def test_without_pixels_the_data_set_is_only_read_for_the_pictures(
    model: Model, recording: Recording, pictures: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    batch = Recording.batch

    def counted(self: Recording, model: Model, numbers: Any) -> Any:
        asked.extend(numbers)
        return batch(self, model, numbers)

    monkeypatch.setattr(Recording, "batch", counted)
    result = model.run("neighbours", queries(pictures), recording=recording, pixels="no", count=2)
    assert sorted(asked) == sorted(set(result.arrays["number"].reshape(-1).tolist()))
    assert "pixel_number" not in result.arrays
    assert result.arrays["share"].shape == (2, 1)
    assert len(result.pictures) == 2


def test_more_than_there_are_gives_all(model: Model, recording: Recording, pictures: NDArray[Any]) -> None:
    result = model.run("neighbours", pictures[:1], recording=recording, count=100)
    assert sorted(result.arrays["number"][0].tolist()) == list(range(14))


def test_features_that_are_no_numbers_are_refused(
    model: Model, recording: Recording, monkeypatch: pytest.MonkeyPatch, pictures: NDArray[Any]
) -> None:
    from convlens.recording.nearness import lookup

    monkeypatch.setattr(lookup, "features_of", lambda *_: np.full((1, 4), np.nan, np.float32))
    with pytest.raises(UsageError, match="input 0: the model's features hold NaN or infinity"):
        model.run("neighbours", pictures[:1], recording=recording)


def test_inputs_of_other_sizes_are_left_out_of_the_pixels(root: Path) -> None:
    """A model that takes any length, and a data set of signals of two lengths."""
    from reference.others import OTHERS

    other = OTHERS["waveform without channels"]
    model = convlens.load(nets.saved(other.make(), root, "signals"), threads=1)
    folder = root / "signals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        signal = rng.standard_normal(160 if number < 4 else 120).astype(np.float32)
        np.save(folder / f"{number}.npy", signal)
    from convlens.recording.plan import plan_of
    from convlens.recording.run import record
    from convlens.recording.source import open_source

    record(model, open_source([str(folder)], model.source, model.card), root / "srec", plan_of(model, k=2))
    opened = Recording.open(root / "srec")
    query = np.load(folder / "1.npy")[None]
    result = model.run("neighbours", query, recording=opened, count=3)
    assert result.arrays["same"][0, 0]
    assert set(result.arrays["pixel_number"][0].tolist()) <= {0, 1, 2, 3}
    assert result.how["warnings"] == ["2 inputs of the data set are of another size and were left out"]
    assert model.run("neighbours", query, recording=opened, count=6).how["warnings"][0].startswith("no neigh")
    assert len(result.pictures) == 1
