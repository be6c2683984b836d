"""Regularisers inside a step: windows, weak gradients, the middle first, and one whole step of each paper."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.model import Model
from convlens.synthesis import regularise, starts
from convlens.synthesis.canvas import Canvas, canvas_for
from convlens.synthesis.climb import Ascent, Climb
from convlens.synthesis.objectives import goal_of
from convlens.synthesis.presets import PRESETS, settings_of
from convlens.synthesis.recipes import Recipe, recipe_of
from convlens.synthesis.regularise import Repairs
from convlens.synthesis.robust import Robustness
from reference import nets

EXACT = 1e-10
SIDE = 12


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 0.9, shape))


def slow_window(
    picture: NDArray[np.float64], first: tuple[int, int], kept: tuple[int, int]
) -> NDArray[np.float64]:
    """A window enlarged to the full size by linear interpolation, pixel by pixel."""
    made = np.zeros_like(picture)
    for y, x in np.ndindex(*picture.shape[1:]):
        place, weight = [], []
        for axis, at in enumerate((y, x)):
            middle = (at + 0.5) * kept[axis] / picture.shape[1 + axis] - 0.5
            middle = min(max(middle, 0.0), kept[axis] - 1.0)
            low = min(math.floor(middle), kept[axis] - 1)
            place.append((first[axis] + low, first[axis] + min(low + 1, kept[axis] - 1)))
            weight.append(middle - low)
        for dy in (0, 1):
            for dx in (0, 1):
                share = (weight[0] if dy else 1 - weight[0]) * (weight[1] if dx else 1 - weight[1])
                made[:, y, x] += share * picture[:, place[0][dy], place[1][dx]]
    return made


def test_a_crop_shows_a_window_at_the_full_size() -> None:
    given = pictures(2, 3, 9, 12)
    sizes = set()
    for step in range(8):
        found = Robustness(crop=0.4).moved(given, 5, step, 0.5).numpy()
        rng = np.random.default_rng((5, step, 1))
        rng.integers(0, 1, 2)
        rng.uniform(size=2)  # size and angle
        share, at = rng.uniform(0, 0.4), rng.uniform(size=2)
        kept = (round(9 * (1 - share)), round(12 * (1 - share)))
        first = (round(at[0] * (9 - kept[0])), round(at[1] * (12 - kept[1])))
        sizes.add(kept)
        for row in range(2):
            expected = slow_window(given[row].numpy(), first, kept)
            np.testing.assert_allclose(found[row], expected, rtol=0, atol=EXACT)
    assert len(sizes) > 2


def test_a_crop_works_along_one_and_three_axes() -> None:
    for shape in ((1, 2, 10), (1, 2, 5, 6, 7)):
        found = Robustness(crop=0.5, jitter=1).moved(pictures(*shape), 0, 0, 0.0)
        assert tuple(found.shape) == shape


def test_the_weakest_gradients_are_dropped() -> None:
    gradient = pictures(2, 3, 4, 5, seed=3) - 0.5
    found = regularise.weakest_dropped(gradient, 0.7).numpy()
    for row in range(2):
        norms = {}
        for y, x in np.ndindex(4, 5):
            norms[y, x] = math.sqrt(sum(float(gradient[row, c, y, x]) ** 2 for c in range(3)))
        weakest = sorted(norms, key=norms.__getitem__)[:14]
        for place in norms:
            expected = np.zeros(3) if place in weakest else gradient[row, :, place[0], place[1]].numpy()
            np.testing.assert_array_equal(found[row, :, place[0], place[1]], expected)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("net")
    return convlens.load(
        nets.saved(nets.classifier(0, (3, SIDE, SIDE)).onnx(), path), threads=1, mean=[0.5], std=[0.25]
    )


def climb(model: Model, recipe: Recipe, start: torch.Tensor) -> tuple[Climb, Ascent]:
    ascent = Ascent(model, canvas_for(model, dtype="float64"), goal_of(model, model.target(1)), recipe, 0)
    return Climb(ascent, start), ascent


def slow_gaussian(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    radius = max(1, round(3 * sigma))
    weights = np.array([math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)])
    weights /= weights.sum()
    made = picture
    for axis in (1, 2):
        padded = np.pad(made, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        made = sum(
            (w * np.take(padded, range(d, d + SIDE), axis=axis) for d, w in enumerate(weights)),
            np.zeros_like(picture),
        )
    return made


def test_a_step_of_yosinski_is_gradient_decay_blur_small_and_contribution_in_that_order(model: Model) -> None:
    recipe = Recipe(
        "pixels", "sgd", 0.05, 0.0, repairs=Repairs(decay=0.1, blur=0.6, blur_every=1, small=0.3, idle=0.2)
    )
    start = pictures(1, 3, SIDE, SIDE)
    walk, ascent = climb(model, recipe, start)
    _, slope = ascent.slope(start, 0, None)
    gradient = slope.numpy()[0]
    _, found = walk.step(0, 10, None)

    x = start.numpy()[0] - 0.5
    x = x + 0.05 * gradient / math.sqrt((gradient**2).mean())  # the length of the gradient is brought to 1
    x = slow_gaussian(x * (1 - 0.1), 0.6)
    for share, worth in ((0.3, None), (0.2, gradient)):
        values = {}
        for y, c in np.ndindex(SIDE, SIDE):
            pixel = x[:, y, c]
            # what the objective would lose without the pixel, to first order, over the colours
            values[y, c] = abs((worth[:, y, c] * pixel).sum()) if worth is not None else np.linalg.norm(pixel)
        for place in sorted(values, key=values.__getitem__)[: int(share * SIDE**2)]:
            x[:, place[0], place[1]] = 0
    np.testing.assert_allclose(found[0].numpy(), np.clip(x + 0.5, 0, 1), rtol=0, atol=1e-9)


def test_the_middle_moves_first_and_all_of_it_in_the_end(model: Model) -> None:
    start = torch.full((1, 3, SIDE, SIDE), 0.5, dtype=torch.float64)
    recipe = Recipe("pixels", "sgd", 0.05, 0.0, centre=1.0)
    _, ascent = climb(model, recipe, start)
    _, slope = ascent.slope(start, 0, None)
    at = np.linspace(-1, 1, SIDE)
    for number, last in ((0, 8), (2, 8), (8, 8)):
        walk, _ = climb(model, recipe, start)
        _, found = walk.step(number, last, None)
        strength = 1 - number / last
        masked = np.zeros((3, SIDE, SIDE))
        for y, x in np.ndindex(SIDE, SIDE):
            bell = math.exp(-(at[y] ** 2 + at[x] ** 2) / (2 * 0.3**2))
            masked[:, y, x] = slope[0, :, y, x].numpy() * (1 - strength + strength * bell)
        expected = 0.5 + 0.05 * masked / math.sqrt((masked**2).mean())
        np.testing.assert_allclose(found[0].numpy(), expected.clip(0, 1), rtol=0, atol=1e-9)


def test_penalties_and_repairs_pull_towards_the_ground(model: Model) -> None:
    for name, value in (("black", 0.0), ("white", 1.0), ("grey", 0.5)):
        settings = settings_of("lee2020-digits", {"ground": name, "start": None, **dict.fromkeys(
            ("parametrisation", "optimiser", "learning_rate", "jitter", "scale", "rotate"))})  # fmt: skip
        assert recipe_of(settings).ground == value
    start = pictures(1, 3, SIDE, SIDE)
    recipe = Recipe("pixels", repairs=Repairs(decay=1.0 - 1e-12), ground=0.0)
    _, found = climb(model, recipe, start)[0].step(0, 1, None)
    assert float(found.abs().max()) < 1e-6


def test_black_and_white_starts() -> None:
    canvas = Canvas(3, (4, 4), (None, None), True, (1.0,) * 3, (0.0,) * 3, False, (0, 1, 2, 3))
    assert float(starts.black(canvas, 2, 0).max()) == 0
    assert float(starts.white(canvas, 2, 0).min()) == 1


def test_every_preset_names_known_settings() -> None:
    from convlens.synthesis.visual.options import APART, VisualiseParameters

    known = set(VisualiseParameters.model_fields) - set(APART)
    for name, preset in PRESETS.items():
        assert set(preset.settings) <= known, name
        assert preset.settings["start"] in starts.KINDS
        VisualiseParameters(preset=name, **preset.settings)  # type: ignore[arg-type]


def test_the_net_is_left_alone(model: Model, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in model.instrument("float64").state_dict().items()}
    recipe = Recipe("pixels", faint=0.5, robustness=Robustness(crop=0.3))
    walk, _ = climb(model, recipe, pictures(1, 3, SIDE, SIDE))
    scores = [walk.step(number, 12, None)[0][0] for number in range(12)]
    assert scores[-1] > scores[0]
    after = model.instrument("float64").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
