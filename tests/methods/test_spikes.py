"""``spikes``: the statistic against the paper, what it calls a spike, its background, its pictures."""

from __future__ import annotations

from math import inf, log, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.attribution.sets import moderated
from convlens.errors import CardError, LayerError, ParameterError, UsageError
from reference import deconvnet, nets, spikes
from reference.others import OTHERS

SINGLE = 2e-5
"""Of the largest number: onnxruntime computes in float32."""


def folder_of(images: NDArray[Any], folder: Path, name: str = "background") -> Path:
    """One array a file."""
    place = folder / name
    place.mkdir()
    for index, image in enumerate(images):
        np.save(place / f"{index:03d}.npy", image)
    return place


def loaded(net: nets.Net, folder: Path) -> convlens.Model:
    return convlens.load(nets.saved(net.onnx(), folder), threads=1)


@pytest.mark.parametrize(
    ("chance", "freedom", "wanted"),
    [
        (0.05, 1, 6.313752), (0.025, 3, 3.182446), (0.025, 10, 2.228139), (0.0005, 30, 3.645959),
        (0.001, 120, 3.159539), (0.025, inf, 1.959964), (1e-6, inf, 4.753424),
    ],
)  # fmt: skip
def test_what_students_t_exceeds(chance: float, freedom: float, wanted: float) -> None:
    """Printed tables."""
    assert moderated.student(chance, freedom) == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("freedom", [2.3, 3.0, 7.5, 40.0])
@pytest.mark.parametrize("chance", [0.05, 1e-4, 4e-5])
def test_the_tail_beyond_is_the_chance(chance: float, freedom: float) -> None:
    assert spikes.tail(moderated.student(chance, freedom), freedom) == pytest.approx(chance, rel=1e-5)


def test_derivatives_of_the_gamma_function() -> None:
    for x in (0.1, 0.5, 1.0, 3.7, 9.9, 10.1, 250.0):
        assert moderated._digamma(x) == pytest.approx(spikes.digamma(x), abs=1e-9)
        assert moderated._trigamma(x) == pytest.approx(spikes.trigamma(x), rel=1e-10)
        assert moderated._inverse_trigamma(spikes.trigamma(x)) == pytest.approx(x, rel=1e-9)
    assert moderated._trigamma(0.5) == pytest.approx(pi**2 / 2)
    assert moderated._digamma(0.5) == pytest.approx(-0.5772156649015329 - 2 * log(2))


@pytest.mark.parametrize("count", [3, 4, 9, 60])
@pytest.mark.parametrize("images", [1, 3])
def test_scores_equal_the_reference(count: int, images: int) -> None:
    rng = np.random.default_rng(count)
    size = rng.gamma(1.0, 1.0, 40)
    samples, values = rng.gamma(2.0, size, (count, 40)), rng.gamma(2.0, size, (images, 40))
    wanted, freedom = spikes.scores(samples.tolist(), values.tolist())
    held = moderated.reference(samples)
    assert held.freedom == pytest.approx(freedom, rel=1e-8)
    np.testing.assert_allclose(held.score(values.mean(axis=0), images), wanted, rtol=1e-8)


def test_channels_alike_have_one_spread() -> None:
    """Variances that differ less than chance would make them: all are taken for the same."""
    samples = np.stack([np.arange(5.0) + k for k in range(30)], axis=1)
    held = moderated.reference(samples)
    assert held.freedom == inf
    assert len(set(held.spread.tolist())) == 1


def test_silent_channels() -> None:
    """One that never varies borrows the usual spread; where all are silent there is no score."""
    rng = np.random.default_rng(0)
    samples = rng.gamma(2.0, 1.0, (6, 30))
    samples[:, 7] = 0.0
    held = moderated.reference(samples)
    assert 0 < held.spread[7] < np.median(held.spread)
    wanted, _ = spikes.scores(samples.tolist(), samples[:1].tolist())
    np.testing.assert_allclose(held.score(samples[0]), wanted, rtol=1e-8)
    assert (moderated.reference(np.zeros((4, 5))).score(np.ones(5)) == 0).all()


@pytest.mark.parametrize("count", [3, 8, 40])
def test_spikes_by_accident_are_as_rare_as_promised(count: int) -> None:
    """Normal channels of different spreads, nothing planted: 5% of layers show one, within chance."""
    rng = np.random.default_rng(count)
    hits, rounds = 0, 300
    for _ in range(rounds):
        spread = np.sqrt(1 / rng.gamma(3.0, 1.0, 300))
        samples, value = rng.standard_normal((count, 300)) * spread, rng.standard_normal(300) * spread
        held = moderated.reference(samples)
        hits += bool((held.score(value) > held.threshold(0.05)).any())
    # 300 trials at 5%: 15 expected, standard deviation 3.8; the prior is estimated, which costs a little
    assert 4 <= hits <= 30


@pytest.mark.parametrize("as_set", [False, True])
@pytest.mark.parametrize("layer", ["relu1", "conv2", "relu2"])
def test_the_method_equals_the_reference(layer: str, as_set: bool, tmp_path: Path) -> None:
    net = nets.classifier(2)
    images, others = (nets.pictures(seed, count, net.shape, np.float32) for seed, count in ((2, 3), (9, 7)))
    others = np.concatenate([others, images[1:2]])  # the second image itself is no background for it
    result = loaded(net, tmp_path).run(
        "spikes",
        images,
        layer=layer,
        background=str(folder_of(others, tmp_path)),
        as_set=as_set,
        level=0.2,
        top=3,
        batch_size=2,
    )

    def means(batch: NDArray[Any]) -> list[list[float]]:
        tops = [deconvnet.forward(net.until(layer), image).top for image in batch]
        return [[float(channel.mean()) for channel in top] for top in tops]

    for index in range(3):
        tested = images if as_set else images[index : index + 1]
        kept = others[:7] if as_set or index == 1 else others
        wanted, freedom = spikes.scores(means(kept), means(tested))
        scale = max(map(abs, wanted))
        np.testing.assert_allclose(result.array[index], wanted, atol=1e-4 * scale)
        threshold = float(result.arrays["threshold"][index])
        assert spikes.tail(threshold, freedom) == pytest.approx(0.2 / len(wanted), rel=1e-3)
        np.testing.assert_array_equal(result.arrays["spike"][index], np.array(wanted) > threshold)
        np.testing.assert_allclose(result.arrays["mean"][index], means(images)[index], atol=SINGLE)
        np.testing.assert_allclose(
            result.arrays["background"][index], np.mean(means(kept), axis=0), atol=SINGLE
        )
        assert result.arrays["channel"][index].tolist() == np.argsort(-np.array(wanted))[:3].tolist()


def planted(folder: Path) -> tuple[convlens.Model, NDArray[Any], NDArray[Any]]:
    """Three colours, a filter each; an image whose green is far stronger than in any background."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    for colour in range(3):
        weight[colour, colour] = 1 / 9
    net = nets.Net((3, 12, 10), (nets.Conv(weight, np.zeros(3, np.float32), pad=1), nets.Relu()))
    rng = np.random.default_rng(0)
    others = rng.uniform(0, 1, (12, 3, 12, 10)).astype(np.float32)
    image = rng.uniform(0, 1, (1, 3, 12, 10)).astype(np.float32)
    image[0, 1, 4:7, 5:8] += 60
    return loaded(net, folder), image, others


def test_a_planted_spike_is_found_and_linked(tmp_path: Path) -> None:
    model, image, others = planted(tmp_path)
    result = model.run("spikes", image, layer="relu1", background=str(folder_of(others, tmp_path)), top=2)
    assert result.arrays["spike"].tolist() == [[False, True, False]]
    row = result.rows[0]
    assert (row["target"], row["spike"]) == ("relu1:1", True)
    # the strongest unit lies in the middle of the bright patch, and sees 3 x 3
    assert row["position"] == [5, 6]
    assert row["box"] == [4, 5, 7, 8]
    signal = result.arrays["signal"][0, 0]
    assert set(map(tuple, np.argwhere(signal).tolist())) == {
        (1, y, x) for y in range(4, 7) for x in range(5, 8)
    }
    (finding,) = convlens.methods()["spikes"].findings(result)
    assert "1 of 3 channels of relu1 spike" in finding.text
    assert "relu1:1 at" in finding.evidence
    assert model.run("saliency", image, row["target"]).array.shape == image.shape


def test_two_kinds_of_pictures(tmp_path: Path) -> None:
    model, image, others = planted(tmp_path)
    place = str(folder_of(others, tmp_path))
    images = np.concatenate([image, others[:1]])
    pictures = model.run("spikes", images, layer="relu1", background=place).pictures
    assert [picture.index for picture in pictures] == [0, 1, 0, 1]
    curves, _, crops, _ = pictures
    assert "spikes: 1 at" in curves.alt
    assert "1: z" in crops.alt
    assert "0: no spike, z" in crops.alt
    assert len({picture.name for picture in pictures}) == 4
    together = model.run("spikes", images, layer="relu1", background=place, as_set=True)
    assert [picture.index for picture in together.pictures] == [None, 0, 1]
    assert (together.arrays["z"][0] == together.arrays["z"][1]).all()


def test_a_background_of_photos_goes_through_the_card(tmp_path: Path) -> None:
    net = nets.classifier(0)
    path = nets.saved(net.onnx(), tmp_path)
    model = convlens.load(path, threads=1, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    rng = np.random.default_rng(1)
    photos = [Image.fromarray(rng.integers(0, 256, (30, 24, 3), np.uint8)) for _ in range(5)]
    place = tmp_path / "photos"
    place.mkdir()
    for index, photo in enumerate(photos):
        photo.save(place / f"{index}.png")
    (place / "5.png").write_bytes(b"no picture")
    through = model.images(photos).array
    arrays = folder_of(through, tmp_path, "arrays")
    images = nets.pictures(0, 2, net.shape, np.float32)
    one, other = (model.run("spikes", images, background=str(folder)) for folder in (place, arrays))
    np.testing.assert_allclose(one.array, other.array, rtol=1e-6)
    assert one.how["background"]["inputs"] == 5
    assert "5.png" in one.how["background"]["unread"][0]


def test_the_photos_that_come_along(tmp_path: Path) -> None:
    """An image that is among them is not compared with itself."""
    path = nets.saved(nets.classifier(0, (3, 22, 17)).onnx(), tmp_path)
    model = convlens.load(path, threads=1, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    photos = convlens.catalogue.photos()
    result = model.run("spikes", [photos[0], Image.new("RGB", (40, 40), (9, 99, 199))])
    assert result.how["background"] == {"name": "the photos that come along", "inputs": 4, "unread": []}
    own = model.run("channels", photos[1:], layer=result.rows[0]["target"].split(":")[0], top=64)
    assert own.array.shape[0] == 3
    rest = model.run("spikes", photos[1:], layer=None, top=1, background=str(photos[0].parent)).arrays["mean"]
    np.testing.assert_allclose(result.arrays["background"][0], rest.mean(axis=0), rtol=1e-6)


def test_what_is_refused(tmp_path: Path) -> None:
    model, image, others = planted(tmp_path)
    with pytest.raises(CardError, match=r"background of arrays with --background"):
        model.run("spikes", image)
    few = str(folder_of(np.concatenate([others[:2], image]), tmp_path, "few"))
    with pytest.raises(UsageError, match=r"\(few\) holds 2 inputs other than input 0; expected 3 or more"):
        model.run("spikes", image, background=few)
    with pytest.raises(UsageError, match="no such file"):
        model.run("spikes", image, background=str(tmp_path / "nowhere"))
    wrong = str(folder_of(others[:, :, :-1], tmp_path, "wrong"))
    with pytest.raises(UsageError, match=r"\(wrong\) holds nothing that can be read: .*12"):
        model.run("spikes", image, background=wrong)
    model = loaded(nets.classifier(0), tmp_path)
    with pytest.raises(LayerError, match="keeps no place"):
        model.run("spikes", nets.pictures(0, 1, (3, 11, 9)), layer="dense1", background=few)


@pytest.mark.parametrize("which", ["waveform", "board", "tokens", "video", "volume", "spectrogram"])
def test_other_inputs_need_a_background_of_arrays(which: str, tmp_path: Path) -> None:
    other = OTHERS[which]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1, **other.settings)
    with pytest.raises(UsageError, match=r"none comes along for a .*--background, a folder of arrays"):
        model.run("spikes", other.arrays(1))
    place = str(folder_of(other.arrays(5, seed=3), tmp_path))
    result = model.run("spikes", other.arrays(2), background=place, top=2)
    assert result.how["background"]["inputs"] == 5
    assert len(result.pictures) == 4
    again = convlens.Result.load(tmp_path, "spikes") if result.save(tmp_path) else result
    for one, back in zip(result.pictures, again.pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(back.image))


def test_synthetic_pictures_are_those_of_visualise(tmp_path: Path) -> None:
    net = nets.classifier(0, (3, 16, 16))
    card: dict[str, Any] = {"mean": [0.5], "std": [0.25]}
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, **card)
    photos = [Image.new("RGB", (20, 20), colour) for colour in ((9, 99, 199), (250, 180, 20))]
    result = model.run("spikes", photos, layer="relu1", top=2, synthetic=3, seed=4)
    pictures = result.arrays["synthetic"]
    assert pictures.shape == (2, 2, 3, 16, 16)
    for shown, made in zip(result.arrays["channel"].ravel(), pictures.reshape(4, 3, 16, 16), strict=True):
        one = model.run("visualise", None, "relu1", channel=str(shown), steps=3, seed=4)
        np.testing.assert_allclose(made, one.array[0], rtol=0, atol=1e-5)
    plain = model.run("spikes", photos, layer="relu1", top=2).pictures
    assert result.pictures[-1].image.height > plain[-1].image.height


def test_synthetic_pictures_are_for_photos(tmp_path: Path) -> None:
    other = OTHERS["waveform"]
    model = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1)
    place = str(folder_of(other.arrays(4), tmp_path))
    with pytest.raises(ParameterError, match="drawn of photos"):
        model.run("spikes", other.arrays(2, 1), background=place, synthetic=2)
