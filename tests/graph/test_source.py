"""Which input holds the image, and how its axes lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from convlens.errors import CardError, LayerError, UnsupportedError
from convlens.graph.source import KINDS, Source
from graph.nets import classifier, model, numbers, op, opened, refused
from reference.others import OTHERS


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


def test_tokens_know_their_places(tmp_path: Path) -> None:
    nodes = [op("Gather", "table x", "y"), op("Transpose", "y", "t", perm=[0, 2, 1]), op("Conv", "t w", "c")]
    stored = {"table": numbers(9, 4), "w": numbers(5, 4, 3)}
    proto = model(nodes, {"x": ["N", 12]}, ["c"], stored, TensorProto.INT64)
    loaded = opened(proto, tmp_path)
    found = loaded.source
    assert (found.kind, found.layout, found.channel, found.spatial) == ("tokens", "NT", -1, (1,))
    assert [(layer.channel_axis, layer.spatial_axes) for layer in loaded.layers] == [
        (2, (1,)),
        (1, (2,)),
        (1, (2,)),
    ]
    last = loaded["c"].field
    assert last is not None
    assert (last.size, last.stride, last.offset) == ((3,), (1.0,), (0.0,))


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    proto = model([op("Identity", "x", "y")], {"x": ["N", 12]}, ["y"], dtype=TensorProto.COMPLEX64)
    with refused(UnsupportedError, "no input that could be explained", "N x 12", "expected numbers"):
        _ = opened(proto, tmp_path).source


@pytest.mark.parametrize("name", OTHERS)
def test_what_goes_in_is_told_from_the_graph(name: str, tmp_path: Path) -> None:
    other = OTHERS[name]
    found = opened(other.make(), tmp_path).source
    assert (found.kind, found.layout) == (other.kind, other.layout)
    assert found.kind in found.words() or KINDS[found.kind] in found.words()
    assert found.why


@pytest.mark.parametrize(
    ("settings", "kind", "layout"),
    [
        ({"kind": "spectrogram"}, "spectrogram", "NCHW"),
        ({"kind": "board", "layout": "NHWC"}, "board", "NHWC"),
        ({"kind": "signal", "layout": "NCT1"}, "signal", "NCT1"),
        ({"name": "x"}, "photo", "NCHW"),
    ],
)
def test_a_card_decides(tmp_path: Path, settings: dict[str, str], kind: str, layout: str) -> None:
    found = opened(model([op("Relu", "x", "y")], {"x": [1, 3, 8, 9]}, ["y"]), tmp_path, **settings).source
    assert (found.kind, found.layout) == (kind, layout)
    assert "as the card says" in found.why or settings == {"name": "x"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "tokens"}, ["kind 'tokens' does not fit input 'x'", "photo, image"]),
        ({"layout": "NCT"}, ["layout 'NCT' does not fit", "NCHW, NHWC"]),
        ({"name": "why"}, ["no input 'why'", "x"]),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, settings: dict[str, str], words: list[str]
) -> None:
    loaded = opened(model([op("Relu", "x", "y")], {"x": [1, 3, 8, 9]}, ["y"]), tmp_path, **settings)
    with refused(CardError, *words):
        _ = loaded.source


def test_small_planes_that_are_pooled_are_no_board(tmp_path: Path) -> None:
    weight = {"w": numbers(4, 6, 3, 3)}
    pads = [1, 1, 1, 1]
    kept = model([op("Conv", "x w", "y", pads=pads)], {"x": [1, 6, 9, 9]}, ["y"], weight)
    strided = model([op("Conv", "x w", "y", pads=pads, strides=[2, 2])], {"x": [1, 6, 9, 9]}, ["y"], weight)
    assert opened(kept, tmp_path).source.kind == "board"
    assert opened(strided, tmp_path).source.kind == "image"


def test_a_model_of_constants_is_refused(tmp_path: Path) -> None:
    proto = model([op("Relu", "k", "y")], {"x": ["N", 3, 8, 8]}, ["y"], {"k": numbers(3)})
    with refused(UnsupportedError, "nothing from its input", "constants"):
        _ = opened(proto, tmp_path).layers


def test_the_image_among_several_inputs(tmp_path: Path) -> None:
    proto = model([op("Mul", "scale x", "y")], {"scale": ["N", 1], "x": ["N", 3, 8, 8]}, ["y"])
    loaded = opened(proto, tmp_path)
    assert loaded.source.name == "x"
    with refused(UnsupportedError, "several inputs", "scale"):
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
