"""The audit's pages that look at channels one by one: what is on them, and from which recording."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from audit.test_audit import content
from cli import tiny
from convlens.audit import audit, job
from convlens.audit.folder import clear
from convlens.audit.microscope import Effort, Microscope, summary
from convlens.audit.recorded import own_recording
from convlens.errors import UsageError
from convlens.methods import visualise
from convlens.model import Model
from convlens.recording.reading import Recording
from convlens.report.microscope import layer_page
from convlens.results import Result
from reference.others import OTHERS
from reference.recorded import recorded

HOW: dict[str, Any] = {"batch_size": 8, "seed": 0, "allow_uncertified": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("microscope")


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    return convlens.load(tiny.tiny(root / "model"), threads=1)


@pytest.fixture(scope="module")
def inputs() -> NDArray[np.float32]:
    x = np.random.default_rng(0).normal(size=(30, 3, tiny.SIDE, tiny.SIDE)).astype(np.float32)
    return x * np.linspace(0.2, 2, 30, dtype=np.float32)[:, None, None, None]


@pytest.fixture(scope="module")
def recording(model: Model, inputs: NDArray[np.float32], root: Path) -> Recording:
    return recorded(model, inputs, root / "recordings", np.arange(30) % 2)


@pytest.fixture(scope="module")
def seen(model: Model, recording: Recording, root: Path) -> tuple[dict[str, Any], Path]:
    """Both layers of the tiny model; of each, three channels reconstructed, and a picture made for one."""
    folder = root / "seen" / "microscope"
    parts: list[int] = []
    microscope = Microscope(model, recording, folder, Effort(3, 1), **HOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visualise, "_QUICK", 4)
        told = microscope.run(parts.append)
    assert parts == list(range(1, len(microscope) + 1))
    return told, folder


class Links(HTMLParser):
    """Addresses and pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.links += [str(given["href"])] if tag == "a" else []
        self.images += [given] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_every_channel_of_every_layer_is_there(seen: tuple[dict[str, Any], Path]) -> None:
    told, folder = seen
    assert [(layer["layer"], layer["count"]) for layer in told["layers"]] == [("edges", 8), ("parts", 12)]
    for layer in told["layers"]:
        assert [unit["number"] for unit in layer["units"]] == list(range(layer["count"]))
        captions = [picture["caption"] for unit in layer["units"] for picture in unit["pictures"]]
        assert sum("reconstructions" in caption for caption in captions) == 3
        assert sum("answers to most" in caption for caption in captions) == 1
        assert layer["missing"] == []
        for unit in layer["units"]:
            for picture in unit["pictures"]:
                with Image.open(folder / picture["file"]) as image:
                    assert image.size == (picture["width"], picture["height"])
                    assert len(picture["alt"]) > 20


def test_facts_are_those_of_the_layer(
    seen: tuple[dict[str, Any], Path], model: Model, inputs: NDArray[np.float32]
) -> None:
    told, _ = seen
    value = model.runner.run({"photo": inputs}, ["parts"])["parts"].astype(np.float64)
    for unit in told["layers"][1]["units"]:
        own = value[:, unit["number"]]
        facts = unit["facts"]
        assert facts["mean"] == f"{own.mean():.3g} ± {own.std():.3g}"
        assert facts["largest"] == f"{own.max():.3g}"
        fires = (own.max(axis=(1, 2)) > 0).mean()
        assert facts["above zero on"] == f"{100 * fires:.3g} % of images"
        assert ("never fires" in unit["marks"]) == (own.max() <= 0)
        assert "tells apart" in facts


def test_the_page(seen: tuple[dict[str, Any], Path], model: Model) -> None:
    told, folder = seen
    record = {"model": {"name": model.name}, "microscope": summary({**told, "why": ""})}
    for place, layer in enumerate(told["layers"]):
        (folder.parent / layer["page"]).write_text(layer_page(record, layer, place), encoding="utf-8")
    page = Links(folder / "edges.html")
    assert [name for name in page.ids if name.startswith("channel-")] == [f"channel-{n}" for n in range(8)]
    for image in page.images:
        assert image["loading"] == "lazy"
        assert (image["alt"] or "").strip()
        assert (folder / unquote(str(image["src"]))).is_file()
    assert "parts.html" in page.links
    assert (folder / "parts.html").is_file()
    assert {link for link in page.links if link.startswith("#")} <= {f"#{name}" for name in page.ids}
    assert "over 30 images" in page.text
    assert "up to 3 channels" in page.text
    assert "made for up to 1 of them" in page.text
    assert "30 images do not show" in page.text
    html = (folder / "edges.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|<script|<link|https?://", html)
    assert all("units" not in layer for layer in record["microscope"]["layers"])
    json.dumps(record)


def test_what_stopped_goes_on(
    seen: tuple[dict[str, Any], Path],
    model: Model,
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, folder = seen
    real, calls = Model.run, []

    def counted(self: Model, method: str, *rest: Any, **options: Any) -> Result:
        calls.append(method)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, method, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(visualise, "_QUICK", 4)
        patch.setattr(Model, "run", counted)
        with pytest.raises(KeyboardInterrupt):
            Microscope(model, recording, tmp_path, Effort(3, 1), **HOW).run(lambda _done: None)
        first = len(calls)
        again = Microscope(model, recording, tmp_path, Effort(3, 1), **HOW).run(lambda _done: None)
    assert again == whole
    assert len(calls) == first + 5, "the first layer's five steps are not done again"
    held = {name: data for name, data in content(folder).items() if not name.endswith(".html")}
    assert content(tmp_path) == held


def test_an_audit_makes_a_small_recording_of_its_own(
    model: Model, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_steps", lambda _model: [])
    photos = tiny.photos(root / "photos", 3)
    outcome = audit(model, photos, root / "own", closer=1)
    told = outcome.record["microscope"]
    assert [layer["layer"] for layer in told["layers"]] == ["parts"]
    assert (told["images"], told["closer"], told["drawn"], told["why"]) == (3, 1, 0, "")
    report = Links(outcome.report)
    assert "over 3 images of this audit" in report.text
    assert "microscope/parts.html" in report.links
    assert Links(outcome.report.parent / "microscope" / "parts.html").links[0] == "../index.html"
    found = Recording.open(root / "own" / "recording").of(model)
    assert found.manifest["images"] == 3
    value = model.runner.run({"photo": model.images(photos).array}, ["parts"])["parts"]
    np.testing.assert_allclose(found.tallies[0].mean, value.mean(axis=(0, 2, 3)), rtol=1e-4)
    assert found.batch(model, [1]).names[0].endswith(photos[1].name), "it can be read again by any command"


def test_an_audit_takes_the_recording_that_it_is_given(
    model: Model, recording: Recording, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_steps", lambda _model: [])
    photos = tiny.photos(root / "photos", 3)
    before = content(recording.folder)
    outcome = audit(model, photos[:1], root / "given", recording=recording, closer=0, drawn=0)
    pages = sorted(path.name for path in (root / "given" / "microscope").glob("*.html"))
    assert pages == ["edges.html", "parts.html"]
    assert not (root / "given" / "recording").exists()
    assert content(recording.folder) == before
    assert outcome.record["microscope"]["images"] == 30
    page = Links(root / "given" / "microscope" / "edges.html")
    assert "No channel is reconstructed" in page.text
    assert "No pictures are made" in page.text


def test_the_recording_of_another_model_is_refused_before_anything_is_written(
    recording: Recording, root: Path
) -> None:
    other = convlens.load(tiny.tiny(root / "soft", end="Softmax"), threads=1)
    photos = tiny.photos(root / "photos", 3)
    with pytest.raises(UsageError, match="recorded from"):
        audit(other, photos, root / "refused", recording=recording)
    assert not (root / "refused").exists()


@pytest.mark.parametrize("which", ["waveform", "tokens", "board", "volume", "bytes"])
def test_inputs_that_are_no_photos(which: str, root: Path) -> None:
    """Their own small recording and its pictures, from the arrays that went in."""
    other = OTHERS[which]
    path = root / f"{which}.onnx"
    path.write_bytes(other.make().SerializeToString())
    model = convlens.load(path, threads=1, **other.settings)
    images = model.images(other.arrays(3))
    found = own_recording(model, images, [root / "given.npy"], root / f"rec-{which}", 8)
    told = Microscope(model, found, root / which, Effort(1, 0), **HOW).run(lambda _done: None)
    (layer,) = told["layers"]
    assert layer["missing"] == []
    drawn = [picture for unit in layer["units"] for picture in unit["pictures"]]
    assert drawn
    for picture in drawn:
        with Image.open(root / which / picture["file"]) as image:
            image.verify()


def test_without_places_there_is_a_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_steps", lambda _model: [])
    path = root / "vector.onnx"
    path.write_bytes(OTHERS["vector"].make().SerializeToString())
    np.save(root / "vectors.npy", OTHERS["vector"].arrays(2))
    outcome = audit(convlens.load(path, threads=1), [root / "vectors.npy"], root / "vectors")
    assert outcome.record["microscope"]["layers"] == []
    assert "no layer whose units have a place" in outcome.record["microscope"]["why"]
    assert "No page looks at channels one by one" in Links(outcome.report).text


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    kept = ["diary.txt", "conv1/mine.webp", "conv1/part-a.json", "mine/0001-0.txt"]
    gone = ["conv1.html", "conv1/part-0000.json", "conv1/0001-0.webp", "conv2/part-0064.json"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    clear(tmp_path)
    assert sorted(content(tmp_path)) == sorted(kept)
    assert not (tmp_path / "conv2").exists()
    clear(tmp_path / "nowhere")


def test_without_its_data_set_the_statistics_are_left(
    model: Model, inputs: NDArray[np.float32], tmp_path: Path
) -> None:
    found = recorded(model, inputs[:5], tmp_path / "recordings", layers=("edges",))
    found.folder.with_suffix(".npz").unlink()
    told = Microscope(model, found, tmp_path / "seen", Effort(0, 0), **HOW).run(lambda _done: None)
    (layer,) = told["layers"]
    (reason,) = layer["missing"]
    assert reason.startswith("strongest patches: the data set")
    assert "--data says where it lies now" in reason
    assert all(unit["facts"] and not unit["pictures"] for unit in layer["units"])
