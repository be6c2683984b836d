"""Gram matrices and what is made of them, against loops written from the papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.errors import LayerError
from convlens.model import Model
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.styles import colours, gram, styling
from convlens.synthesis.styles.matching import Match, Sample, seen
from reference import nets
from reference.others import OTHERS

EXACT = 1e-12
"""Of the largest number, where float64 does the same sums in another order."""


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def plain_gram(features: NDArray[Any], mask: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Gatys et al. 2017, section 4: multiply by a guide whose squares add up to 1, then sum over places."""
    channels = len(features)
    places = list(np.ndindex(features.shape[1:]))
    guide = np.ones(features.shape[1:]) if mask is None else mask.astype(np.float64)
    guide = guide / np.sqrt(sum(guide[p] ** 2 for p in places))
    found = np.zeros((channels, channels))
    for i in range(channels):
        for j in range(channels):
            found[i, j] = sum(guide[p] * features[i][p] * guide[p] * features[j][p] for p in places)
    return found


@pytest.mark.parametrize("space", [(7,), (4, 5), (2, 3, 4)], ids=["line", "plane", "volume"])
def test_a_gram_matrix_is_the_mean_of_products(space: tuple[int, ...]) -> None:
    features = drawn(2, 3, *space)
    found = gram.gram(torch.from_numpy(features)).numpy()
    for row in range(2):
        np.testing.assert_allclose(found[row], plain_gram(features[row]), rtol=0, atol=EXACT)


def test_a_guided_gram_matrix_counts_places_as_the_mask_says() -> None:
    features, mask = drawn(2, 3, 4, 5), np.random.default_rng(1).uniform(0, 1, (4, 5))
    found = gram.gram(torch.from_numpy(features), torch.from_numpy(mask)).numpy()
    for row in range(2):
        np.testing.assert_allclose(found[row], plain_gram(features[row], mask), rtol=0, atol=EXACT)


def test_a_full_mask_is_none() -> None:
    features = torch.from_numpy(drawn(2, 3, 4, 5))
    full = gram.gram(features, torch.full((4, 5), 0.7, dtype=torch.float64))
    torch.testing.assert_close(full, gram.gram(features), rtol=EXACT, atol=EXACT)


def test_half_a_mask_is_the_gram_matrix_of_that_half() -> None:
    features, mask = torch.from_numpy(drawn(1, 3, 4, 6)), torch.zeros(4, 6, dtype=torch.float64)
    mask[:, :2] = 1
    torch.testing.assert_close(
        gram.gram(features, mask), gram.gram(features[..., :2].contiguous()), rtol=EXACT, atol=EXACT
    )


def test_the_loss_is_that_of_the_papers_over_its_value_for_silence() -> None:
    """E of Gatys et al. 2015, equation 3, with sums over places, written out."""
    own, wanted = drawn(3, 4, 5), drawn(3, 2, 7, seed=1)

    def paper(first: NDArray[Any], second: NDArray[Any]) -> float:
        channels = len(first)
        total = 0.0
        for i in range(channels):
            for j in range(channels):
                one = (first[i] * first[j]).sum() / first[0].size
                other = (second[i] * second[j]).sum() / second[0].size
                total += (one - other) ** 2
        return total / (4 * channels**2)

    expected = paper(own, wanted) / paper(np.zeros_like(own), wanted)
    grams = [gram.gram(torch.from_numpy(each[None])) for each in (own, wanted)]
    assert float(gram.apart(*grams)[0]) == pytest.approx(expected, rel=1e-10)


def test_a_silent_sample_leaves_a_finite_loss() -> None:
    own, silent = gram.gram(torch.from_numpy(drawn(1, 3, 4))), torch.zeros(1, 3, 3, dtype=torch.float64)
    assert float(gram.apart(own, silent)[0]) == pytest.approx(float(own.square().sum()))
    assert float(gram.apart(silent, silent)[0]) == 0


def test_the_gradient_is_that_of_finite_differences() -> None:
    wanted = gram.gram(torch.from_numpy(drawn(1, 3, 5, 2, seed=1)))
    mask = torch.from_numpy(np.random.default_rng(2).uniform(0, 1, (4, 5)))
    features = torch.from_numpy(drawn(2, 3, 4, 5)).requires_grad_()
    for guide in (None, mask):
        assert torch.autograd.gradcheck(lambda x, m=guide: gram.apart(gram.gram(x, m), wanted), (features,))


def test_a_mask_comes_down_to_a_layer_as_means_of_what_lies_there() -> None:
    mask = np.random.default_rng(0).uniform(0, 1, (6, 9))
    found = gram.mask_at(torch.from_numpy(mask), torch.zeros(2, 4, 3, 3, dtype=torch.float64))
    expected = [[mask[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean() for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=EXACT)
    dot = np.zeros((64, 64))
    dot[0, 0] = 1
    assert float(gram.mask_at(torch.from_numpy(dot), torch.zeros(1, 1, 2, 2)).sum()) > 0


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = nets.saved(nets.classifier(0, (3, 12, 10)).onnx(), tmp_path)
    return convlens.load(path, threads=1, mean=[0.4], std=[0.25])


def test_a_whole_match_is_the_weighted_sum_of_its_parts(model: Model) -> None:
    """Two styles, one under a mask, two layers, a content layer: against onnxruntime and loops."""
    canvas = canvas_for(model, dtype="float64")
    rng = np.random.default_rng(3)
    picture, photo, *styles = (torch.from_numpy(rng.uniform(0, 1, (1, 3, 12, 10))) for _ in range(4))
    layers, content = [model["relu1"], model["relu2"]], [model["conv2"]]
    mask = np.zeros((12, 10))
    mask[:, :5] = 1
    weights, shares = (0.3, 0.7), (0.4, 0.6)
    grams = [gram.measured(model, canvas, style, layers) for style in styles]
    samples = [Sample(grams[0], weights[0], torch.from_numpy(mask)), Sample(grams[1], weights[1])]
    names = [layer.name for layer in (*layers, *content)]
    held = seen(model, canvas, photo, [content[0].name])[content[0].name]
    match = Match(layers, shares, samples, content, [held], [0.2])
    found = match.loss(seen(model, canvas, picture, match.names))

    def values(shown: torch.Tensor) -> dict[str, NDArray[Any]]:
        fed = canvas.feed(shown).numpy().astype(np.float32)
        return model.runner.run({model.source.name: fed}, names)

    own = values(picture)
    expected = 0.0
    for number, style in enumerate(styles):
        theirs = values(style)
        for share, layer in zip(shares, layers, strict=True):
            here = own[layer.name][0].astype(np.float64)
            guide = gram.mask_at(torch.from_numpy(mask), torch.zeros(1, *here.shape)).double().numpy()
            one = plain_gram(here, guide if number == 0 else None)
            other = plain_gram(theirs[layer.name][0].astype(np.float64))
            expected += weights[number] * share * ((one - other) ** 2).sum() / (other**2).sum()
    kept, now = values(photo)[content[0].name], own[content[0].name]
    expected += 0.2 * ((now.astype(np.float64) - kept) ** 2).sum() / (kept.astype(np.float64) ** 2).sum()
    assert float(found[0]) == pytest.approx(expected, rel=1e-5)


def test_rows_of_a_match_do_not_meet(model: Model) -> None:
    canvas = canvas_for(model, dtype="float64")
    pictures = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (3, 3, 12, 10)))
    layers = [model["relu1"], model["relu2"]]
    match = Match(layers, [0.5, 0.5], [Sample(gram.measured(model, canvas, pictures[:1], layers))])
    whole = match.loss(seen(model, canvas, pictures, match.names))
    assert float(whole[0]) == pytest.approx(0, abs=EXACT)
    for row in range(3):
        alone = match.loss(seen(model, canvas, pictures[row : row + 1], match.names))
        assert float(alone[0]) == pytest.approx(float(whole[row]), rel=1e-9, abs=EXACT)


@pytest.mark.parametrize("which", ["electrodes", "signal, channels last", "video, time first", "reader"])
def test_layers_of_any_kind_have_gram_matrices(which: str, tmp_path: Path) -> None:
    other = OTHERS[which]
    model = convlens.load(nets.saved(other.make(), tmp_path), device="cpu", threads=1, **other.settings)
    canvas = canvas_for(model, dtype="float64")
    layer = styling.style_layers(model, [])[0]
    array = other.arrays(1)
    picture = canvas.picture(array)
    (found,) = gram.measured(model, canvas, picture, [layer])
    fed = canvas.feed(picture).numpy().astype(np.float32)
    value = model.runner.run({model.source.name: fed}, [layer.name])[layer.name]
    features = np.moveaxis(value, layer.channel_axis or 1, 1)[0].astype(np.float64)
    scale = np.abs(found.numpy()).max()
    np.testing.assert_allclose(found[0].numpy(), plain_gram(features), rtol=0, atol=1e-5 * scale)


def test_layers_without_places_are_refused(model: Model) -> None:
    with pytest.raises(LayerError, match="has no places"):
        gram.check([model["dense1"]])


def test_the_layers_that_are_taken_without_a_word() -> None:
    vgg = convlens.load("vgg16-conv4_1", threads=1)
    named = [layer.alias for layer in styling.style_layers(vgg, [])]
    assert named == ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    assert [layer.alias for layer in styling.content_layers(vgg, [])] == ["relu4_1"]


def test_sizes_double_and_share_the_steps(model: Model, tmp_path: Path) -> None:
    photos = canvas_for(model)
    assert styling.pyramid(photos, (341, 512), None, 300, 16) == [
        ((85, 128), 100),
        ((170, 256), 100),
        ((341, 512), 100),
    ]
    assert styling.pyramid(photos, (1024, 1024), None, 15, 16)[0] == ((128, 128), 3)
    assert styling.pyramid(photos, (20, 500), None, 100, 16) == [((20, 500), 100)]
    assert styling.pyramid(photos, (512, 512), 4, 1, 16) == [((512, 512), 1)]
    other = OTHERS["waveform"]
    sound = canvas_for(convlens.load(nets.saved(other.make(), tmp_path, "sound"), **other.settings))
    assert styling.pyramid(sound, (200,), None, 9, 2) == [((200,), 9)]
    assert styling.pyramid(sound, (200,), 2, 9, 2) == [((100,), 4), ((200,), 5)]


def plane(seed: int, size: tuple[int, int] = (9, 7)) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixed = rng.uniform(-0.2, 0.2, (3, 3)) @ rng.standard_normal((3, size[0] * size[1])) + 0.5
    return torch.from_numpy(mixed.clip(0, 1).reshape(1, 3, *size))


def test_matched_colours_have_the_mean_and_the_covariance_of_the_photo() -> None:
    style, photo = plane(0), plane(1, (5, 8))
    found = colours.as_coloured(style, photo)[0].flatten(1).numpy()
    wanted = photo[0].flatten(1).numpy()
    np.testing.assert_allclose(found.mean(axis=1), wanted.mean(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.cov(found, bias=True), np.cov(wanted, bias=True), rtol=0, atol=1e-12)
    same = colours.as_coloured(style, style)
    torch.testing.assert_close(same, style, rtol=0, atol=1e-9)


def test_a_grey_style_can_be_matched() -> None:
    grey = colours.greyed(plane(0))
    found = colours.as_coloured(grey, plane(1))
    assert bool(torch.isfinite(found).all())
    np.testing.assert_allclose(
        found[0].flatten(1).mean(dim=1), plane(1)[0].flatten(1).mean(dim=1), rtol=0, atol=1e-9
    )
    flat = torch.full((1, 3, 4, 4), 0.3, dtype=torch.float64)
    assert bool(torch.isfinite(colours.as_coloured(flat, plane(1))).all())
    assert bool(torch.isfinite(colours.as_bright(flat, plane(1))).all())


def test_brightness_is_matched_in_mean_and_spread() -> None:
    style, photo = plane(0), plane(1)
    found, wanted = colours.as_bright(style, photo)[:, :1], colours.brightness(photo)
    assert float(found.mean()) == pytest.approx(float(wanted.mean()))
    assert float(found.std(correction=0)) == pytest.approx(float(wanted.std(correction=0)))


def test_new_brightness_leaves_chroma_as_it_is() -> None:
    """I and Q of the NTSC matrix, for pictures that need more brightness than there is room for, too."""
    photo, grey = plane(1), torch.from_numpy(np.random.default_rng(5).uniform(0, 1, (1, 1, 9, 7)))
    found = colours.recoloured(photo, grey.expand(-1, 3, -1, -1))
    chroma = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    before, after = (chroma @ each[0].flatten(1).numpy() for each in (photo, found))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)
    assert float(found.min()) >= -1e-12
    assert float(found.max()) <= 1 + 1e-12
    gentle = colours.brightness(photo) - 0.5 * photo.amin(dim=1, keepdim=True)
    again = colours.brightness(colours.recoloured(photo, gentle.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(again, gentle, rtol=0, atol=1e-9)
