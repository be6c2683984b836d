"""Textures: pictures from noise with the statistics of a sample, and tiles without a seam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.errors import LayerError, ParameterError, UnsupportedError
from convlens.model import Model
from convlens.results import Result
from convlens.synthesis.loop import Stage
from convlens.synthesis.styles.texturing import _around
from convlens.watch import Watch
from reference import nets
from reference.impatient import Impatient
from reference.others import OTHERS
from reference.stripes import checks, network, stripes

CARD = {"threads": 1, "mean": [0.5], "std": [0.25], "size": [32, 32]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(network(), tmp_path_factory.mktemp("net")), **CARD)


def made(model: Model, sample: Image.Image, **how: object) -> Result:
    return model.run("texture", [sample], **{"steps": 60, "scales": 1, **how})


def plain_gram(features: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = features.reshape(len(features), -1)
    return flat @ flat.T / flat.shape[1]


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_a_texture_has_the_gram_matrices_of_its_sample(model: Model, optimiser: str) -> None:
    """Seen by onnxruntime, of the 8-bit picture that is saved."""
    sample = stripes((32, 32))
    result = made(model, sample, optimiser=optimiser, steps=80)
    assert result.arrays["texture"].shape == (1, 3, 32, 32)
    names = [model[alias].name for alias in result.how["layers"]]
    view = np.rint(np.moveaxis(result.arrays["texture"], 1, -1) * 255).astype(np.uint8)

    def grams(views: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        values = model.runner.run({model.source.name: model.preprocess.array(views)}, names)
        return [plain_gram(values[name][0].astype(np.float64)) for name in names]

    wanted = grams(np.asarray(sample)[None])
    noise = grams(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8))
    for own, other, random in zip(grams(view), wanted, noise, strict=True):
        assert ((own - other) ** 2).sum() < 0.02 * ((random - other) ** 2).sum()
    losses = [
        ((own - other) ** 2).sum() / (other**2).sum() for own, other in zip(grams(view), wanted, strict=True)
    ]
    np.testing.assert_allclose(result.arrays["style_loss"][0, 0], losses, rtol=0.05, atol=2e-4)
    assert result.arrays["style_loss"].mean() < 0.01 * result.arrays["style_start"].mean()
    assert convlens.registry.method("texture").findings(result)[0].level == "good"


def test_a_picture_may_be_larger_than_its_sample(model: Model) -> None:
    result = made(model, checks((24, 24)), side=48, steps=30)
    assert result.arrays["texture"].shape == (1, 3, 48, 48)
    assert result.arrays["sample"].shape == (1, 24, 24, 3)
    assert result.arrays["style_loss"].mean() < 0.1 * result.arrays["style_start"].mean()


def test_samples_of_different_sizes_come_out_one_by_one(model: Model, tmp_path: Path) -> None:
    both = model.run("texture", [stripes((24, 32)), checks((32, 24))], steps=3, scales=1)
    assert both.arrays["texture 1"].shape == (3, 24, 32)
    assert both.arrays["texture 2"].shape == (3, 32, 24)
    alone = made(model, checks((32, 24)), steps=3)
    np.testing.assert_array_equal(alone.arrays["texture"][0], both.arrays["texture 2"])
    both.save(tmp_path)
    with Image.open(tmp_path / "image-1-texture.png") as saved:
        assert saved.size == (24, 32)


def roughness(picture: NDArray[np.float32]) -> tuple[float, float]:
    """Mean step across the two seams of the wrapped picture, and across all other lines."""
    across = [np.abs(np.roll(picture, -1, axis) - picture) for axis in (1, 2)]
    seams = [across[0][:, -1], across[1][:, :, -1]]
    inside = [across[0][:, :-1], across[1][:, :, :-1]]
    return tuple(float(np.mean([part.mean() for part in parts])) for parts in (seams, inside))  # type: ignore[return-value]


def test_a_seamless_picture_has_no_seam(model: Model) -> None:
    sample = stripes((40, 40), period=8, angle=35)
    torn_seam, torn_inside = roughness(made(model, sample, steps=60).arrays["texture"][0])
    found = made(model, sample, steps=60, seamless=True).arrays["texture"][0]
    seam, inside = roughness(found)
    assert seam < 1.15 * inside
    assert seam / inside < torn_seam / torn_inside
    quarters = [half for rows in np.split(found, 2, axis=1) for half in np.split(rows, 2, axis=2)]
    middle = found[:, 10:30, 10:30]  # would be left bland if edges counted more
    assert middle.std() > 0.95 * np.mean([each.std() for each in quarters])


def test_a_seamless_picture_of_two_sizes_has_no_seam(model: Model) -> None:
    """Every second line lies between two pixels of the smaller picture, the seam too: those are compared."""
    sample, shares = stripes((40, 40), period=8, angle=35), []
    for seed in range(3):
        found = made(model, sample, steps=60, scales=2, seamless=True, seed=seed).arrays["texture"][0]
        for axis in (1, 2):
            across = np.abs(np.roll(found, -1, axis) - found)
            lines = np.moveaxis(across, axis, 0).reshape(40, -1).mean(axis=1)
            shares.append(lines[-1] / lines[1:-1:2].mean())
    assert np.mean(shares) < 1.15


def test_a_seamless_picture_grows_across_its_edges() -> None:
    wave = (
        torch.sin(2 * np.pi * torch.arange(16, dtype=torch.float64) / 16)
        .view(1, 1, 1, 16)
        .expand(1, 1, 16, 16)
    )
    larger = _around(wave.contiguous(), Stage((31, 32), 1))
    assert tuple(larger.shape) == (1, 1, 31, 32)
    rolled = _around(wave.roll(5, dims=3).contiguous(), Stage((31, 32), 1))
    torch.testing.assert_close(rolled, larger.roll(10, dims=3), rtol=0, atol=1e-12)


def test_sizes_grow_and_losses_are_told_at_the_full_one(model: Model) -> None:
    result = made(model, stripes((64, 64)), scales=3, steps=21, sample_side=64)
    assert result.arrays["history"].shape == (1, 21)
    assert result.arrays["style_start"].shape == (1, 1, len(result.how["layers"]))
    assert {row["layer"] for row in result.rows} == set(result.how["layers"])


def test_a_stopped_search_goes_on_where_it_was(model: Model, tmp_path: Path) -> None:
    for optimiser in ("lbfgs", "adam"):
        whole = made(model, stripes((32, 32)), scales=2, steps=12, optimiser=optimiser)
        folder = tmp_path / optimiser
        first = made(
            model, stripes((32, 32)), scales=2, steps=12, optimiser=optimiser, watch=Impatient(folder)
        )
        assert first.arrays["history"].shape == (1, Impatient.patience)
        again = Watch(folder, resume=True)
        second = made(model, stripes((32, 32)), scales=2, steps=12, optimiser=optimiser, watch=again)
        np.testing.assert_array_equal(second.arrays["texture"], whole.arrays["texture"])


@pytest.mark.parametrize("which", ["waveform without channels", "twelve leads", "volume", "reader"])
def test_textures_of_other_inputs(which: str, tmp_path: Path) -> None:
    other = OTHERS[which]
    path = nets.saved(other.make(), tmp_path)
    model = convlens.load(path, device="cpu", threads=1, **other.settings)
    result = model.run("texture", other.arrays(1), steps=80, scales=1)
    assert result.arrays["style_loss"].mean() < 0.05 * result.arrays["style_start"].mean()


def test_a_model_of_one_size_sees_pictures_resampled_and_says_so(tmp_path: Path) -> None:
    path = nets.saved(nets.classifier(0, (3, 16, 16)).onnx(), tmp_path)
    model = convlens.load(path, threads=1, mean=[0.5], std=[0.25])
    result = made(model, stripes((20, 20)), side=24, steps=4)
    assert result.arrays["texture"].shape == (1, 3, 24, 24)
    assert any("16 x 16 only" in text for text in result.how["warnings"])


def test_what_cannot_be_is_refused(model: Model, tmp_path: Path) -> None:
    sample = stripes((16, 16))
    with pytest.raises(LayerError, match="has no places"):
        made(model, sample, layer=("scores",))
    with pytest.raises(LayerError, match="no layer 'relu9'"):
        made(model, sample, layer=("relu9",))
    with pytest.raises(ParameterError, match="2 layer weights for 1 layers"):
        made(model, sample, layer=("conv1_relu",), layer_weight=(1.0, 2.0))
    with pytest.raises(ParameterError, match="layer weights 0: expected numbers from 0 up"):
        made(model, sample, layer=("conv1_relu",), layer_weight=(0.0,))
    other = OTHERS["vector"]
    vector = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1)
    with pytest.raises(UnsupportedError, match="no layer whose units have a place"):
        vector.run("texture", other.arrays(1))


def test_a_tiny_sample_is_enlarged(model: Model) -> None:
    result = made(model, stripes((3, 5)), steps=2)
    assert min(result.arrays["texture"].shape[2:]) >= 8
