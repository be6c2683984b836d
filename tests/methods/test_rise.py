"""``rise`` against mask after mask, pixel after pixel, and against what is known of a linear model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convlens
from convlens import registry
from convlens.attribution.convergence import agreement, relative_error
from convlens.attribution.masking.masks import BLOCK, masks_for
from convlens.errors import ParameterError
from convlens.model import Model
from graph.nets import refused
from reference import deconvnet, nets, plainly, rise
from reference.others import OTHERS, Other

CLOSE = 1e-5
"""Of a probability: float32 masks and scores."""

CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}


def drawn(count: int, cells: tuple[int, ...], sides: tuple[int, ...], keep: float, seed: int) -> Any:
    """Grids and shifts as the method says that it draws them: block by block, each from its own seed."""
    grids, shifts = [], []
    for block in range(-(-count // BLOCK)):
        rng = np.random.default_rng([seed, block])
        grids.append(rng.random((BLOCK, *cells)) < keep)
        shifts.append(rng.integers(0, sides, (BLOCK, len(cells))))
    return np.concatenate(grids)[:count].astype(float), np.concatenate(shifts)[:count]


def linear(weight: NDArray[Any], folder: Path, name: str = "linear") -> Model:
    from onnx.helper import make_node

    stored = {"w": weight.astype(np.float32)[None]}
    nodes = [make_node("Gemm", ["x", "w"], ["out"], transB=1)]
    proto = nets.model_of(nodes, {"x": ["N", len(weight)]}, ["out"], stored)
    return convlens.load(nets.saved(proto, folder, name), threads=1)


def given(which: str, folder: Path) -> tuple[Model, Other]:
    other = OTHERS[which]
    return convlens.load(nets.saved(other.make(), folder), threads=1, **other.settings), other


@pytest.mark.parametrize(("cells", "keep"), [(None, 0.5), (3, 0.3), ((2, 9), 0.7)])
def test_against_loops(cells: Any, keep: float, tmp_path: Path) -> None:
    net = nets.classifier(0)
    images = nets.pictures(0, 2, net.shape)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    options = {"masks": 70, "keep": keep, "cells": cells, "fill": "mean", "seed": 4}
    result = model.run("rise", images, 2, batch_size=9, **options)
    counts = {None: (7, 7), 3: (3, 3), (2, 9): (2, 9)}[cells]
    sides = tuple(-(-size // count) for size, count in zip((11, 9), counts, strict=True))
    grids, shifts = drawn(70, counts, sides, keep, 4)
    masks = [rise.enlarged(grid, (11, 9), shift) for grid, shift in zip(grids, shifts, strict=True)]
    for index, image in enumerate(images):
        fill = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)

        def read(x: NDArray[Any]) -> float:
            return plainly.softmax(deconvnet.forward(net, x).top)[2]

        scores = [read(rise.masked(image, fill, mask)) for mask in masks]
        found, error = rise.saliency(masks, scores)
        assert np.ptp(found) > 100 * CLOSE
        np.testing.assert_allclose(result.array[index], found, rtol=0, atol=CLOSE)
        np.testing.assert_allclose(result.arrays["error"][index], error, rtol=1e-3, atol=CLOSE)
        assert result.arrays["mean"][index] == pytest.approx(np.mean(scores), abs=CLOSE)
        np.testing.assert_allclose(
            result.arrays["gain"][index], found - np.mean(scores), rtol=0, atol=2 * CLOSE
        )
        row = result.rows[index]
        assert row["forwards"] == 71
        assert row["score"] == pytest.approx(read(image), abs=CLOSE)
        even, _ = rise.saliency(masks[::2], scores[::2])
        odd, _ = rise.saliency(masks[1::2], scores[1::2])
        assert row["agreement"] == pytest.approx(np.corrcoef(even.ravel(), odd.ravel())[0, 1], abs=1e-3)
        rms = np.sqrt((error**2).mean())
        assert row["error"] == pytest.approx(rms / np.ptp(found), rel=1e-2)


def test_a_linear_model_has_a_known_map(tmp_path: Path) -> None:
    """Features are kept one by one: the mean with one kept is known from the weights."""
    rng = np.random.default_rng(3)
    weight, x = rng.normal(size=12), rng.normal(size=(1, 12)).astype(np.float32)
    result = linear(weight, tmp_path).run("rise", x, "out[0]", masks=4000, keep=0.6, batch_size=64)
    shares = weight * x[0]
    wanted = 0.6 * (shares.sum() - shares) + shares
    error = result.arrays["error"][0]
    assert (np.abs(result.array[0] - wanted) < 5 * error).all()
    assert result.rows[0]["agreement"] > 0.95
    assert result.rows[0]["error"] < 0.05


def test_the_error_is_what_other_seeds_show(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = linear(rng.normal(size=8), tmp_path)
    x = rng.normal(size=(1, 8)).astype(np.float32)
    runs = [model.run("rise", x, "out[0]", masks=256, seed=seed, batch_size=64) for seed in range(40)]
    shown = np.stack([run.array[0] for run in runs]).std(axis=0, ddof=1)
    said = np.stack([run.arrays["error"][0] for run in runs]).mean(axis=0)
    np.testing.assert_allclose(said, shown, rtol=0.4)  # the spread of 40 numbers is known to 11% a sigma


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_until_stops_at_the_same_mask_whatever_the_batch(size: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    model = linear(rng.normal(size=8), tmp_path)
    x = rng.normal(size=(1, 8)).astype(np.float32)
    shares: list[float] = []
    options: dict[str, Any] = {"masks": 3000, "until": 0.05}
    result = model.run("rise", x, "out[0]", batch_size=size, progress=shares.append, **options)
    (row,) = result.rows
    assert row["error"] < 0.05
    assert 128 < row["forwards"] < 3000
    assert (row["forwards"] - 1) % BLOCK == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert row["forwards"] == model.run("rise", x, "out[0]", batch_size=64, **options).rows[0]["forwards"]
    earlier = model.run("rise", x, "out[0]", batch_size=64, masks=row["forwards"] - 1 - BLOCK)
    assert earlier.rows[0]["error"] >= 0.05


def test_no_more_masks_at_once_than_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convlens.attribution.masking import masks as module

    made: list[int] = []
    enlarged = module.Masks._enlarged

    def counting(self: Any, grids: Any, shifts: Any) -> Any:
        made.append(len(grids))
        return enlarged(self, grids, shifts)

    monkeypatch.setattr(module.Masks, "_enlarged", counting)
    model = convlens.load(nets.saved(nets.classifier(0).onnx(), tmp_path), **CARD)
    model.run("rise", nets.pictures(0, 1, (3, 11, 9)), 0, masks=200, batch_size=6)
    assert max(made) == 6
    assert sum(made) == 200


def test_tokens_are_hidden_one_by_one(tmp_path: Path) -> None:
    model, other = given("tokens", tmp_path)
    x = other.arrays(1)
    result = model.run("rise", x, "scores[0,1]", masks=40, fill="3")
    grids, _ = drawn(40, (12,), (1,), 0.5, 0)
    scores = []
    for grid in grids:
        hidden = np.where(grid > 0, x[0], 3)[None]
        scores.append(float(model.runner.run({"x": hidden}, ["scores"])["scores"][0, 1]))
    found, _ = rise.saliency(list(grids), scores)
    np.testing.assert_allclose(result.array[0], found, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("which", ["waveform", "volume", "video, time first", "board", "bytes"])
def test_masks_lie_over_the_axes_of_the_input(which: str, tmp_path: Path) -> None:
    """What the model gets for one mask: image and fill mixed by one share in all channels."""
    from convlens.attribution.masking.masks import seen_through

    model, other = given(which, tmp_path)
    x = other.arrays(1)
    source = model.source
    extent = [x.shape[axis] for axis in source.axes]
    masks = masks_for(source, extent, None, 0.5, 0)
    assert masks.cells == {1: (14,), 3: (4, 4, 4)}.get(len(extent), (19, 19) if which == "board" else (7, 7))
    ((_, part),) = masks.batches(1, 1)
    assert part.shape == (1, *extent)
    assert part.min() >= 0
    assert part.max() <= 1
    fill = np.full_like(x[0], 7)
    seen = seen_through(x[0], fill, part, source.axes)
    assert seen.dtype == x.dtype
    order = [axis for axis in range(1, x.ndim) if axis not in source.axes]
    turned = np.transpose(seen, [0, *order, *source.axes]).reshape(-1, *extent).astype(float)
    image = np.transpose(x, [0, *order, *source.axes]).reshape(-1, *extent).astype(float)
    wanted = part * image + (1 - part) * 7
    np.testing.assert_allclose(turned, np.rint(wanted) if x.dtype.kind == "u" else wanted, atol=1e-5)


def test_every_place_is_kept_as_often() -> None:
    """The paper's masks keep each pixel with the same probability, by the random shift."""
    source = OTHERS["planes"]
    masks = masks_for(_source(source), (18, 26), 4, 0.3, 1)
    mean = np.concatenate([part for _, part in masks.batches(6000, 500)]).mean(axis=0)
    assert np.abs(mean - 0.3).max() < 0.03


def _source(other: Other) -> Any:
    from convlens.graph.source import Source

    return Source("x", other.layout, 1, (2, 3), ("N", *other.shape), "float32", other.kind)


def test_a_map_that_has_not_settled_is_said(tmp_path: Path) -> None:
    net = nets.classifier(0)
    model = convlens.load(nets.saved(net.onnx(), tmp_path), **CARD)
    result = model.run("rise", nets.pictures(0, 1, net.shape), 1, masks=8)
    (finding,) = registry.method("rise").findings(result)
    assert finding.level == "attention"
    assert "has not settled" in finding.text
    assert "after 9 forwards" in finding.evidence
    unknown = replace(result, rows=({**result.rows[0], "error": None, "agreement": float("nan")},))
    (finding,) = registry.method("rise").findings(unknown)
    assert finding.evidence.startswith("no known error")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cells": (2, 3, 4)}, ["cells has 3 numbers", "1 or 2 (rows, columns)"]),
        ({"cells": 40}, ["cells is 40", "at most 18 x 26"]),
        ({"until": 0}, ["until is 0", "greater than 0"]),
        ({"keep": 1}, ["keep is 1", "less than 1"]),
        ({"masks": 1}, ["masks is 1"]),
        ({"fill": "grey"}, ["fill is 'grey'"]),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    model, other = given("planes", tmp_path)
    with refused(ParameterError, *words):
        model.run("rise", other.arrays(1), 0, **options)


def test_measures_of_settling() -> None:
    values = np.array([0.0, 1.0, 4.0])
    assert relative_error(values, np.array([0.2, 0.2, 0.2])) == pytest.approx(0.05)
    assert relative_error(values, np.zeros(3)) == 0
    assert relative_error(np.ones(3), np.ones(3)) == np.inf
    assert agreement(values, values * 3 + 1) == pytest.approx(1)
    assert agreement(values, -values) == pytest.approx(-1)
    assert agreement(np.ones(3), np.ones(3)) == 1
    assert agreement(np.ones(3), values) == 0
