"""Styles: a photo's content with other pictures' statistics, weighted, masked, with its own colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens import registry
from convlens.errors import ConvLensError, ImageError, ParameterError, UsageError
from convlens.model import Model
from convlens.results import Result
from convlens.watch import Watch
from reference import nets
from reference.impatient import Impatient
from reference.others import OTHERS
from reference.stripes import checks, network, stripes

CARD: dict[str, Any] = {"threads": 1, "mean": [0.5], "std": [0.25], "size": [32, 32]}
CHROMA = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""I and Q of red, green and blue (NTSC)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(nets.saved(network(), tmp_path_factory.mktemp("net")), **CARD)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("styles")
    left = np.zeros((40, 32), np.uint8)
    left[:, :16] = 255
    made = {
        "stripes": stripes((32, 32)),
        "checks": checks((32, 40)),
        "grey": stripes((32, 32)).convert("L"),
        "tiny": stripes((2, 3)),
        "left": Image.fromarray(left),
        "right": Image.fromarray(255 - left),
        "white": Image.new("L", (20, 20), 255),
        "black": Image.new("L", (20, 20)),
    }
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    (folder / "text.png").write_text("no picture")
    return {path.stem: str(path) for path in folder.iterdir()}


def photo(size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Something with content: a bright disc over a gradient."""
    rows, columns = np.mgrid[: size[0], : size[1]] / max(size)
    disc = ((rows - 0.5) ** 2 + (columns - 0.4) ** 2 < 0.06)[..., None]
    ground = np.stack([rows, 0.3 + 0.4 * columns, 0.8 - 0.5 * rows], axis=-1)
    return Image.fromarray(
        np.rint((disc * np.array([0.95, 0.6, 0.7]) + ~disc * ground * 0.8) * 255).astype(np.uint8)
    )


def styled(model: Model, *styles: str, **how: Any) -> Result:
    return model.run("style", [photo()], **{"style": styles, "steps": 40, "scales": 1, **how})


def picture(result: Result) -> NDArray[np.float32]:
    return result.arrays["styled"][0]


@pytest.mark.parametrize("start", ["content", "noise"])
@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_the_style_comes_and_the_content_stays(
    model: Model, files: dict[str, str], optimiser: str, start: str
) -> None:
    how = {"optimiser": optimiser, "start": start, "steps": 50}
    result = styled(model, files["stripes"], **how)
    assert picture(result).shape == (3, 40, 32)
    fall = result.arrays["style_start"].mean() / result.arrays["style_loss"].mean()
    assert fall > (10 if optimiser == "lbfgs" else 3)
    free = styled(model, files["stripes"], content_weight=0.0, **how)
    held = styled(model, files["stripes"], content_weight=5.0, **how)
    assert held.arrays["content_loss"].mean() < 0.5 * free.arrays["content_loss"].mean()
    assert free.arrays["style_loss"].mean() < held.arrays["style_loss"].mean()


def test_losses_are_those_of_onnxruntime(model: Model, files: dict[str, str]) -> None:
    result = styled(
        model, files["stripes"], style_layer=("conv1_relu", "conv2"), content_layer=("conv3_relu",)
    )
    names = ["conv1_relu", "conv2", "conv3_relu"]

    def values(pixels: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        fed = model.preprocess.array(pixels[None] * (255 if pixels.dtype != np.uint8 else 1))
        found = model.runner.run({model.source.name: fed}, names)
        return {name: value[0].astype(np.float64) for name, value in found.items()}

    def plain_gram(features: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = features.reshape(len(features), -1)
        return flat @ flat.T / flat.shape[1]

    for key, shown in (
        ("start", np.asarray(photo())),
        ("loss", np.moveaxis(picture(result), 0, -1).astype(np.float64)),
    ):
        own, like, held = values(shown), values(np.asarray(stripes((32, 32)))), values(np.asarray(photo()))
        wanted = [plain_gram(like[name]) for name in names[:2]]
        expected = [
            ((plain_gram(own[name]) - other) ** 2).sum() / (other**2).sum()
            for name, other in zip(names, wanted, strict=False)
        ]
        np.testing.assert_allclose(result.arrays[f"style_{key}"][0, 0], expected, rtol=1e-3, atol=1e-7)
        kept = ((own[names[2]] - held[names[2]]) ** 2).sum() / (held[names[2]] ** 2).sum()
        np.testing.assert_allclose(result.arrays[f"content_{key}"][0, 0], kept, rtol=1e-3, atol=1e-7)


def test_two_styles_in_three_weights_are_three_pictures(model: Model, files: dict[str, str]) -> None:
    names = files["stripes"], files["checks"]
    first, both, second = (
        styled(model, *names, style_weight=weights, steps=40) for weights in ((1, 0), (1, 1), (0, 1))
    )
    alone = styled(model, files["stripes"], steps=40)
    np.testing.assert_allclose(picture(first), picture(alone), rtol=0, atol=1e-3)

    def far(one: Result, other: Result) -> float:
        return float(np.sqrt(((picture(one) - picture(other)) ** 2).mean()))

    pairs = [far(first, both), far(both, second), far(first, second)]
    assert min(pairs) > 0.05
    assert pairs[2] > max(pairs[:2])
    losses = np.array([each.arrays["style_loss"][0].mean(axis=1) for each in (first, both, second)])
    assert losses[0, 0] < losses[1, 0] < losses[2, 0]
    assert losses[2, 1] < losses[1, 1] < losses[0, 1]
    assert registry.method("style").findings(first)[0].level != "attention"  # what has no weight says nothing


def test_a_mask_for_all_of_it_is_none(model: Model, files: dict[str, str]) -> None:
    plain = styled(model, files["stripes"], steps=10)
    masked = styled(model, files["stripes"], mask=(files["white"],), steps=10)
    np.testing.assert_allclose(picture(masked), picture(plain), rtol=0, atol=1e-3)


def test_each_style_stays_in_its_mask(model: Model, files: dict[str, str]) -> None:
    """Each half has, by onnxruntime, the Gram matrix of its own style and not of the other's."""
    names = files["stripes"], files["checks"]
    result = styled(model, *names, mask=(files["left"], files["right"]), steps=80, content_weight=0.0)
    view = np.rint(np.moveaxis(picture(result), 0, -1) * 255).astype(np.uint8)
    name = model["conv1_relu"].name

    def statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        value = model.runner.run({model.source.name: model.preprocess.array(pixels[None])}, [name])[name]
        flat = value[0].astype(np.float64).reshape(value.shape[1], -1)
        return flat @ flat.T / flat.shape[1]

    halves = [statistics(view[:, :15]), statistics(view[:, 17:])]
    wanted = [statistics(np.asarray(image)) for image in (stripes((32, 32)), checks((32, 40)))]
    apart = [[((half - other) ** 2).sum() for other in wanted] for half in halves]
    assert apart[0][0] < 0.3 * apart[0][1]
    assert apart[1][1] < 0.3 * apart[1][0]


def test_brightness_alone_leaves_chroma_as_it_was(model: Model, files: dict[str, str]) -> None:
    result = styled(model, files["checks"], colour="luminance", steps=60)
    before = np.asarray(photo()).reshape(-1, 3).T / 255
    np.testing.assert_allclose(CHROMA @ picture(result).reshape(3, -1), CHROMA @ before, rtol=0, atol=1e-5)
    assert np.abs(picture(result).reshape(3, -1) - before).mean() > 0.02
    assert result.arrays["style_loss"].mean() < 0.2 * result.arrays["style_start"].mean()


def test_matched_colours_are_nearer_to_the_photos(model: Model, files: dict[str, str]) -> None:
    before = np.asarray(photo()).reshape(-1, 3).T / 255
    own, kept = (styled(model, files["checks"], colour=c, content_weight=0.0) for c in ("style", "matched"))

    def far(result: Result) -> float:
        return float(np.abs(np.cov(picture(result).reshape(3, -1)) - np.cov(before)).sum())

    assert far(kept) < 0.5 * far(own)


def test_the_same_seed_is_the_same_picture_and_a_stop_changes_nothing(
    model: Model, files: dict[str, str], tmp_path: Path
) -> None:
    how = {"scales": 2, "steps": 12, "start": "noise"}
    for number, more in enumerate(({}, {"optimiser": "adam"}, {"colour": "luminance"})):
        whole = styled(model, files["stripes"], **how, **more)
        assert picture(whole).tobytes() == picture(styled(model, files["stripes"], **how, **more)).tobytes()
        folder = tmp_path / str(number)
        first = styled(model, files["stripes"], watch=Impatient(folder, frames=4), **how, **more)
        assert any("--resume" in text for text in first.how["warnings"])
        assert list((folder / "frames").iterdir())
        second = styled(model, files["stripes"], watch=Watch(folder, frames=4, resume=True), **how, **more)
        assert picture(second).tobytes() == picture(whole).tobytes()
        np.testing.assert_array_equal(second.arrays["history"], whole.arrays["history"])
    other = styled(model, files["stripes"], seed=1, **how)
    assert picture(other).tobytes() != picture(whole).tobytes()


@pytest.mark.parametrize("which", ["grey", "tiny"])
def test_odd_styles_are_taken(model: Model, files: dict[str, str], which: str) -> None:
    result = styled(model, files[which])
    assert np.isfinite(picture(result)).all()
    assert result.arrays["style_loss"].mean() < 0.2 * result.arrays["style_start"].mean()
    assert styled(model, files["grey"], colour="matched", steps=3).arrays["style"].shape[2] == 3


def test_a_photo_in_its_own_style_stays(model: Model, tmp_path: Path) -> None:
    photo().save(tmp_path / "self.png")
    result = styled(model, str(tmp_path / "self.png"))
    np.testing.assert_allclose(
        picture(result), np.moveaxis(np.asarray(photo()) / 255, -1, 0), rtol=0, atol=2e-2
    )
    findings = registry.method("style").findings(result)
    assert findings[0].level != "attention"


def test_signals_have_styles_too(tmp_path: Path) -> None:
    other = OTHERS["waveform"]
    model = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    np.save(tmp_path / "style.npy", 2 * other.arrays(1, seed=9))
    like = np.load(tmp_path / "style.npy")
    result = model.run(
        "style",
        other.arrays(2),
        style=(str(tmp_path / "style.npy"),),
        steps=80,
        scales=1,
        content_weight=0.01,
    )
    assert result.arrays["styled"].shape == (2, 1, 200)
    np.testing.assert_array_equal(result.arrays["style"], like[0])
    assert result.arrays["style_loss"].mean() < 0.1 * result.arrays["style_start"].mean()
    with pytest.raises(ParameterError, match="colour 'luminance' is of photos"):
        model.run("style", other.arrays(1), style=(str(tmp_path / "style.npy"),), colour="luminance")
    with pytest.raises(ParameterError, match="the model takes none"):
        model.run("style", other.arrays(1), style=(str(tmp_path / "style.npy"),), mask=("mask.png",))


def test_photos_of_different_sizes_come_out_one_by_one(model: Model, files: dict[str, str]) -> None:
    both = model.run(
        "style", [photo((40, 32)), photo((24, 48))], style=(files["checks"],), steps=3, scales=1, side=32
    )
    assert both.arrays["styled 1"].shape == (3, 32, 26)
    assert both.arrays["styled 2"].shape == (3, 16, 32)
    assert both.arrays["history"].shape == (2, 3)
    assert len(both.pictures) == 2


REFUSED: dict[str, tuple[dict[str, Any], type[ConvLensError], str]] = {
    "no style": ({"style": ()}, ParameterError, "--style PICTURE"),
    "no such file": ({"style": ("nowhere.png",)}, UsageError, "nowhere.png: no such file"),
    "no picture": ({"style": ("text",)}, ImageError, "not a picture"),
    "too many weights": ({"style_weight": (1, 2)}, ParameterError, "2 style weights for 1 styles"),
    "a negative weight": ({"style_weight": (-1,)}, ParameterError, "from 0 up"),
    "too many masks": ({"mask": ("left", "right")}, ParameterError, "2 masks for 1 styles"),
    "an empty mask": ({"mask": ("black",)}, ParameterError, "black all over"),
    "a missing mask": ({"mask": ("nowhere.png",)}, UsageError, "no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(model: Model, files: dict[str, str], case: str) -> None:
    how, error, text = REFUSED[case]
    given = {
        key: tuple(files.get(each, each) for each in value) if key in ("style", "mask") else value
        for key, value in {"style": ("stripes",), **how}.items()
    }
    with pytest.raises(error, match=text) as caught:
        model.run("style", [photo()], steps=2, **given)
    assert "\n" not in str(caught.value)
