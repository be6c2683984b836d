"""Occlusion along other axes than rows and columns, against loops that hide one place after the other."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convlens.errors import ParameterError
from convlens.model import Model
from graph.nets import opened, refused
from reference.others import OTHERS, Other

CLOSE = 1e-6


def given(which: str, folder: Path, **settings: Any) -> tuple[Model, Other]:
    other = OTHERS[which]
    return opened(other.make(), folder, **{**other.settings, **settings}), other


def slowly(
    model: Model,
    x: NDArray[Any],
    axes: tuple[int, ...],
    patch: tuple[int, ...],
    step: tuple[int, ...],
    fill: Any,
) -> NDArray[Any]:
    """Logits of class 0 with each patch hidden, one forward a position, as the method lists positions."""
    starts = []
    for axis, side, stride in zip(axes, patch, step, strict=True):
        size = x.shape[axis]
        own = list(range(0, size - side + 1, stride))
        starts.append(own if own[-1] == size - side else [*own, size - side])
    found = np.zeros([len(own) for own in starts])
    for at in product(*(range(len(own)) for own in starts)):
        hidden = x.copy()
        window: list[Any] = [slice(None)] * x.ndim
        for axis, side, own, i in zip(axes, patch, starts, at, strict=True):
            window[axis] = slice(own[i], own[i] + side)
        hidden[tuple(window)] = fill[tuple(window)] if isinstance(fill, np.ndarray) else fill
        found[at] = model.runner.run({model.source.name: hidden}, ["scores"])["scores"][0, 0]
    return found


@pytest.mark.parametrize(
    ("which", "options", "axes", "patch", "step", "fill"),
    [
        ("waveform", {}, (2,), (14,), (7,), 0),
        ("waveform", {"patch": 50, "stride": 30, "fill": "0.5"}, (2,), (50,), (30,), 0.5),
        ("signal, channels last", {"patch": 20}, (1,), (20,), (10,), 0),
        ("electrodes", {"patch": 20, "stride": 20}, (2,), (20,), (20,), 0),
        ("spectrogram", {"patch": (24, 10), "stride": 10}, (2, 3), (24, 10), (10, 10), "mean"),
        ("spectrogram", {"patch": "4,60", "stride": 4}, (2, 3), (4, 60), (4, 4), "mean"),
        ("tokens", {}, (1,), (1,), (1,), 0),
        ("tokens", {"patch": 3, "stride": 1, "fill": "5"}, (1,), (3,), (1,), 5),
        ("vector", {}, (1,), (1,), (1,), 0),
        ("video", {"fill": "0"}, (2, 3, 4), (1, 2, 3), (1, 2, 3), 0),
        ("video, channels last", {"patch": 3}, (1, 2, 3), (3, 3, 3), (3, 3, 3), "mean"),
        ("planes", {"patch": 6}, (2, 3), (6, 6), (3, 3), "mean"),
    ],
)
def test_each_place_in_turn(
    tmp_path: Path,
    which: str,
    options: dict[str, Any],
    axes: tuple[int, ...],
    patch: tuple[int, ...],
    step: tuple[int, ...],
    fill: Any,
) -> None:
    model, other = given(which, tmp_path)
    x = other.arrays(1, seed=3)
    filler = fill
    if fill == "mean":
        filler = np.broadcast_to(x.mean(axis=axes, keepdims=True, dtype=np.float64).astype(x.dtype), x.shape)
    result = model.run("occlusion", x, "scores[0,0]", batch_size=5, **options)
    np.testing.assert_allclose(
        result.array[0], slowly(model, x, axes, patch, step, filler), rtol=0, atol=CLOSE
    )
    assert result.arrays["drop"].shape == (1, *(x.shape[axis] for axis in axes))
    assert set(result.shared) == {f"{name}_at" for name in model.source.axis_names}


def test_points_of_a_board_are_emptied_one_by_one(tmp_path: Path) -> None:
    model, other = given("board", tmp_path)
    x = other.arrays(1)
    result = model.run("occlusion", x, "value")
    assert result.array.shape == (1, 19, 19)
    assert (result.how["patch"], result.how["fill"]) == (1, "0")
    hidden = x.copy()
    hidden[0, :, 4, 11] = 0
    value = abs(model.runner.run({"x": hidden}, ["value"])["value"][0, 0])  # a layer's own norm
    assert result.array[0, 4, 11] == pytest.approx(value, abs=CLOSE)


def test_tokens_are_filled_with_the_cards_pad(tmp_path: Path) -> None:
    model, other = given("tokens", tmp_path, pad=9)
    result = model.run("occlusion", other.arrays(1), "scores[0,0]")
    assert result.how["fill"] == "9"
    wanted = slowly(model, other.arrays(1), (1,), (1,), (1,), 9)
    np.testing.assert_allclose(result.array[0], wanted, atol=CLOSE)


@pytest.mark.parametrize(
    ("which", "options", "words"),
    [
        ("video", {"patch": (2, 3)}, ["patch has 2 numbers", "1 or 3 (frames, rows, columns)"]),
        ("video", {"patch": (7, 3, 3)}, ["patch is 7 x 3 x 3", "at most 6 x 10 x 12"]),
        ("tokens", {"fill": "0.5"}, ["fill is 0.5", "int64 numbers"]),
        ("tokens", {"fill": "mean"}, ["fill is 'mean'", "tokens"]),
        ("waveform", {"fill": "grey"}, ["fill is 'grey'", "signal"]),
        ("waveform", {"fill": "green"}, ["fill is 'green'", "grey, mean, blur, inpaint or a number"]),
        ("waveform", {"patch": "0"}, ["patch is '0'", "expected 1 or more"]),
        ("waveform", {"stride": "a"}, ["stride is 'a'", "whole number"]),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, which: str, options: dict[str, Any], words: list[str]
) -> None:
    model, other = given(which, tmp_path)
    with refused(ParameterError, *words):
        model.run("occlusion", other.arrays(1), 0, **options)
