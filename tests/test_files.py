"""Arrays, recordings and token ids from disk, as a model takes them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convlens
from convlens.errors import CardError, ImageError, UsageError
from convlens.model import Model
from graph.nets import opened, refused
from reference.others import OTHERS, Other


def model(which: str, folder: Path, **settings: Any) -> tuple[Model, Other]:
    other = OTHERS[which]
    return opened(other.make(), folder, **{**other.settings, **settings}), other


def sound(path: Path, frames: bytes, width: int = 2, channels: int = 1, rate: int = 100) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return path


def test_arrays_with_and_without_a_batch_axis(tmp_path: Path) -> None:
    found, other = model("video", tmp_path)
    x = other.arrays(4)
    np.save(tmp_path / "b.npy", x[0])
    np.save(tmp_path / "a.npy", x[1:3])
    np.savez(tmp_path / "c.npz", one=x[3])
    images = found.images(tmp_path)
    assert images.names == ("a-0.npy", "a-1.npy", "b.npy", "c.npz")
    np.testing.assert_array_equal(images.array, x[[1, 2, 0, 3]])
    assert images.views is None


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    found, other = model("board", tmp_path)
    good, flat, words, text = (tmp_path / f"{n}.npy" for n in ("good", "flat", "words", "text"))
    np.save(good, other.arrays(1)[0])
    np.save(flat, np.zeros((3, 19, 18), np.float32))
    np.save(words, np.array(["a"]))
    text.write_bytes(b"no array at all")
    images, bad = found.readable([good, flat, words, text])
    assert images is not None
    assert images.names == ("good.npy",)
    reasons = {path.name: reason for path, reason in bad}
    assert "the array is 3 x 19 x 18; input 'x' takes 3 x 19 x 19" in reasons["flat.npy"]
    assert "expected numbers" in reasons["words.npy"]
    assert "not a numpy array that can be read" in reasons["text.npy"]
    assert all(str(path) in reason and "\n" not in reason for path, reason in bad)


def test_inputs_of_two_sizes_do_not_go_together(tmp_path: Path) -> None:
    found, _ = model("waveform without channels", tmp_path)
    np.save(tmp_path / "a.npy", np.zeros(160, np.float32))
    np.save(tmp_path / "b.npy", np.zeros(170, np.float32))
    images, bad = found.readable([tmp_path / "a.npy", tmp_path / "b.npy"])
    assert images is not None
    assert len(images) == 1
    assert "[170] numbers, the inputs before it have [160]" in bad[0][1]


def test_pictures_and_arrays_are_given_apart(tmp_path: Path) -> None:
    from PIL import Image

    found, other = model("segmenter", tmp_path)
    Image.new("RGB", (20, 16)).save(tmp_path / "photo.png")
    np.save(tmp_path / "array.npy", other.arrays(1))
    paths = [tmp_path / "array.npy", tmp_path / "photo.png"]
    for given, word in ((paths, "a picture among arrays"), (paths[::-1], "an array among pictures")):
        images, bad = found.readable(given)
        assert images is not None
        assert word in bad[0][1]
    assert found.images(tmp_path).views is not None, "a folder gives its pictures first"


@pytest.mark.parametrize(
    ("width", "raw", "expected"),
    [
        (1, bytes([128, 255, 0]), [0.0, 127 / 128, -1.0]),
        (2, np.array([0, 16384, -32768], "<i2").tobytes(), [0.0, 0.5, -1.0]),
        (3, b"\x00\x00\x00\x00\x00\x40\x00\x00\x80", [0.0, 0.5, -1.0]),
        (4, np.array([0, 1 << 30, -(1 << 31)], "<i4").tobytes(), [0.0, 0.5, -1.0]),
    ],
)
def test_recordings_of_every_width(tmp_path: Path, width: int, raw: bytes, expected: list[float]) -> None:
    found, _ = model("waveform", tmp_path, rate=100)
    array = found.images(sound(tmp_path / "a.wav", raw, width)).array
    assert array.shape == (1, 1, 200)
    np.testing.assert_allclose(array[0, 0, :3], expected, atol=1e-7)
    assert not array[0, 0, 3:].any(), "what is missing is silence"


def test_long_recordings_give_their_start_and_channels_their_mean(tmp_path: Path) -> None:
    found, _ = model("waveform", tmp_path, rate=100)
    left = np.arange(300, dtype=np.int16) * 64
    raw = np.stack([left, np.zeros_like(left)], axis=1).astype("<i2").tobytes()
    array = found.images(sound(tmp_path / "a.wav", raw, channels=2)).array
    np.testing.assert_allclose(array[0, 0], left[:200] / 65536, atol=1e-7)
    assert "the first 200 samples or zeros after the last" in found.input_words()


@pytest.mark.parametrize("which", ["signal, channels last", "electrodes"])
def test_channels_go_where_the_model_has_them(tmp_path: Path, which: str) -> None:
    found, other = model(which, tmp_path, rate=100)
    count = other.shape[-1]
    rows = (np.arange(50 * count).reshape(50, count) * 16).astype("<i2")
    array = found.images(sound(tmp_path / "a.wav", rows.tobytes(), channels=count)).array
    assert array.shape == (1, *other.shape)
    np.testing.assert_allclose(array.reshape(-1, count)[:50], rows / 32768, atol=1e-7)


def test_a_recording_needs_its_rate(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", bytes(8))
    with refused(CardError, "rate = 16000", "--rate", "a.wav has 100"):
        model("waveform", tmp_path)[0].images(path)
    with refused(ImageError, "100 samples per second; the model takes 8000", "resample"):
        model("waveform", tmp_path, rate=8000)[0].images(path)
    with refused(ImageError, "a recording", "takes a board"):
        model("board", tmp_path)[0].images(path)
    (tmp_path / "b.wav").write_bytes(b"RIFFnothing")
    with refused(ImageError, "b.wav", "not a WAV file"):
        model("waveform", tmp_path, rate=100)[0].images(tmp_path / "b.wav")


def test_token_ids(tmp_path: Path) -> None:
    found, _ = model("tokens", tmp_path, pad=7)
    (tmp_path / "a.txt").write_text("1 2\n3")
    (tmp_path / "b.txt").write_text(" ".join(map(str, range(1, 20))))
    images = found.images([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert images.array.dtype == np.int64
    assert images.array.tolist() == [[1, 2, 3] + [7] * 9, list(range(1, 13))]
    assert "cut after 12 tokens or filled with token 7" in found.input_words()


@pytest.mark.parametrize(("text", "word"), [("1 two 3", "'two'"), ("", "nothing"), ("1.5", "'1.5'")])
def test_text_that_is_no_token_ids(tmp_path: Path, text: str, word: str) -> None:
    found, _ = model("tokens", tmp_path)
    (tmp_path / "a.txt").write_text(text)
    with refused(ImageError, "a.txt", word, "whole numbers between spaces"):
        found.images(tmp_path / "a.txt")


def test_numbers_that_are_not_whole_are_no_tokens(tmp_path: Path) -> None:
    found, _ = model("tokens", tmp_path)
    with refused(UsageError, "int64"):
        found.images(np.full((1, 12), 0.5))
    np.save(tmp_path / "a.npy", np.full((1, 12), 0.5))
    with refused(ImageError, "a.npy", "do not fit int64"):
        found.images(tmp_path / "a.npy")
    assert found.images(np.ones((1, 12))).array.dtype == np.int64


def test_a_folder_without_inputs_names_what_is_taken(tmp_path: Path) -> None:
    found, _ = model("tokens", tmp_path)
    (tmp_path / "empty").mkdir()
    with refused(UsageError, "without inputs for this model", ".npy, .npz, .txt"):
        found.images(tmp_path / "empty")


def test_a_vocabulary_gives_the_words(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\n".join(f"w{i}" for i in range(30)))
    (tmp_path / "card.toml").write_text('[input]\nvocabulary = "words.txt"\n')
    other = OTHERS["tokens"]
    found = convlens.load(opened(other.make(), tmp_path).path, card=tmp_path / "card.toml", threads=1)
    x = other.arrays(1)
    result = found.run("saliency", x)
    assert result.hints["each"][0]["words"] == [f"w{i}" for i in x[0]]
