"""The painter: its file, its twin in torch and a slow one in numpy compute the same at every size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from convlens.synthesis.painters.exported import SAME
from convlens.synthesis.painters.painter import EPSILON, LEAST, Form, Painter
from convlens.synthesis.painters.painting import written

SIZES = [(5, 5), (5, 6), (6, 5), (7, 9), (8, 8), (11, 16), (13, 30), (31, 33), (64, 50), (97, 66)]
SLOW = 1e-5
"""A sigmoid of float32 sums over some hundred products, against float64."""


def trained(form: Form, seed: int = 0) -> Painter:
    """A painter none of whose weights is as it was made."""
    import torch

    painter = Painter(form, seed)
    source = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in painter.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=source)
    return painter


def weights_of(painter: Painter) -> dict[str, NDArray[Any]]:
    return {name: value.detach().numpy() for name, value in painter.named_parameters()}


def session(painter: Painter) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = written(painter.form, weights_of(painter), {"style": "brick"})
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def photos(count: int, channels: int, size: tuple[int, int]) -> NDArray[np.float32]:
    return np.random.default_rng(7).random((count, channels, *size), np.float32)


@pytest.mark.parametrize("form", [Form(3, 4, 2), Form(1, 2, 0), Form(3, 1, 1)], ids=str)
def test_torch_and_onnxruntime_paint_the_same_at_every_size(form: Form) -> None:
    painter = trained(form)
    network = session(painter)
    for size in SIZES:
        given = photos(2, form.channels, size)
        (found,) = network.run(None, {"photo": given})
        assert found.shape == given.shape, size
        twin = np.stack([painter.paint(photo) for photo in given])
        assert np.abs(found - twin).max() <= SAME, size
        assert 0 < found.min() < found.max() < 1


def test_photos_of_a_batch_do_not_meet() -> None:
    network = session(trained(Form(3, 4, 2)))
    given = photos(3, 3, (12, 15))
    (whole,) = network.run(None, {"photo": given})
    for index in range(3):
        (alone,) = network.run(None, {"photo": given[index : index + 1]})
        np.testing.assert_allclose(alone[0], whole[index], rtol=0, atol=SLOW)


def slow(form: Form, weights: Mapping[str, NDArray[Any]], photo: NDArray[Any]) -> NDArray[Any]:
    """The network of the two papers, one photo, loop by loop in float64."""
    full, half = photo.shape[1:], tuple(-(-n // 2) for n in photo.shape[1:])
    x = unit(photo.astype(np.float64), weights, "begin")
    x = unit(x, weights, "down1", stride=2)
    assert x.shape[1:] == half
    x = unit(x, weights, "down2", stride=2)
    for number in range(1, form.blocks + 1):
        inner = unit(x, weights, f"block{number}_a")
        x = x + unit(inner, weights, f"block{number}_b", rectified=False)
    x = unit(x.repeat(2, axis=1).repeat(2, axis=2)[:, : half[0], : half[1]], weights, "up1")
    x = unit(x.repeat(2, axis=1).repeat(2, axis=2)[:, : full[0], : full[1]], weights, "up2")
    x = convolved(x, weights["end_weight"]) + weights["end_bias"][:, None, None]
    return 1 / (1 + np.exp(-x))


def unit(
    x: NDArray[Any], weights: Mapping[str, NDArray[Any]], name: str, stride: int = 1, rectified: bool = True
) -> NDArray[Any]:
    x = convolved(x, weights[f"{name}_weight"], stride)
    for channel, plane in enumerate(x):
        mean = plane.sum() / plane.size
        spread = ((plane - mean) ** 2).sum() / plane.size
        scale, shift = weights[f"{name}_scale"][channel], weights[f"{name}_bias"][channel]
        x[channel] = (plane - mean) / np.sqrt(spread + EPSILON) * scale + shift
    return np.maximum(x, 0) if rectified else x


def convolved(x: NDArray[Any], weight: NDArray[Any], stride: int = 1) -> NDArray[Any]:
    edge = weight.shape[2] // 2
    mirrored = np.stack([np.pad(plane, edge, mode="reflect") for plane in x])
    rows = range(0, x.shape[1], stride)
    columns = range(0, x.shape[2], stride)
    out = np.zeros((len(weight), len(rows), len(columns)))
    side = 2 * edge + 1
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            window = mirrored[:, top : top + side, left : left + side]
            out[:, i, j] = (weight.astype(np.float64) * window).sum(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize("size", [(12, 15), (17, 10)])
def test_it_is_the_network_of_the_papers(size: tuple[int, int]) -> None:
    form = Form(3, 2, 1)
    painter = trained(form)
    (photo,) = photos(1, 3, size)
    (found,) = session(painter).run(None, {"photo": photo[None]})
    np.testing.assert_allclose(found[0], slow(form, weights_of(painter), photo), rtol=0, atol=SLOW)


def test_the_file_says_what_it_is() -> None:
    painter = Painter(Form(3, 2, 0))
    model = onnx.load_from_string(written(painter.form, weights_of(painter), {"style": "brick"}))
    assert {entry.key: entry.value for entry in model.metadata_props} == {"style": "brick"}
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["photo", "picture"]
    assert [opset.version for opset in model.opset_import] == [17]


def test_one_seed_one_painter() -> None:
    one, other = (weights_of(Painter(Form(3, 2, 1), seed=4)) for _ in range(2))
    third = weights_of(Painter(Form(3, 2, 1), seed=5))
    for name, weight in one.items():
        np.testing.assert_array_equal(weight, other[name])
    assert not np.array_equal(one["begin_weight"], third["begin_weight"])
    assert LEAST == 5
