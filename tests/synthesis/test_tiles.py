"""Gradients tile by tile: the same as of the whole where tiles do not end, and no seams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

import convlens
from convlens.model import Model
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.climb import Ascent
from convlens.synthesis.dreams.goals import dream_goal
from convlens.synthesis.recipes import Recipe
from convlens.synthesis.tiles import Tiles
from reference import nets
from reference.deconvnet import forward

EXTENTS = [(12, 12), (13, 29), (5, 31), (40, 7), (1, 9)]


def numbers(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape))


def squares(part: Tensor) -> tuple[Tensor, Tensor]:
    """Half the mean square over all places, and its gradient: something that no tile changes."""
    return part.flatten(1).pow(2).mean(dim=1) / 2, part / part[0].numel()


@pytest.mark.parametrize("extent", EXTENTS, ids=str)
@pytest.mark.parametrize("exact", [(True, True), (False, False), (True, False)], ids=str)
@pytest.mark.parametrize("together", [1, 3])
def test_what_sees_one_pixel_does_not_notice_the_tiles(
    extent: tuple[int, int], exact: tuple[bool, bool], together: int
) -> None:
    tiles, picture = Tiles((12, 9), exact, jitter=4, together=together), numbers(1, 2, *extent)
    for step in range(5):
        _, gradient = tiles.over(picture, tiles.shift(extent, 0, step), squares)
        assert gradient is not None
        torch.testing.assert_close(gradient, picture / picture.numel(), rtol=1e-12, atol=0)


def test_the_score_is_the_mean_over_the_picture() -> None:
    tiles, picture = Tiles((6, 5), (False, False)), numbers(2, 3, 24, 20)
    found, _ = tiles.over(picture, (2, 3), lambda part: (squares(part)[0], None))
    torch.testing.assert_close(found, squares(picture)[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("extent", "size", "exact", "lengths", "count"),
    [
        ((100, 40), (50, 50), (False, False), (50, 40), 2),
        ((101, 40), (50, 50), (False, False), (34, 40), 3),
        ((101, 40), (50, 50), (True, True), (50, 50), 3),
        ((20,), (50,), (True,), (50,), 1),
        ((9, 9, 30), (8, 16, 16), (False, True, False), (5, 16, 15), 4),
    ],
)
def test_how_a_picture_is_cut(
    extent: tuple[int, ...],
    size: tuple[int, ...],
    exact: tuple[bool, ...],
    lengths: tuple[int, ...],
    count: int,
) -> None:
    tiles = Tiles(size, exact)
    assert tiles.lengths(extent) == lengths
    assert tiles.count(extent) == count
    seen: list[tuple[int, ...]] = []

    def look(part: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(tuple(part.shape))
        return squares(part)

    tiles.over(numbers(1, 2, *extent), (3,) * len(extent), look)
    assert seen == [(1, 2, *lengths)] * count


def test_no_more_goes_in_at_once_than_is_said() -> None:
    """However large the picture: this is what keeps the memory small."""
    tiles, most = Tiles((16, 16), (False, False), together=3), []

    def look(part: Tensor) -> tuple[Tensor, Tensor]:
        most.append(len(part))
        return squares(part)

    tiles.over(numbers(1, 1, 96, 64), (0, 0), look)
    assert (max(most), sum(most)) == (3, 24)
    most.clear()
    tiles.over(numbers(2, 1, 96, 64), (0, 0), look)  # two pictures: a tile of each
    assert (max(most), sum(most)) == (2, 48)


def test_a_tile_is_what_lies_there_after_a_circular_roll() -> None:
    picture, seen = torch.arange(10.0).view(1, 1, 10), []

    def look(part: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(part.flatten().tolist())
        return squares(part)

    Tiles((5,), (True,)).over(picture, (3,), look)
    assert seen == [[7, 8, 9, 0, 1], [2, 3, 4, 5, 6]]
    seen.clear()
    Tiles((12,), (True,)).over(picture, (-1,), look)
    assert seen == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]]


def test_shifts_hang_on_seed_and_step_alone_and_reach_everywhere() -> None:
    tiles = Tiles((8, 64), (False, False), jitter=3)
    extent = (40, 40)
    drawn = [tiles.shift(extent, 5, step) for step in range(300)]
    assert drawn == [tiles.shift(extent, 5, step) for step in range(300)]
    assert drawn != [tiles.shift(extent, 6, step) for step in range(300)]
    assert {rows for rows, _ in drawn} == set(range(8))
    assert {columns for _, columns in drawn} == set(range(-3, 4))


def deep(path: Path) -> Model:
    """Two convolutions with a pooling between them, on pictures of any size."""
    rng = np.random.default_rng(3)
    net = nets.Net(
        (3, 16, 16),
        (
            nets.conv(rng, 3, 6, 3, pad=1),
            nets.Relu(),
            nets.MaxPool(2, 2),
            nets.conv(rng, 6, 8, 3, pad=1),
            nets.Relu(),
        ),
    )
    file = nets.saved(net.onnx(size=("H", "W")), path)
    return convlens.load(file, threads=1, mean=[0.5], std=[0.25], size=[16, 16])


def slopes(model: Model, picture: Tensor, steps: int, tiles: Tiles | None, layer: str = "relu2") -> Tensor:
    """The mean gradient over ``steps`` steps in one place."""
    canvas = canvas_for(model, tuple(picture.shape[2:]), "float64")
    goal = dream_goal(model, model.target(layer))
    ascent = Ascent(model, canvas, goal, Recipe("pixels", tiles=tiles), 0)
    return torch.stack([ascent.slope(picture, step, None)[1] for step in range(steps)]).mean(dim=0)


class Still(Tiles):
    """Tiles that never move."""

    def shift(self, extent: object, seed: int, step: int) -> tuple[int, ...]:
        del extent, seed, step
        return (0,) * len(self.size)


def test_far_from_the_edges_of_tiles_the_gradient_is_that_of_the_whole(tmp_path: Path) -> None:
    model = deep(tmp_path)
    field = model["relu2"].field
    assert field is not None
    assert field.size == (8, 8)
    picture = numbers(1, 3, 72, 48).mul(0.2).add(0.5)
    whole = slopes(model, picture, 1, None)
    tiled = slopes(model, picture, 1, Still((24, 24), (False, False)))
    near = [axis % 24 < 8 or axis % 24 >= 24 - 8 for axis in range(72)]
    inside = torch.tensor([[not (near[r] or near[c]) for c in range(48)] for r in range(72)])
    torch.testing.assert_close(tiled[:, :, inside], whole[:, :, inside], rtol=1e-9, atol=1e-15)
    assert inside.sum() == 6 * 8 * 8
    largest = float(whole.abs().max())
    assert float((tiled - whole)[:, :, ~inside].abs().max()) > 0.05 * largest, "nothing was cut"


class Rolled(Tiles):
    """The whole picture, rolled as tiles of 24 x 24 are."""

    def shift(self, extent: Sequence[int], seed: int, step: int) -> tuple[int, ...]:
        return CUT.shift(extent, seed, step)


CUT = Tiles((24, 24), (False, False), together=4)
WIDE = (24, 96)


def test_random_shifts_leave_no_seams(tmp_path: Path) -> None:
    """Where unmoved tiles end, the gradient jumps no more than anywhere else, column by column."""
    model = deep(tmp_path)
    picture = numbers(1, 3, *WIDE).mul(0.2).add(0.5)
    seams = [23, 47]
    # from column 72 on the whole picture ends within the last tile, wherever it is rolled to
    apart = [c for c in range(8, 64) if min(abs(c - s) for s in seams) > 8]

    def jumps(gradient: Tensor) -> NDArray[np.float64]:
        return gradient.diff(dim=3).abs().mean(dim=(0, 1, 2)).numpy()

    still = jumps(
        slopes(model, picture, 1, Still(CUT.size, CUT.exact))
        - slopes(model, picture, 1, Still(WIDE, CUT.exact))
    )
    assert still[seams].min() > 3 * still[apart].max(), "the test could not see a seam"
    rolled = slopes(model, picture, 120, Rolled(WIDE, CUT.exact))
    cut = slopes(model, picture, 120, CUT)
    error = jumps(cut - rolled)
    assert error[seams].mean() < error[apart].max()
    assert error.max() < 0.25 * still[seams].mean()
    own = jumps(cut)
    assert own[seams].mean() < own[apart].mean() + own[apart].std()


def test_tiles_of_a_fixed_size_are_that_large(tmp_path: Path) -> None:
    """A model that holds its own size in a Reshape computes on each tile what it was made for."""
    rng = np.random.default_rng(0)
    net = nets.classifier(0, (3, 16, 12))
    model = convlens.load(nets.saved(net.onnx(), tmp_path), threads=1, mean=[0.5], std=[0.25])
    picture = torch.from_numpy(rng.uniform(0, 1, (1, 3, 40, 30)))
    canvas = canvas_for(model, (40, 30), "float64")
    ascent = Ascent(
        model,
        canvas,
        dream_goal(model, model.target(2)),
        Recipe("pixels", tiles=Tiles((16, 12), (True, True), together=4)),
        0,
    )
    corners = [(r, c) for r in (0, 13, 26) for c in (0, 10, 20)]
    wrapped = np.pad(picture[0].numpy(), ((0, 0), (0, 16), (0, 12)), mode="wrap")
    tops = [forward(net, (wrapped[:, r : r + 16, c : c + 12] - 0.5) / 0.25).top[2] for r, c in corners]
    assert ascent.score(picture)[0] == pytest.approx(np.mean(tops), rel=1e-6)


def test_signals_and_volumes_are_cut_too() -> None:
    for extent, size in [((50,), (16,)), ((9, 10, 11), (4, 4, 4))]:
        picture = numbers(1, 2, *extent)
        tiles = Tiles(size, (False,) * len(size))
        _, gradient = tiles.over(picture, tiles.shift(extent, 0, 0), squares)
        assert gradient is not None
        torch.testing.assert_close(gradient, picture / picture.numel(), rtol=1e-12, atol=0)


def test_closed_rectifiers_are_opened_in_every_tile(tmp_path: Path) -> None:
    """Where no signal arrives from any tile, all of them let it through."""
    weight = np.abs(np.random.default_rng(0).standard_normal((4, 3, 3, 3))).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    stored = {"w": weight, "b": np.full(4, -1e3, np.float32)}
    proto = nets.model_of(nodes, {"x": ["N", 3, 8, 8]}, ["z"], stored)
    model = convlens.load(nets.saved(proto, tmp_path), threads=1, mean=[0.0], std=[1.0])
    picture = torch.full((1, 3, 20, 20), 0.5)
    ascent = Ascent(
        model,
        canvas_for(model, (20, 20)),
        dream_goal(model, model.target("z:1")),
        Recipe("pixels", tiles=Tiles((8, 8), (True, True), together=2)),
        0,
    )
    assert ascent.silent(picture).tolist() == [True]
    _, gradient = ascent.slope(picture, 0, torch.tensor([True]))
    assert bool((gradient != 0).all())
