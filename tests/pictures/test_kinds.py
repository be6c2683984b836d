"""Every kind of Result drawn: sizes, layouts, colours, and numbers that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures import KINDS
from convlens.pictures.colour import MAPS, Scale, table
from convlens.pictures.picture import Picture, enlarge, font, slug
from convlens.results import Result

FILLS = ["random", "zero", "nan", "some nan", "inf", "some inf"]


def fill(shape: tuple[int, ...], how: str, low: float = -1.0) -> NDArray[np.float32]:
    array = np.random.default_rng(0).uniform(low, 1.0, shape).astype(np.float32)
    flat = array.reshape(-1)
    if how == "zero":
        flat[:] = 0
    elif how in ("nan", "inf"):
        flat[:] = float(how)
    elif how == "some nan":
        flat[::3] = np.nan
    elif how == "some inf":
        flat[::3] = np.inf
        flat[1::3] = -np.inf
    return array


def result(kind: str, array: NDArray[Any], names: tuple[str, ...] | None = None, **hints: Any) -> Result:
    arrays = {"main": array, **hints.pop("arrays", {})}
    count = len(array) if names is None else len(names)
    views = hints.pop("views", None)
    return Result(
        method="drawn",
        kind=kind,
        main="main",
        arrays=arrays,
        units=dict.fromkeys(arrays, "numbers"),
        images=tuple(f"cat{i}.png" for i in range(count)) if names is None else names,
        views=views,
        hints=hints,
    )


def maps(
    array: NDArray[Any],
    style: str = "map",
    reduction: str = "signed",
    names: tuple[str, ...] | None = None,
    **hints: Any,
) -> Result:
    draw = [{"array": "main", "style": style, "reduction": reduction, "label": "signal"}]
    each = [{"title": "a map", "short": "map"} for _ in array]
    return result("map", array, names, draw=draw, each=each, **hints)


def check(found: Result, count: int) -> list[Picture]:
    """As many pictures as there should be, in RGB, with words, and every one can be composed."""
    pictures = list(found.pictures)
    assert len(pictures) == count
    for picture in pictures:
        assert picture.image.mode == "RGB"
        assert min(picture.image.size) > 0
        assert max(picture.image.size) <= 4096
        assert picture.alt
        assert picture.caption
        assert "nan" not in picture.alt.split()
        picture.composed()
    return pictures


def array_of(picture: Picture | Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture.image if isinstance(picture, Picture) else picture).astype(np.int64)


# Maps


ODD_SIZES = [((1, 28, 28), "random"), ((3, 1, 1), "random"), ((3, 301, 2), "random")]


@pytest.mark.parametrize(("shape", "how"), [*(((3, 7, 13), how) for how in FILLS), *ODD_SIZES])
@pytest.mark.parametrize("style", ["map", "colour", "overlay"])
@pytest.mark.parametrize("reduction", ["max", "mean", "signed"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_maps(layout: str, reduction: str, style: str, shape: tuple[int, ...], how: str) -> None:
    channels, height, width = shape
    array = fill((2, *shape), how)
    views = np.zeros((2, height, width, channels), np.uint8)
    if layout == "NHWC":
        array = np.moveaxis(array, 1, -1)
    for picture in check(maps(array, style, reduction, layout=layout, views=views), 2):
        factor = picture.image.width // width
        assert picture.image.size == (width * factor, height * factor)
        if style == "colour":
            assert picture.scale is None
        else:
            assert picture.scale is not None
            assert picture.scale.low == (-picture.scale.high if reduction == "signed" else 0.0)
            assert picture.scale.label == "signal"


@pytest.mark.parametrize("style", ["map", "overlay"])
@pytest.mark.parametrize("shape", [(9,), (400,), (2, 400), (5, 6), (3, 5, 6, 7)])
def test_maps_of_signals_and_volumes(shape: tuple[int, ...], style: str) -> None:
    for how in FILLS:
        check(maps(fill((2, *shape), how), style), 2)


def test_a_map_has_its_number_where_it_belongs() -> None:
    array = np.zeros((1, 4, 6), np.float32)
    array[0, 1, 4] = 2.0
    array[0, 3, 0] = -2.0
    picture = check(maps(array), 1)[0]
    assert picture.scale == Scale(-2.0, 2.0, "signal", "signed")
    factor = picture.image.height // 4
    assert factor == 224 / 4
    pixels = array_of(picture)[factor // 2 :: factor, factor // 2 :: factor]
    colours = table(MAPS["signed"]).astype(np.int64)
    assert pixels[1, 4].tolist() == colours[255].tolist()
    assert pixels[3, 0].tolist() == colours[0].tolist()
    assert pixels[0, 0].tolist() == np.rint(255 * np.array(_vik(0.5))).tolist()
    assert "largest value 2 in the middle right" in picture.alt
    assert "smallest -2 in the lower left" in picture.alt


def _vik(share: float) -> list[float]:
    from cmcrameri import cm

    return list(cm.vik(share)[:3])


def test_reductions_by_hand() -> None:
    array = np.zeros((1, 3, 2, 2), np.float32)
    array[0, :, 0, 0] = [1.0, -4.0, 1.5]
    highs = {}
    for reduction in ("max", "mean", "signed"):
        picture = check(maps(array, reduction=reduction), 1)[0]
        assert picture.scale is not None
        highs[reduction] = picture.scale.high
    # the 99.5th percentile of three zeros and one number lies 0.985 of the way to it
    for reduction, own in (("max", 4.0), ("mean", 6.5 / 3), ("signed", 1.5)):
        assert highs[reduction] == pytest.approx(own * 0.985)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_red_comes_out_red(layout: str, channels: str) -> None:
    red = channels.index("R")
    array = np.zeros((1, 3, 8, 8), np.float32)
    array[0, red, 2:6, 2:6] = 1.0
    if layout == "NHWC":
        array = np.moveaxis(array, 1, -1)
    picture = check(maps(array, "colour", layout=layout, channels=channels), 1)[0]
    factor = picture.image.width // 8
    pixels = array_of(picture)[factor // 2 :: factor, factor // 2 :: factor]
    r, g, b = pixels[3, 3]
    assert r == 255
    assert abs(g - 127.5) <= 0.5
    assert abs(b - 127.5) <= 0.5
    assert np.abs(pixels[0, 0] - 127.5).max() <= 0.5


def test_an_overlay_shows_the_photo_where_nothing_is() -> None:
    array = np.zeros((1, 32, 32), np.float32)
    array[0, :8, :8] = 1.0
    views = np.zeros((1, 32, 32, 3), np.uint8)
    views[0, 16:] = 255
    picture = check(maps(array, "overlay", views=views), 1)[0]
    factor = picture.image.width // 32
    pixels = array_of(picture)[factor // 2 :: factor, factor // 2 :: factor]
    for place in (pixels[12, 20], pixels[28, 20]):
        assert np.ptp(place) == 0, "grey, since nothing lies over it"
    assert pixels[28, 20, 0] > pixels[12, 20, 0] + 50
    assert pixels[2, 2, 0] > pixels[2, 2, 2] + 30, "red, since the number is positive"


# Sprites


@pytest.mark.parametrize("how", FILLS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(5, 7, 9), (5, 1, 1), (1, 200, 130), (3, 300), (64, 3), (11,), (1,), (), (4, 3, 5, 6), (17, 1, 40)],
    ids=str,
)
def test_sprites(shape: tuple[int, ...], own: bool, how: str) -> None:
    found = result("sprites", fill((2, *shape), how), layer="conv", own_scale=own)
    for picture in check(found, 2):
        assert picture.scale is not None
        assert f"All {shape[0] if shape else 1} channels of conv" in picture.alt


def test_sprites_stand_in_order() -> None:
    """Every channel a constant: each tile has the colour of its own number."""
    count = 20
    array = np.arange(count, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 7, 7), np.float32)
    picture = check(result("sprites", array, layer="conv", own_scale=False), 1)[0]
    assert picture.scale is not None
    assert picture.scale.low == 0.0
    assert picture.scale.high == pytest.approx(count - 1, rel=0.01)
    pixels = array_of(picture)
    # tiles are 28 pixels and two apart, sixteen in a row, behind the numbers of the rows
    front = picture.image.width - 16 * 30 + 2
    lightness = [
        pixels[row * 30 + 14, front + column * 30 + 14].sum()
        for row, column in (divmod(c, 16) for c in range(count))
    ]
    assert lightness == sorted(lightness)
    assert len(set(lightness)) == count


@pytest.mark.parametrize(("count", "side", "tile"), [(1, 19, 95), (8, 32, 64), (8, 9, 63), (16, 32, 32)])
def test_few_channels_are_drawn_larger(count: int, side: int, tile: int) -> None:
    array = np.random.default_rng(0).random((1, count, side, side)).astype(np.float32)
    picture = check(result("sprites", array, layer="conv", own_scale=False), 1)[0]
    wide = count * (tile + 2)
    assert wide <= picture.image.width <= wide + 30


def test_one_scale_for_all_or_one_for_each() -> None:
    array = np.ones((1, 2, 4, 4), np.float32)
    array[0, 1] = 0.01
    together = check(result("sprites", array, layer="a", own_scale=False), 1)[0]
    apart = check(result("sprites", array, layer="a", own_scale=True), 1)[0]
    brightest = table(MAPS["activation"])[255].tolist()

    def right(picture: Picture) -> list[int]:
        found: list[int] = array_of(picture)[14, -14].tolist()
        return found

    assert right(together) != brightest
    assert right(apart) == brightest
    assert apart.scale is not None
    assert "each channel by its own maximum" in apart.scale.label


def test_signed_sprites_have_a_signed_scale() -> None:
    array = np.zeros((1, 3, 5, 5), np.float32)
    array[0, 0] = -1.0
    picture = check(result("sprites", array, layer="a", own_scale=False), 1)[0]
    assert picture.scale is not None
    assert (picture.scale.low, picture.scale.high) == (-1.0, 1.0)
    assert "2 of them silent" in picture.alt


# Kernels


@pytest.mark.parametrize("how", FILLS)
@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize(
    ("shape", "colour"),
    [
        ((7, 3, 5, 5), True),
        ((1, 3, 1, 1), True),
        ((40, 30, 3, 3), False),
        ((9, 1, 3, 3), False),
        ((8, 1, 7, 2), False),
        ((6, 4, 5), False),
        ((4, 2, 3, 3, 3), False),
        ((4, 3, 3, 3, 3), True),
    ],
    ids=str,
)
def test_kernels(shape: tuple[int, ...], colour: bool, channels: str, how: str) -> None:
    hints = {"layer": "conv1", "colour": colour, "channels": channels, "shown": 24, "inputs": 24}
    picture = check(result("kernels", fill(shape, how), (), **hints), 1)[0]
    assert picture.index is None
    assert "conv1" in picture.caption
    if colour:
        assert picture.scale is None
    else:
        assert picture.scale is not None
        assert picture.scale.low == -picture.scale.high
        assert picture.scale.label == "weight of conv1"


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_red_filter_is_red(channels: str) -> None:
    weights = np.zeros((2, 3, 3, 3), np.float32)
    weights[1, channels.index("R"), 1, 1] = 0.5
    picture = check(result("kernels", weights, (), layer="c", colour=True, channels=channels), 1)[0]
    pixels = array_of(picture)
    reddest = pixels.reshape(-1, 3)[(pixels[..., 0] - pixels[..., 1]).argmax()]
    assert reddest[0] == 255
    assert np.abs(reddest[1:] - 127.5).max() <= 0.5
    assert (pixels[..., 2] - pixels[..., 0]).max() <= 10, "only the ink of the numbers is blueish"


def test_a_grid_has_a_row_for_each_filter() -> None:
    weights = np.zeros((3, 5, 2, 2), np.float32)
    weights[2, 4] = 1.0
    picture = check(result("kernels", weights, (), layer="c", colour=False, shown=24, inputs=24), 1)[0]
    pixels = array_of(picture)
    hot = table(MAPS["signed"])[255]
    rows, columns = np.nonzero((pixels == hot).all(axis=2))
    tile = 96  # few kernels are drawn large
    assert picture.image.height == 3 * tile + 2 * 2
    assert (rows.min(), rows.max()) == (2 * (tile + 2), picture.image.height - 1)
    assert columns.max() == picture.image.width - 1
    assert columns.max() - columns.min() == tile - 1
    assert "3 of 3 filters, 5 of 5 inputs" in picture.alt


def test_only_so_many_are_shown() -> None:
    weights = np.ones((40, 30, 1, 1), np.float32)
    picture = check(result("kernels", weights, (), layer="c", colour=False, shown=6, inputs=4), 1)[0]
    assert "6 of 40 filters, 4 of 30 inputs" in picture.caption


# Crops


@pytest.mark.parametrize("how", FILLS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("seen", [False, True])
def test_crops(seen: bool, channels: int, layout: str, how: str) -> None:
    height, width = 11, 17
    signal = fill((2, 3, channels, height, width), how)
    if layout == "NHWC":
        signal = np.moveaxis(signal, 2, -1)
    boxes = np.array([[[0, 0, 11, 17], [3, 4, 4, 5], [0, 10, 11, 12]]] * 2)
    views = np.zeros((2, height, width, 1 if channels == 1 else 3), np.uint8) if seen else None
    each = [{"labels": ["0: 1", "12: 0.5", "7: 1,000"]}] * 2
    found = result(
        "crops", signal, arrays={"boxes": boxes}, each=each, title="top", layout=layout, views=views
    )
    for picture in check(found, 2):
        assert picture.image.width == 3 * 112 + 2 * 4
        assert "12: 0.5" in picture.alt


def test_a_crop_is_cut_where_the_unit_sees() -> None:
    views = np.zeros((1, 20, 30, 3), np.uint8)
    views[0, 5:9, 12:16] = (0, 200, 0)
    signal = np.zeros((1, 1, 3, 20, 30), np.float32)
    signal[0, 0, 2, 5:9, 12:16] = 1.0
    found = result(
        "crops",
        signal,
        arrays={"boxes": np.array([[[5, 12, 9, 16]]])},
        each=[{"labels": ["3: 1"]}],
        title="top",
        channels="BGR",
        views=views,
    )
    pixels = array_of(check(found, 1)[0])
    assert pixels[56, 56].tolist() == [0, 200, 0]
    below = pixels[112 + 15 + 4 + 56, 56]  # under the patch, its label and a gap
    assert below[0] == 255
    assert np.abs(below[1:] - 127.5).max() <= 0.5


def test_signals_without_rows_and_columns_have_no_crops() -> None:
    for shape in ((2, 50), (2, 5, 6, 7)):
        found = result(
            "crops", fill((1, 3, *shape), "random"), arrays={"boxes": np.zeros((1, 3, 4))}, each=[{}]
        )
        check(found, 0)


# Pictures


def test_a_ranking_is_a_table() -> None:
    assert KINDS["ranking"] is None
    assert result("ranking", np.zeros((2, 3))).pictures == ()


def test_an_unknown_kind_has_no_pictures() -> None:
    assert result("hologram", np.zeros((2, 3))).pictures == ()


ODD = (
    "a/b:c*.png",
    "a/b:c*.jpg",
    "a_b_c.png",
    "CAT.png",
    "cat.png",
    "cat.png (2)",
    "cat-map-2.png",
    "ü.png",
    "猫.png",
    "犬.png",
    "...",
    "",
    "con.tar.gz",
    "x" * 300 + ".png",
    "x" * 299 + "y.png",
    "a\nb\x00c.png",
)


@pytest.mark.parametrize("kind", ["map", "sprites"])
def test_names_are_unique_and_safe(kind: str, tmp_path: Path) -> None:
    array = fill((len(ODD), 3, 4, 4), "random")
    found = (
        maps(array, names=ODD)
        if kind == "map"
        else result(kind, array, ODD, layer="block/1:conv*", own_scale=False)
    )
    names = [picture.name for picture in found.pictures]
    assert len({name.lower() for name in names}) == len(ODD)
    for name in names:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| \n\x00')
        assert not name.startswith((".", "-"))
        assert 0 < len(name) <= 130
    files = found.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(files) == len(ODD) + 2
    assert all(path.parent == tmp_path and path.is_file() for path in files)


def test_names_stay_what_they_were() -> None:
    array = fill((2, 3, 4, 4), "random")
    assert [p.name for p in maps(array, names=("cat.png", "dog.v2.png")).pictures] == [
        "cat-map",
        "dog.v2-map",
    ]
    again = [p.name for p in maps(array, names=("cat.png", "cat.jpg")).pictures]
    assert again == [p.name for p in maps(array, names=("cat.png", "cat.jpg")).pictures]


def test_slugs() -> None:
    assert slug("/features/0:conv") == "features-0-conv"
    assert slug("..") == slug("") == "x"


# Composed


def picture(caption: str, size: tuple[int, int], scale: Scale | None) -> Picture:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Picture("x", Image.fromarray(pixels), caption, "alt", scale)


LONG = "largest magnitude over colours, each channel of features.18.denseblock4.layer32 by its own maximum"


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (280, 5), (281, 400), (700, 20)])
@pytest.mark.parametrize(
    "caption", ["cat", "saliency of tiger cat, IMG_2024.png " * 6, "W" * 90, "猫" * 60, ""]
)
@pytest.mark.parametrize("label", [None, "probability", LONG])
def test_nothing_is_cut_off(label: str | None, caption: str, size: tuple[int, int]) -> None:
    scale = Scale(-1234.5, 1234.5, label, "signed") if label is not None else None
    given = picture(caption, size, scale)
    sheet = array_of(given.composed())
    own = array_of(given)
    height, width = own.shape[:2]
    spots = [
        top
        for top in range(sheet.shape[0] - height + 1)
        if (sheet[top : top + height, 10 : 10 + width] == own).all()
    ]
    assert spots, "the picture is there, whole"
    margin = np.concatenate([sheet[:, :8].reshape(-1, 3), sheet[:, -8:].reshape(-1, 3)])
    assert (margin == 255).all(), "no text runs off the sides"
    assert (sheet[-4:] == 255).all(), "nor off the bottom"
    assert (sheet[:4] == 255).all()
    ink = (sheet != 255).any(axis=2)
    above, below = ink[: spots[0]], ink[spots[0] + height :]
    assert above.any() == bool(caption)
    assert below.any() == (scale is not None)


def test_every_line_of_a_caption_is_written() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    lengths = [picture(" ".join(words.split()[:n]), (200, 10), None).composed().height for n in (1, 8, 16)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]
    width = font(13).getlength(words)
    lines = -(-width // 280)  # at least so many are needed in a sheet that is 280 pixels wide
    assert lengths[2] - lengths[0] >= 17 * (lines - 1)


def test_the_legend_shows_the_scale_s_own_colours() -> None:
    scale = Scale(-1.0, 1.0, "score", "signed")
    sheet = array_of(picture("cat", (280, 20), scale).composed())
    colours = table(MAPS["signed"]).astype(np.int64)
    for end, column in ((colours[0], 10), (colours[255], 10 + 279)):
        rows = np.nonzero((sheet[:, column] == end).all(axis=1))[0]
        assert len(rows) >= 10
        assert np.ptp(rows[-10:]) == 9, "a ramp of ten rows"


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (224, 300), (1, 5000), (5000, 2), (100, 90)])
def test_enlarged_by_a_whole_factor(size: tuple[int, int]) -> None:
    found = enlarge(Image.new("RGB", size), 224).size
    factor = found[0] // size[0]
    assert found == (size[0] * factor, size[1] * factor)
    assert max(found) <= max(2048, *size)
    if 224 * max(size) / min(size) < 1000:
        assert min(found) >= 224 or min(found) == min(size) >= 224
