"""Which input holds the image, and how its axes lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from convlens.errors import LayerError, UnsupportedError
from convlens.graph.source import Source
from graph.nets import classifier, model, numbers, op, opened, refused


def source(folder: Path, shape: list[int | str | None] | None, layout: str | None = None) -> Source:
    return opened(model([op("Relu", "x", "y")], {"x": shape}, ["y"]), folder, layout=layout).source


@pytest.mark.parametrize(
    ("shape", "layout", "channels", "size"),
    [
        ([1, 3, 32, 48], "NCHW", 3, (32, 48)),
        (["N", 3, "H", "W"], "NCHW", 3, (None, None)),
        ([1, 32, 48, 3], "NHWC", 3, (32, 48)),
        ([None, None, None, 3], "NHWC", 3, (None, None)),
        (["N", 1, 28, 28], "NCHW", 1, (28, 28)),
        (["N", 28, 28, 1], "NHWC", 1, (28, 28)),
        (["N", 4, 28, 28], "NCHW", 4, (28, 28)),
        (["N", "C", "H", "W"], "NCHW", None, (None, None)),
    ],
)
def test_layouts(
    tmp_path: Path, shape: list[int | str | None], layout: str, channels: int | None, size: tuple[int, ...]
) -> None:
    found = source(tmp_path, shape)
    assert (found.name, found.layout, found.channels, found.size) == ("x", layout, channels, size)
    assert found.image
    assert (found.channel, found.spatial) == ((1, (2, 3)) if layout == "NCHW" else (3, (1, 2)))


def test_the_card_decides_where_both_would_fit(tmp_path: Path) -> None:
    assert source(tmp_path, [1, 3, 5, 3]).layout == "NCHW"
    assert source(tmp_path, [1, 3, 5, 3], layout="NHWC").size == (3, 5)


def test_many_channels_are_no_photo(tmp_path: Path) -> None:
    found = source(tmp_path, [1, 64, 7, 7])
    assert (found.channel, found.spatial, found.image) == (1, (2, 3), False)


@pytest.mark.parametrize(
    ("shape", "layout", "spatial"),
    [(["N", 12, 100], "NCT", (2,)), (["N", 3, 8, 9, 9], "NCTHW", (2, 3, 4)), (["N", 30], "NC", ())],
)
def test_other_ranks(
    tmp_path: Path, shape: list[int | str | None], layout: str, spatial: tuple[int, ...]
) -> None:
    found = source(tmp_path, shape)
    assert (found.layout, found.channel, found.spatial, found.image) == (layout, 1, spatial, False)


def test_layers_of_a_signal(tmp_path: Path) -> None:
    proto = model([op("Conv", "x w", "y")], {"x": ["N", 2, 50]}, ["y"], {"w": numbers(4, 2, 5)})
    layer = opened(proto, tmp_path)["y"]
    assert layer.shape == ("N", 4, 46)
    assert layer.field is not None
    assert (layer.field.size, layer.field.stride, layer.field.offset) == ((5,), (1.0,), (0.0,))


def test_tokens_are_refused(tmp_path: Path) -> None:
    proto = model(
        [op("Gather", "table x", "y")], {"x": ["N", 12]}, ["y"], {"table": numbers(9, 4)}, TensorProto.INT64
    )
    with refused(UnsupportedError, "no image-like input", "x (int64, N x 12)", "expected real numbers"):
        _ = opened(proto, tmp_path).source


def test_a_model_of_constants_is_refused(tmp_path: Path) -> None:
    proto = model([op("Relu", "k", "y")], {"x": ["N", 3, 8, 8]}, ["y"], {"k": numbers(3)})
    with refused(UnsupportedError, "nothing from its input", "constants"):
        _ = opened(proto, tmp_path).layers


def test_the_image_among_several_inputs(tmp_path: Path) -> None:
    proto = model([op("Mul", "scale x", "y")], {"scale": ["N", 1], "x": ["N", 3, 8, 8]}, ["y"])
    loaded = opened(proto, tmp_path)
    assert loaded.source.name == "x"
    with refused(UnsupportedError, "several inputs", "scale, x"):
        loaded.run("predict", numbers(1, 3, 8, 8))


def test_numbers_for_open_axes(tmp_path: Path) -> None:
    found = source(tmp_path, ["N", 3, "H", "W"])
    assert found.numbers() is None
    assert found.numbers((20, 30)) == (1, 3, 20, 30)
    assert found.numbers((20, 30), batch=4) == (4, 3, 20, 30)
    assert source(tmp_path, [2, 3, 8, 9]).numbers() == (2, 3, 8, 9)


def test_bytes_are_an_image(tmp_path: Path) -> None:
    nodes = [op("Cast", "x", "y", to=TensorProto.FLOAT)]
    found = opened(model(nodes, {"x": [1, 8, 8, 3]}, ["y"], dtype=TensorProto.UINT8), tmp_path).source
    assert (found.layout, found.dtype, found.image) == ("NHWC", "uint8", True)


def test_layers_are_found_by_name_alias_and_index(tmp_path: Path) -> None:
    layers = opened(classifier(names={"conv1": "net/Stem:0"}), tmp_path).layers
    stem = layers[0]
    assert layers["net/Stem:0"] is stem
    assert layers[stem.alias.upper()] is stem
    assert layers.get("nowhere") is None
    with refused(LayerError, "no layer 'logit'", "'logits'", "convlens layers", "5"):
        layers.find("logit")
    assert [layer.kind for layer in layers] == ["conv", "rectifier", "pool", "shape", "dense"]
    assert layers.of_kind("dense", "conv") == [layers[0], layers[-1]]


def test_integers_are_no_layers(tmp_path: Path) -> None:
    nodes = [op("Relu", "x", "a"), op("ArgMax", "a", "best", axis=1), op("Shape", "a", "size")]
    proto = model(nodes, {"x": ["N", 3, 8, 8]}, ["a", "best", "size"])
    assert [layer.name for layer in opened(proto, tmp_path).layers] == ["a"]
