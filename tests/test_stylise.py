"""Networks from photo to picture over files: every size, order of colours and range, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import convlens
from convlens import stylise as package
from convlens.errors import CardError, ConvLensError, ImageError, OutputError, UnsupportedError
from convlens.runtime.runner import Runner
from convlens.stylise import Stylised, stylise
from convlens.stylise.folder import RECORD
from convlens.watch import Watch

node = helper.make_node
UNIT: dict[str, Any] = {"range": [0, 1], "threads": 1, "device": "cpu"}
SIZES = [(40, 24), (31, 27), (33, 33), (17, 50)]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    stored: dict[str, NDArray[Any]],
    given: Sequence[Any] = ("N", 3, "H", "W"),
    made: Sequence[Any] | None = None,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(given))],
        [helper.make_tensor_value_info("y", kind, None if made is None else list(made))],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def negative(given: Sequence[Any] = ("N", 3, "H", "W"), white: float = 1.0) -> onnx.ModelProto:
    """White for black, and red twice as bright as it would be: colours cannot be swapped unnoticed."""
    axis = list(given).index(3)
    shape = [1, 1, 1, 1]
    shape[axis] = 3
    gain = np.array([0.5, 1, 1], np.float32).reshape(shape)
    white_array = np.full((1, 1, 1, 1), white, np.float32)
    nodes = [node("Sub", ["white", "x"], ["turned"]), node("Mul", ["turned", "gain"], ["y"])]
    return model_of(nodes, {"white": white_array, "gain": gain}, given)


def loaded(proto: onnx.ModelProto, folder: Path, **settings: Any) -> convlens.Model:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return convlens.load(path, **{**UNIT, **settings})


def photo(folder: Path, name: str, size: tuple[int, int], seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [photo(tmp_path / "in", f"{i}.png", size, i) for i, size in enumerate(SIZES)]


def expected_negative(path: Path) -> NDArray[np.uint8]:
    turned = (255 - pixels(path).astype(np.float64)) * [0.5, 1, 1]
    return np.rint(turned).astype(np.uint8)


def alike(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    """The same pixel by pixel, but for one step where float32 falls on the other side of a half."""
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert np.mean(found != wanted) < 0.26  # halves of odd numbers of one colour in three


CASES: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {
    "0 to 1": (negative(), {}),
    "0 to 255": (negative(white=255.0), {"range": [0, 255]}),
    "channels last": (negative(("N", "H", "W", 3)), {}),
    "one photo at a time": (negative((1, 3, "H", "W")), {}),
    "two photos at a time": (negative((2, 3, "H", "W")), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_have_the_photos_names_and_sizes(case: str, photos: list[Path], tmp_path: Path) -> None:
    proto, settings = CASES[case]
    shares: list[float] = []
    output = tmp_path / "out"
    found = stylise(loaded(proto, tmp_path, **settings), photos, output, progress=shares.append)
    assert found.written == [output / path.name for path in photos]
    assert found.warnings == []
    for path in photos:
        alike(pixels(output / path.name), expected_negative(path))
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_blue_first_goes_in_and_comes_out(photos: list[Path], tmp_path: Path) -> None:
    model = loaded(negative(), tmp_path, channels="BGR")
    stylise(model, photos[:1], tmp_path / "out")
    turned = (255 - pixels(photos[0]).astype(np.float64)) * [1, 1, 0.5]
    alike(pixels(tmp_path / "out" / "0.png"), np.rint(turned).astype(np.uint8))


def test_grey_comes_out_grey(photos: list[Path], tmp_path: Path) -> None:
    one = np.ones((1, 1, 1, 1), np.float32)
    proto = model_of([node("Sub", ["one", "x"], ["y"])], {"one": one}, ("N", 1, "H", "W"))
    stylise(loaded(proto, tmp_path), photos, tmp_path / "out")
    for path in photos:
        with Image.open(path) as image:
            np.testing.assert_array_equal(
                pixels(tmp_path / "out" / path.name), 255 - np.asarray(image.convert("L"))
            )


def halving(times: int) -> onnx.ModelProto:
    """Means of blocks of 2 ** times pixels, brought back to size and added to the photo: it must divide."""
    side = 2**times
    stored = {
        "twice": np.array([1, 1, side, side], np.float32),
        "half": np.full((1, 1, 1, 1), 0.5, np.float32),
    }
    nodes = [
        node("AveragePool", ["x"], ["small"], kernel_shape=[side] * 2, strides=[side] * 2),
        node(
            "Resize",
            ["small", "", "twice"],
            ["large"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        node("Add", ["x", "large"], ["sum"]),
        node("Mul", ["sum", "half"], ["y"]),
    ]
    return model_of(nodes, stored)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_sides_that_do_not_divide_are_mirrored_and_cut(
    times: int, photos: list[Path], tmp_path: Path
) -> None:
    stylise(loaded(halving(times), tmp_path), photos, tmp_path / "out")
    side = 2**times
    for path in photos:
        own = pixels(path).astype(np.float64)
        height, width = own.shape[:2]
        after = [(0, -n % side) for n in (height, width)]
        grown = np.pad(own, [*after, (0, 0)], "symmetric")
        rows, columns = grown.shape[0] // side, grown.shape[1] // side
        small = grown.reshape(rows, side, columns, side, 3).mean(axis=(1, 3))
        wanted = (grown + small.repeat(side, 0).repeat(side, 1)) / 2
        found = pixels(tmp_path / "out" / path.name).astype(np.float64)
        assert np.abs(found - wanted[:height, :width]).max() <= 0.51, path.name


def test_a_picture_larger_by_its_edges_is_cut_to_size(photos: list[Path], tmp_path: Path) -> None:
    """A stride of four and four times larger again: 31 x 27 would become 32 x 28."""
    weight = np.zeros((3, 3, 1, 1), np.float32)
    weight[[0, 1, 2], [0, 1, 2]] = 1
    stored = {"w": weight, "four": np.array([1, 1, 4, 4], np.float32)}
    nodes = [
        node("Conv", ["x", "w"], ["small"], strides=[4, 4]),
        node(
            "Resize",
            ["small", "", "four"],
            ["y"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    stylise(loaded(model_of(nodes, stored), tmp_path), photos, tmp_path / "out")
    for path in photos:
        own = pixels(path)
        wanted = own[::4, ::4].repeat(4, 0).repeat(4, 1)[: own.shape[0], : own.shape[1]]
        np.testing.assert_array_equal(pixels(tmp_path / "out" / path.name), wanted)


@pytest.mark.parametrize(("share", "times"), [(3.0, 3), (0.5, 0)])
def test_larger_and_smaller_pictures(share: float, times: int, photos: list[Path], tmp_path: Path) -> None:
    stored = {"scales": np.array([1, 1, share, share], np.float32)}
    resize = node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    stylise(loaded(model_of([resize], stored), tmp_path), photos, tmp_path / "out")
    for path in photos:
        own = pixels(path)
        wanted = own.repeat(times, 0).repeat(times, 1) if times else own[::2, ::2]
        np.testing.assert_array_equal(pixels(tmp_path / "out" / path.name), wanted)


def test_a_network_of_one_size_gets_photos_resampled_and_says_so(photos: list[Path], tmp_path: Path) -> None:
    model = loaded(negative((1, 3, 20, 30)), tmp_path)
    found = stylise(model, photos, tmp_path / "out")
    assert found.warnings == [
        "the network takes 30 x 20 pixels only; photos of other sizes are resampled to it, and the pictures "
        "back"
    ]
    for path in photos:
        with Image.open(path) as image:
            small = np.asarray(image.resize((30, 20), Image.Resampling.BICUBIC)).astype(np.float64)
            turned = Image.fromarray(np.rint((255 - small) * [0.5, 1, 1]).astype(np.uint8))
            wanted = np.asarray(turned.resize(image.size, Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(pixels(tmp_path / "out" / path.name).astype(int) - wanted).max() <= 2


def test_photos_are_brought_to_a_side(photos: list[Path], tmp_path: Path) -> None:
    stylise(loaded(negative(), tmp_path), photos[:1], tmp_path / "out", side=12)
    assert pixels(tmp_path / "out" / "0.png").shape == (20, 12, 3)


def test_bytes_are_bytes(photos: list[Path], tmp_path: Path) -> None:
    stored = {"most": np.full((1, 1, 1, 1), 255, np.float32)}
    nodes = [
        node("Mul", ["x", "most"], ["large"]),
        node("Round", ["large"], ["whole"]),
        node("Cast", ["whole"], ["y"], to=TensorProto.UINT8),
    ]
    stylise(loaded(model_of(nodes, stored, kind=TensorProto.UINT8), tmp_path), photos, tmp_path / "out")
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "1.png"), pixels(photos[1]))


def test_another_range_of_the_output_is_said_or_doubted(photos: list[Path], tmp_path: Path) -> None:
    stored = {"two": np.full((1, 1, 1, 1), 2, np.float32), "one": np.ones((1, 1, 1, 1), np.float32)}
    proto = model_of([node("Mul", ["x", "two"], ["d"]), node("Sub", ["d", "one"], ["y"])], stored)
    model = loaded(proto, tmp_path)
    doubted = stylise(model, photos, tmp_path / "a")
    assert len(doubted.warnings) == 1
    assert "0 is taken as black and 1 as white; say --output-range" in doubted.warnings[0]
    sure = stylise(model, photos, tmp_path / "b", output_range=(-1, 1))
    assert sure.warnings == []
    for path in photos:
        alike(pixels(tmp_path / "b" / path.name), pixels(path))


def test_what_makes_no_picture_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    model = convlens.load("efficientnet-lite0")
    with pytest.raises(UnsupportedError, match=r"the network gives no picture: .*1000.*; expected") as caught:
        stylise(model, [tmp_path / "none.png"], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_turns_out_to_be_no_picture_is_refused(photos: list[Path], tmp_path: Path) -> None:
    flat = model_of([node("Flatten", ["x"], ["y"])], {})
    del flat.graph.output[0].type.tensor_type.shape.dim[:]
    with pytest.raises(UnsupportedError, match="no picture: 'y'"):
        stylise(loaded(flat, tmp_path), photos, tmp_path / "out")


def test_a_picture_of_an_odd_size_is_refused(photos: list[Path], tmp_path: Path) -> None:
    pool = node("AveragePool", ["x"], ["y"], kernel_shape=[5, 5])
    with pytest.raises(UnsupportedError, match=r"20 x 36 for 24 x 40 pixels; expected the photo's size"):
        stylise(loaded(model_of([pool], {}), tmp_path), photos[:1], tmp_path / "out")


def test_without_a_card_it_says_what_is_missing(photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(negative().SerializeToString())
    with pytest.raises(CardError, match="how pixels go in is not known"):
        stylise(convlens.load(path), photos, tmp_path / "out")


def test_photos_that_fail_are_passed_over(photos: list[Path], tmp_path: Path) -> None:
    """One cannot be decoded; of one, with a black pixel, the network makes numbers that are not finite."""
    (tmp_path / "in" / "1.png").write_bytes(b"nothing")
    bright = pixels(photos[0]) // 2 + 100
    for index in (0, 2, 3):
        Image.fromarray(bright).save(photos[index])
    bright[3, 3] = 0
    Image.fromarray(bright).save(photos[2])
    half = np.full((1, 1, 1, 1), 0.01, np.float32)
    proto = model_of([node("Div", ["half", "x"], ["t"]), node("Mul", ["t", "x"], ["y"])], {"half": half})
    found = stylise(loaded(proto, tmp_path), photos, tmp_path / "out")
    assert [path.name for path in found.written] == ["0.png", "3.png"]
    assert [path.name for path, _ in found.skipped] == ["1.png", "2.png"]
    assert "not finite" in found.skipped[1][1]


def test_a_photo_that_does_not_fit_in_memory_is_passed_over(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(negative(), tmp_path)
    plain = Runner.run

    def run(self: Runner, feeds: Any, *given: Any) -> Any:
        if feeds["x"].shape[2:] == SIZES[1]:
            raise UnsupportedError("onnxruntime cannot run the model: Failed to allocate memory")
        return plain(self, feeds, *given)

    monkeypatch.setattr(Runner, "run", run)
    found = stylise(model, photos, tmp_path / "out")
    assert [path.name for path in found.written] == ["0.png", "2.png", "3.png"]
    assert found.skipped == [
        (photos[1], "its 27 x 31 pixels do not fit in memory; choose a smaller --side"),
    ]


def test_a_photo_that_the_network_does_not_take_is_passed_over(tmp_path: Path) -> None:
    """A window of 100 pixels, and photos of which one stays smaller than that."""
    weight = np.zeros((3, 3, 100, 100), np.float32)
    weight[[0, 1, 2], [0, 1, 2], 50, 50] = 1
    conv = node("Conv", ["x", "w"], ["y"], pads=[0, 0, 0, 0])
    back = node("Pad", ["y", "pads"], ["z"], mode="reflect")
    proto = model_of([conv, back], {"w": weight, "pads": np.array([0, 0, 50, 50, 0, 0, 49, 49], np.int64)})
    proto.graph.output[0].name = "z"
    large, small = photo(tmp_path / "in", "a.png", (130, 140)), photo(tmp_path / "in", "b.png", (8, 8))
    model = loaded(proto, tmp_path)
    found = stylise(model, [large, small], tmp_path / "out")
    assert [path.name for path in found.written] == ["a.png"]
    assert [path.name for path, _ in found.skipped] == ["b.png"]
    assert pixels(tmp_path / "out" / "a.png").shape == (130, 140, 3)
    with pytest.raises(UnsupportedError, match="onnxruntime cannot run the model"):
        stylise(model, [small], tmp_path / "other")


def test_not_one_photo(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"nothing")
    with pytest.raises(ImageError, match="none of the 2 photos could be used; the first: "):
        stylise(loaded(negative(), tmp_path), paths, tmp_path / "out")


def test_a_run_goes_on_with_what_is_missing(photos: list[Path], tmp_path: Path) -> None:
    class Impatient(Watch):
        """Somebody who asks for an end while the third photo is read."""

    model, output = loaded(negative(), tmp_path), tmp_path / "out"
    watch = Impatient()
    first = stylise(model, photos, output, watch=watch, progress=lambda share: stop(watch, share))
    assert first.stopped
    assert [path.name for path in first.written] == ["0.png", "1.png"]
    with pytest.raises(OutputError, match="--resume goes on"):
        stylise(model, photos, output)
    (output / "0.png").write_bytes(b"left as it is")
    rest = stylise(model, photos, output, resume=True)
    assert (rest.kept, [path.name for path in rest.written]) == (2, ["2.png", "3.png"])
    assert not rest.stopped
    assert (output / "0.png").read_bytes() == b"left as it is"
    again = stylise(model, photos, output, resume=True)
    assert (again.kept, again.written) == (4, [])


def stop(watch: Watch, share: float) -> None:
    watch.stopped = watch.stopped or share >= 0.5


def test_pictures_made_otherwise_are_not_mixed_in(photos: list[Path], tmp_path: Path) -> None:
    model, output = loaded(negative(), tmp_path), tmp_path / "out"
    stylise(model, photos[:1], output)
    with pytest.raises(OutputError, match=r"made otherwise \(side differ\)"):
        stylise(model, photos, output, resume=True, side=20)
    other = tmp_path / "other"
    photo(other, "mine.png", (8, 8))
    with pytest.raises(OutputError, match="holds no pictures made by stylise"):
        stylise(model, photos, other, resume=True)
    stylise(model, photos[:1], other, overwrite=True)
    assert json.loads((other / RECORD).read_text())["model"] == model.sha256
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        stylise(model, photos, tmp_path / "file")


def test_folders_keep_their_structure_and_names_do_not_clash(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    paths = [
        photo(root, "a.png", (8, 8)),
        photo(root / "deep", "a.png", (8, 8)),
        photo(root, "a.bmp", (8, 8)),
    ]
    output = root / "painted"
    model = loaded(negative(), tmp_path)
    found = stylise(model, paths, output, roots=[root])
    assert [path.relative_to(output).as_posix() for path in found.written] == [
        "a.png",
        "deep/a.png",
        "a-2.png",
    ]
    every = sorted(path for path in root.rglob("*") if path.suffix in (".png", ".bmp"))
    again = stylise(model, every, output, roots=[root], overwrite=True)
    assert len(again.written) == 3, "what lies in the output folder is no photo"


def test_memory_does_not_grow_with_the_number_of_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no time are more than a handful of photos read whose pictures are not written yet."""
    paths = [photo(tmp_path / "in", f"{i:03d}.png", (8, 8), i) for i in range(40)]
    lock, open_now, most = threading.Lock(), [0], [0]
    read, save = package.read_image, package._save

    def reading(path: Path) -> Image.Image:
        with lock:
            open_now[0] += 1
            most[0] = max(most[0], open_now[0])
        return read(path)

    def saving(picture: Image.Image, place: Path) -> Path:
        with lock:
            open_now[0] -= 1
        return save(picture, place)

    monkeypatch.setattr(package, "read_image", reading)
    monkeypatch.setattr(package, "_save", saving)
    found: Stylised = stylise(loaded(negative(), tmp_path), paths, tmp_path / "out")
    assert len(found.written) == 40
    assert most[0] <= 8


def test_torch_is_not_needed(photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(negative().SerializeToString())
    code = (
        "import sys; from convlens.cli.app import run; "
        f"code = run(['stylise', {str(path)!r}, {str(tmp_path / 'in')!r}, '--range', '0,1', '-o', "
        f"{str(tmp_path / 'out')!r}]); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"4 pictures written to {tmp_path / 'out'}", "0 False"]
    assert done.stderr == ""


def test_several_inputs_and_other_inputs_are_refused(tmp_path: Path) -> None:
    two = helper.make_graph(
        [node("Add", ["a", "b"], ["y"])],
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    proto = helper.make_model(two, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UnsupportedError, match="several inputs"):
        stylise(loaded(proto, tmp_path), [], tmp_path / "out")
    signal = model_of([node("Relu", ["x"], ["y"])], {}, ("N", 1, 100))
    path = tmp_path / "signal.onnx"
    path.write_bytes(signal.SerializeToString())
    with pytest.raises(ConvLensError, match="takes a signal; expected a network that makes a picture"):
        stylise(convlens.load(path), [], tmp_path / "out")
