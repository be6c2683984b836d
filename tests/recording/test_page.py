"""The page of a map: what it embeds is what was given, and no name or size does it harm."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.recording.maps import page as paging
from convlens.recording.maps.page import NONE, Points, page
from convlens.recording.maps.sheets import SIDE, halved, sheets
from convlens.recording.plan import plan_of
from convlens.recording.reading import Recording
from convlens.recording.run import record
from convlens.recording.source import open_source
from reference import catch

EVIL = ("</script><script>alert(1)</script>", "<!--<script>", "a&b \"c\" 'd'", "line\u2028end", "\ud800", "")
VOID = {"meta", "input", "br", "img", "link"}


class Tags(HTMLParser):
    """Every tag of a page with its attributes; fails where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self._open[-1] if self._open else ""
        self.texts[tag] = self.texts.get(tag, "") + data


def data_of(html: bytes) -> Any:
    """The block of JSON as a browser finds it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html.decode(), re.S)
    assert found is not None
    return json.loads(found[1])


def array(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def pictures(told: Any, count: int) -> NDArray[np.uint8]:
    """Thumbnails cut from their sheets, as the page cuts them."""
    each = told["columns"] * told["rows"]
    files = [base64.b64decode(address.removeprefix("data:image/webp;base64,")) for address in told["sheets"]]
    decoded = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    found = []
    for i in range(count):
        row, column = divmod(i % each, told["columns"])
        top, left = row * told["height"], column * told["width"]
        found.append(decoded[i // each][top : top + told["height"], left : left + told["width"]])
    return np.stack(found)


def points(count: int = 30, **changes: Any) -> Points:
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {
        "title": "A map",
        "text": "How it was made.",
        "noun": "photo",
        "places": {"features": rng.standard_normal((count, 2))},
        "names": [f"photo{i}.png" for i in range(count)],
    }
    return Points(**(given | changes))


def test_arrays_are_what_was_given() -> None:
    rng = np.random.default_rng(1)
    labels = [None if i == 4 else f"kind{i % 12}" for i in range(30)]
    predictions = [f"kind{(i + i // 20) % 12}" for i in range(30)]
    grid = np.where(rng.random((30, 1)) < 0.2, np.nan, rng.integers(0, 9, (30, 2)))
    thumbnails = rng.integers(0, 256, (30, 7, 5, 3), np.uint8)
    given = points(
        places={"features": rng.standard_normal((30, 2)), "grid": grid},
        labels=labels,
        predictions=predictions,
        probabilities=rng.random(30),
        thumbnails=thumbnails,
        values={
            "reward": rng.standard_normal(30),
            "note": np.array(["b", None, "a"] * 10, dtype=object),
        },
    )
    told = data_of(page(given))
    assert told["names"] == given.names
    assert [one["name"] for one in told["places"]] == ["features", "grid"]
    for one, place in zip(told["places"], given.places.values(), strict=True):
        np.testing.assert_array_equal(array(one["data"], "<f4").reshape(30, 2), place.astype(np.float32))
    assert told["classes"] == [f"kind{i}" for i in range(12)]
    for key, expected in (("label", labels), ("prediction", predictions)):
        found = array(told[key], "<u2").tolist()
        assert [None if i == NONE else told["classes"][i] for i in found] == expected
    right = [NONE if a is None else int(a == b) for a, b in zip(labels, predictions, strict=True)]
    assert array(told["right"], "<u2").tolist() == right
    np.testing.assert_array_equal(
        array(told["probability"], "<f4"), np.asarray(given.probabilities, np.float32)
    )
    reward, note = told["values"]
    np.testing.assert_array_equal(array(reward["data"], "<f4"), given.values["reward"].astype(np.float32))
    assert note["words"] == ["a", "b"]
    assert array(note["data"], "<u2").tolist() == [1, NONE, 0] * 10
    np.testing.assert_array_equal(pictures(told["thumbnails"], 30), thumbnails)


def test_channels_are_within_half_a_step() -> None:
    vectors = np.random.default_rng(2).standard_normal((30, 6)).astype(np.float32)
    vectors[:, 3] = 7  # varies not at all
    told = data_of(page(points(channels=vectors, layer="pool5")))["channels"]
    assert told["numbers"] == [0, 1, 2, 4, 5]
    assert told["of"] == 6
    steps = array(told["data"], "u1").reshape(5, 30).T
    low, high = np.array(told["low"]), np.array(told["high"])
    found = low + steps / 255 * (high - low)
    assert np.all(np.abs(found - vectors[:, told["numbers"]]) <= (high - low) / 510 * (1 + 1e-6))


def test_of_too_many_channels_those_that_vary_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "CHANNEL_BYTES", 30 * 20)
    spread = np.random.default_rng(3).permutation(64) + 1.0
    vectors = np.random.default_rng(4).choice([-1.0, 1.0], (30, 1)) * spread
    told = data_of(page(points(channels=vectors)))["channels"]
    assert told["numbers"] == np.flatnonzero(spread > 44).tolist()
    assert told["numbers"][told["first"]] == int(spread.argmax())
    least = int(spread.argmin())
    told = data_of(page(points(channels=vectors, colour=f"channel:{least}")))["channels"]
    assert told["numbers"][told["first"]] == least


def test_right_or_wrong_only_where_labels_are_names_of_classes() -> None:
    told = data_of(page(points(labels=["n01440764"] * 30, predictions=["tench"] * 30)))
    assert told["right"] is None
    told = data_of(page(points(labels=[None] * 30)))
    assert told["label"] is None


def test_names_do_no_harm() -> None:
    count = len(EVIL)
    html = page(
        points(
            count,
            title=EVIL[0],
            text=EVIL[1],
            names=EVIL,
            labels=EVIL,
            predictions=EVIL,
            values={EVIL[0]: np.zeros(count), EVIL[1]: np.array(EVIL, dtype=object)},
        )
    )
    tags = Tags(html.decode())
    assert [tag for tag, _ in tags.found].count("script") == 2
    assert tags.texts["title"] == EVIL[0]
    told = data_of(html)
    assert told["names"] == [name.replace("\ud800", "?") for name in EVIL]
    assert told["values"][0]["name"] == EVIL[0]


def test_nothing_comes_from_outside() -> None:
    html = page(points(thumbnails=np.zeros((30, 4, 4, 3), np.uint8))).decode()
    assert "http:" not in html
    assert "https:" not in html
    for way in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "url(", "@import"):
        assert way not in html
    tags = Tags(html)
    policy = next(a["content"] for tag, a in tags.found if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert not [a for _, a in tags.found if {"src", "href", "action", "srcset"} & set(a)]


def test_what_the_script_looks_for_is_there() -> None:
    html = page(points()).decode()
    ids = {a["id"] for _, a in Tags(html).found if "id" in a}
    wanted = set(re.findall(r'(?:element|getElementById)\("([^"]+)"\)', html))
    assert wanted <= ids
    assert {"map", "colour", "lasso", "find", "legend", "selection", "card"} <= wanted


def test_controls_have_names() -> None:
    html = page(points()).decode()
    for tag, attributes in Tags(html).found:
        if tag in ("select", "input"):
            assert re.search(rf'<label[^>]*>\s*\w+\s*<{tag} id="{attributes["id"]}"', html)
        if tag == "canvas" and attributes["id"] == "map":
            assert "30 photos" in str(attributes["aria-label"])
            assert attributes["tabindex"] == "0"


def test_the_script_can_be_parsed(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = page(points()).decode().rpartition("<script>")[2].partition("</script>")[0]
    (tmp_path / "page.js").write_text(script, encoding="utf-8")
    subprocess.run([node, "--check", str(tmp_path / "page.js")], check=True, timeout=60)


@pytest.mark.parametrize("count", [1, 3])
def test_few_points_are_a_page_too(count: int) -> None:
    assert data_of(page(points(count, thumbnails=np.ones((count, 9, 9, 3), np.uint8))))["count"] == count


def smooth(count: int, side: int) -> NDArray[np.uint8]:
    """Pictures with something in them that lossy compression keeps."""
    rng = np.random.default_rng(5)
    y, x = np.indices((side, side)) / side
    slope = rng.uniform(-1, 1, (count, 3, 2))
    value = 0.5 + 0.4 * (slope[..., 0, None, None] * x + slope[..., 1, None, None] * y)
    noisy = value + rng.normal(0, 0.02, value.shape)
    return np.asarray(np.clip(np.moveaxis(noisy, 1, -1) * 255, 0, 255), np.uint8)


def test_thumbnails_lose_detail_before_they_lose_size() -> None:
    given = smooth(300, 32)
    whole = sheets(given, 10**9)
    assert whole is not None
    assert whole.exact
    budget = 60_000
    assert sum(map(len, whole.files)) > budget
    fewer = sheets(given, budget)
    assert fewer is not None
    assert (fewer.height, fewer.width, fewer.exact) == (32, 32, False)
    assert sum(map(len, fewer.files)) <= budget
    address = [f"data:image/webp;base64,{base64.b64encode(file).decode()}" for file in fewer.files]
    found = pictures({**vars(fewer), "sheets": address}, 300)
    assert np.abs(found.astype(float) - given).mean() < 8


def test_thumbnails_are_halved_where_nothing_else_helps() -> None:
    given = np.random.default_rng(6).integers(0, 256, (40, 25, 64, 3), np.uint8)
    found = sheets(given, 12_000)
    assert found is not None
    assert (found.height, found.width) == (12, 32)
    assert sheets(given, 100) is None
    expected = given[:, :24].reshape(40, 12, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(halved(given), expected, atol=0.5)


def test_sheets_are_of_a_size_that_phones_decode() -> None:
    found = sheets(np.zeros((5000, 48, 40, 3), np.uint8), 10**9)
    assert found is not None
    assert found.columns * found.width <= SIDE
    assert found.rows * found.height <= SIDE
    assert len(found.files) == -(-5000 // (found.columns * found.rows))


def test_the_map_of_an_agent_has_its_page(tmp_path: Path) -> None:
    """From the states of Catch to the page, with their values."""
    file, states = catch.saved(tmp_path)
    model = convlens.load(file, threads=1)
    source = open_source([str(states)], model.source, model.card)
    record(model, source, tmp_path / "rec", plan_of(model))
    recording = Recording.open(tmp_path / "rec")
    result = model.run("embed", recording=recording, way="pca", limit=200, colour="value", pixels="no")
    html = result.attached["embed.html"]
    Tags(html.decode())
    told = data_of(html)
    number = result.arrays["number"]
    found = catch.states()[number]
    assert told["colour"] == "value"
    place = array(told["places"][0]["data"], "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(place, result.array.astype(np.float32))
    values = {one["name"]: one for one in told["values"]}
    np.testing.assert_array_equal(
        array(values["value"]["data"], "<f4"), catch.values(found).astype(np.float32)
    )
    assert values["outcome"]["words"] == ["caught", "lost"]
    best = [told["classes"][i] for i in array(told["prediction"], "<u2")]
    assert best == [str(action) for action in catch.actions(found)]
    assert told["names"] == [f"states.npz:{i}" for i in number]
    assert told["thumbnails"] is not None
    np.testing.assert_array_equal(pictures(told["thumbnails"], len(number)), result.arrays["thumbnails"])
    saved = result.save(tmp_path / "out", pictures=False)
    assert (tmp_path / "out" / "embed.html") in saved
