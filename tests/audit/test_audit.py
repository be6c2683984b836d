"""The audit: what is in its folder, how it goes on after an interruption, and on which models it works."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, ImageDraw

import convlens
from cli import tiny
from convlens import registry
from convlens.audit import Outcome, audit
from convlens.errors import ImageError, OutputError, UncertifiedError
from convlens.model import Model
from convlens.registry import Finding, Job, Method, Paper, Step, register
from convlens.results import Result, merge
from convlens.trust.certificate import Certificate, Check

SINGLE = 1e-5
"""Of a number's own size and of one: float32, where another batch takes another path through the kernels."""

METHODS = registry.methods()
VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


class Page(HTMLParser):
    """A page, taken apart; complains where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice in <{tag}>"
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            if key in given:
                self.addresses.append(str(given[key]))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag == "img":
            self.images.append(given)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            self.headings.append(data)


def page_of(outcome: Outcome) -> Page:
    """The report's page, which has to stand on its own."""
    html = outcome.report.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    page = Page(html)
    beside = {address for address in page.addresses if address.startswith("microscope/")}
    assert all((outcome.report.parent / unquote(address)).is_file() for address in beside)
    for address in set(page.addresses) - beside:
        assert address.startswith(("data:image/", "#")), address
    assert not re.search(r"url\(|@import|<script|<link", html)
    assert not re.findall(r"=\s*[\"']?https?://", html)
    assert Counter(page.ids).most_common(1)[0][1] == 1, "an id twice"
    for link in set(page.links) - beside:
        assert link.removeprefix("#") in page.ids, link
    for image in page.images:
        assert (image.get("alt") or "").strip()
        assert int(image["width"] or 0) > 0
    assert "None" not in page.text
    return page


def record_of(outcome: Outcome) -> Any:
    """audit.json, which has to be JSON without NaN and infinities, and what Python gets too."""
    text = (outcome.report.parent / "audit.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=pytest.fail)
    assert record == json.loads(json.dumps(outcome.record))
    return record


def stored(folder: Path) -> dict[str, bytes]:
    """Every array of an audit, and how each part was made."""
    found: dict[str, bytes] = {}
    for path in sorted((folder / "results").iterdir()):
        if path.suffix == ".json":
            found[path.name] = path.read_bytes()
            continue
        with np.load(path) as arrays:
            found |= {f"{path.name}:{name}": arrays[name].tobytes() for name in arrays.files}
    return found


def alike(one: Any, other: Any, where: str = "") -> None:
    """Plain data that is the same up to float32's rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            alike(value, other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            alike(left, right, f"{where}[{number}]")
    elif isinstance(one, float):
        assert abs(one - other) <= SINGLE * max(1.0, abs(one)), f"{where}: {one} and {other}"
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def photos(root: Path) -> list[Path]:
    """Six photos: more than go into one part."""
    return tiny.photos(root / "photos", 6)


@pytest.fixture(scope="module")
def load(root: Path) -> Callable[[], Model]:
    path = tiny.tiny(root / "model")
    return lambda: convlens.load(path, threads=1)


@pytest.fixture(scope="module")
def whole(root: Path, load: Callable[[], Model], photos: list[Path]) -> Outcome:
    """An audit of three photos, and a file that is none, that ran through."""
    bad = tiny.no_picture(root / "bad <b>.png")
    return audit(load(), [*photos[:3], bad], root / "whole", seed=4)


# What is in the folder


def test_the_folder(whole: Outcome) -> None:
    folder = whole.report.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "audit.json",
        "index.html",
        "microscope",
        "pictures",
        "recording",
        "results",
    ]
    steps = [result["step"] for result in whole.record["results"]]
    for step in steps:
        assert (folder / "results" / f"{step}-0.npz").is_file()
        part = Result.load(folder / "results", f"{step}-0")
        drawn = {path.name for path in (folder / "pictures").glob(f"{step}-*.png")}
        assert len(drawn) == len(part.pictures)
        assert bool(drawn) == (part.kind != "ranking")
    for path in (folder / "pictures").iterdir():
        with Image.open(path) as picture:
            picture.verify()


def test_the_page_stands_on_its_own(whole: Outcome, photos: list[Path]) -> None:
    page = page_of(whole)
    for photo in photos[:3]:
        assert photo.name in page.headings
    assert "1 skipped." in page.text
    assert "bad <b>.png: not a picture that can be decoded" in page.text
    assert "Certified." in page.text
    assert whole.record["certificate"]["words"] in page.text
    for finding in whole.findings:
        assert " ".join(finding["text"].split()) in " ".join(page.text.split())
        assert finding["evidence"] in page.text
    for label in {
        row["label"] for result in whole.record["results"] for row in result["rows"] if "label" in row
    }:
        assert label in page.text
    embedded = [image for image in page.images if str(image["src"]).startswith("data:image/webp;base64,")]
    assert len(embedded) == len(page.images)


def test_steps_of_a_section_stand_side_by_side(whole: Outcome, load: Callable[[], Model]) -> None:
    """In the row of one photo, each under its own title."""
    model = load()
    sections: dict[str, list[str]] = {}
    for method in METHODS.values():
        for step in method.plan(model):
            sections.setdefault(step.section, []).append(step.title)
    shared = {section: titles for section, titles in sections.items() if len(titles) > 1}
    assert shared, "no section has several steps"
    html = whole.report.read_text(encoding="utf-8")
    for section, titles in shared.items():
        part = html.split(f"<h2>{section}</h2>")[1].split("</section>")[0]
        rows = re.split(r'<div class="row[^"]*">', part)[1:]
        assert len(rows) == 3
        for row in rows:
            assert re.findall(r"<h4>(.*?)</h4>", row) == titles
    for section in sections:
        assert html.count(f"<h2>{section}</h2>") == 1


def test_the_record(whole: Outcome, load: Callable[[], Model], photos: list[Path]) -> None:
    record = record_of(whole)
    model = load()
    assert record["model"]["name"] == "Tiny"
    assert record["model"]["sha256"] == model.sha256
    assert record["model"]["classes"] == len(tiny.LABELS)
    assert record["model"]["licence"] == "CC0-1.0"
    assert record["certificate"]["passed"] is True
    assert "agree at all 8 values" in record["certificate"]["words"]
    for number in (*tiny.MEAN, *tiny.STD):
        assert f"{number:g}" in record["card"]["words"]
    assert record["card"]["input"]["mean"] == list(tiny.MEAN)
    assert record["images"] == [photo.name for photo in photos[:3]]
    assert [entry["image"] for entry in record["skipped"]] == ["bad <b>.png"]
    assert record["seed"] == 4
    assert len(record["layers"]) == 8
    steps = {result["step"] for result in record["results"]}
    assert {result["method"] for result in record["results"]} == {
        name for name, method in METHODS.items() if method.plan(model)
    }
    assert record["findings"]
    for finding in record["findings"]:
        assert finding["level"] in ("good", "note", "attention")
        assert finding["text"]
        assert finding["evidence"]
        assert finding["step"] in steps
        assert finding["image"] is None or 0 <= finding["image"] < 3


def test_predictions_in_the_record_are_the_model_s_own(
    whole: Outcome, load: Callable[[], Model], photos: list[Path]
) -> None:
    """Held against onnxruntime and a softmax written out."""
    model = load()
    scores = model.runner.run({"photo": model.images(photos[:3]).array}, ["scores"])["scores"].astype(
        np.float64
    )
    rows = [row for result in whole.record["results"] for row in result["rows"] if row.get("rank") == 1]
    assert len(rows) == 3
    for row, own in zip(rows, scores, strict=True):
        odds = np.exp(own - own.max())
        assert row["label"] == tiny.LABELS[int(own.argmax())]
        assert abs(row["probability"] - (odds / odds.sum()).max()) < SINGLE


# Interrupted and started again


class Counting:
    """Counts what is computed of the steps, and stops before the call of that number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop: int | None, error: type[BaseException]) -> None:
        self.calls: list[tuple[str, tuple[str, ...], str]] = []
        run = Model.run

        def counted(model: Model, method: str, images: Any = None, *rest: Any, **options: Any) -> Result:
            if options.get("recording") is not None:  # a look through the microscope
                return run(model, method, images, *rest, **options)
            if len(self.calls) == stop:
                raise error("in the middle of it")
            names = images.names if images is not None else ()
            own = {key: options[key] for key in METHODS[method].Parameters.model_fields if key in options}
            self.calls.append((method, names, json.dumps(own, sort_keys=True)))
            return run(model, method, images, *rest, **options)

        monkeypatch.setattr(Model, "run", counted)


@pytest.mark.parametrize(
    ("stop", "error"), [(1, KeyboardInterrupt), (4, MemoryError), (9, KeyboardInterrupt)]
)
def test_it_goes_on_where_it_stopped(
    stop: int,
    error: type[BaseException],
    load: Callable[[], Model],
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = photos if stop == 9 else photos[:2]
    with monkeypatch.context() as patch:
        straight = Counting(patch, None, error)
        wanted = audit(load(), given, tmp_path / "straight")
    with monkeypatch.context() as patch:
        before = Counting(patch, stop, error)
        with pytest.raises(error):
            audit(load(), given, tmp_path / "resumed")
    assert not (tmp_path / "resumed" / "index.html").exists()
    assert not (tmp_path / "resumed" / "audit.json").exists()
    shares: list[float] = []
    with monkeypatch.context() as patch:
        after = Counting(patch, None, error)
        found = audit(load(), given, tmp_path / "resumed", progress=shares.append)
    assert before.calls + after.calls == straight.calls
    assert len(before.calls) == stop
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    for file in ("audit.json", "index.html"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()
    assert stored(tmp_path / "resumed") == stored(tmp_path / "straight")
    assert found.record == wanted.record
    drawn = tmp_path / "straight" / "pictures"
    assert content(tmp_path / "resumed" / "pictures") == content(drawn)


def test_a_damaged_part_is_made_again(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = audit(load(), photos[:2], tmp_path / "straight")
    with monkeypatch.context() as patch:
        Counting(patch, 5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            audit(load(), photos[:2], tmp_path / "resumed")
    results = tmp_path / "resumed" / "results"
    first, second, *_ = sorted(results.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:-40])
    second.with_suffix(".json").unlink()
    with monkeypatch.context() as patch:
        again = Counting(patch, None, KeyboardInterrupt)
        found = audit(load(), photos[:2], tmp_path / "resumed")
    assert len(again.calls) == len(wanted.record["results"]) - 3
    assert found.record == wanted.record
    assert stored(tmp_path / "resumed") == stored(tmp_path / "straight")


def test_stopped_while_the_page_is_written(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convlens.report import page

    with monkeypatch.context() as patch:
        patch.setattr(page, "page", lambda *_given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            audit(load(), photos[:1], tmp_path / "out")
    with monkeypatch.context() as patch:
        again = Counting(patch, None, KeyboardInterrupt)
        page_of(audit(load(), photos[:1], tmp_path / "out"))
    assert again.calls == []
    assert not list((tmp_path / "out").glob("*unfinished*"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stopped(model: Model, photos: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that was interrupted after two parts."""
    with monkeypatch.context() as patch:
        Counting(patch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            audit(model, photos, folder)


@pytest.mark.parametrize("other", ["photos", "order", "pixels", "seed", "card", "uncertified", "model"])
def test_the_unfinished_audit_of_another_job_is_refused(
    other: str,
    load: Callable[[], Model],
    photos: list[Path],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    stopped(load(), photos[:2], folder, monkeypatch)
    before = content(folder)
    model, given, options = load(), photos[:2], {}
    if other == "photos":
        given = photos[:3]
    elif other == "order":
        given = [photos[1], photos[0]]
    elif other == "pixels":
        changed = tmp_path / photos[0].name
        Image.fromarray(tiny.pixels(99)).save(changed)
        given = [changed, photos[1]]
    elif other == "seed":
        options = {"seed": 1}
    elif other == "uncertified":
        options = {"allow_uncertified": True}
    elif other == "card":
        model = convlens.load(root / "model" / "tiny.onnx", threads=1, mean=(0.1, 0.2, 0.3))
    else:
        model = convlens.load(tiny.tiny(tmp_path / "soft", end="Softmax"), threads=1)
    with pytest.raises(OutputError, match="unfinished audit of another job"):
        audit(model, given, folder, **options)  # type: ignore[arg-type]
    assert content(folder) == before


def test_another_job_over_an_unfinished_audit_is_as_in_a_new_folder(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stopped(load(), photos[:2], folder, monkeypatch)
    outcome = audit(load(), photos[:3], folder, overwrite=True, seed=1)
    fresh = audit(load(), photos[:3], tmp_path / "fresh", seed=1)
    assert outcome.record == fresh.record
    assert content(folder).keys() == content(tmp_path / "fresh").keys()


def test_overwriting_starts_afresh(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stopped(load(), photos[:2], folder, monkeypatch)
    with monkeypatch.context() as patch:
        counted = Counting(patch, None, KeyboardInterrupt)
        outcome = audit(load(), photos[:2], folder, overwrite=True)
    assert len(counted.calls) == len(outcome.record["results"])


def test_a_finished_audit_is_refused(
    whole: Outcome, load: Callable[[], Model], photos: list[Path], root: Path
) -> None:
    before = content(whole.report.parent)
    with pytest.raises(OutputError, match="not empty"):
        audit(load(), [*photos[:3], root / "bad <b>.png"], whole.report.parent, seed=4)
    assert content(whole.report.parent) == before


@pytest.mark.parametrize("held", ["diary.txt", "results/mine.npz", "unfinished.json", "audit.json"])
def test_a_folder_that_holds_something_else(
    held: str, load: Callable[[], Model], photos: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    (folder / held).parent.mkdir(parents=True)
    (folder / held).write_text("[1, 2")
    with pytest.raises(OutputError, match="left as it is"):
        audit(load(), photos[:1], folder)
    assert content(folder) == {held: b"[1, 2"}


def bad_certificate(_model: Model, _seed: int = 0) -> Certificate:
    return Certificate((Check("edges", "Relu", "random input", 0.5, 0.25, False),), ("random input",))


@pytest.mark.parametrize("failure", ["pictures", "certificate"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_audit_that_cannot_start_leaves_no_trace(
    failure: str,
    overwrite: bool,
    load: Callable[[], Model],
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does it take away what lies in the folder."""
    folder = tmp_path / "out"
    if overwrite:
        (folder / "results").mkdir(parents=True)
        (folder / "results" / "mine.npz").write_bytes(b"years of work")
        (folder / "index.html").write_text("an earlier report")
        before = content(folder)
    bad = [tiny.no_picture(tmp_path / "bad.png")]
    if failure == "certificate":
        monkeypatch.setattr(Model, "certificate", bad_certificate)
    with pytest.raises(ImageError if failure == "pictures" else UncertifiedError):
        audit(load(), bad if failure == "pictures" else photos[:1], folder, overwrite=overwrite)
    if overwrite:
        assert content(folder) == before
    else:
        assert not folder.exists()


def test_uncertified_on_demand_the_report_says_so(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "certificate", bad_certificate)
    outcome = audit(load(), photos[:1], tmp_path / "out", allow_uncertified=True)
    assert "Not certified." in page_of(outcome).text
    assert outcome.record["certificate"]["passed"] is False


# Parts and batches


# what searches, or asks a recording of each image, has no step of images in an audit
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, m in METHODS.items()
        if m.images and not (m.together or m.searches or m.recording == "must")
    ],
)
def test_groups_merge_into_the_whole(name: str, load: Callable[[], Model], photos: list[Path]) -> None:
    model = load()
    images = model.images(photos)
    assert images.views is not None
    whole = model.run(name, images)
    parts = [model.run(name, images.rows(*group)) for group in ((0, 4), (4, 5), (5, 6))]
    merged = merge(parts)
    assert merged.images == whole.images
    assert merged.arrays.keys() == whole.arrays.keys()
    for key, array in whole.arrays.items():
        found = merged.arrays[key]
        assert (found.shape, found.dtype) == (array.shape, array.dtype), key
        scale = float(np.abs(array).max(initial=0.0)) if array.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(found, array, rtol=0, atol=SINGLE * scale, err_msg=key)
    np.testing.assert_array_equal(merged.views, whole.views)
    alike(json.loads(json.dumps(merged.record())), json.loads(json.dumps(whole.record())))
    assert [picture.name for picture in merged.pictures] == [picture.name for picture in whole.pictures]


def test_the_batch_size_changes_nothing(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path
) -> None:
    records = [record_of(audit(load(), photos, tmp_path / str(size), batch_size=size)) for size in (1, 8)]
    alike(*records)


def test_the_same_audit_twice_is_the_same_to_the_byte(
    load: Callable[[], Model], photos: list[Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        audit(load(), photos[:2], tmp_path / name)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one.keys() == two.keys()
    for file, data in one.items():
        if not file.endswith(".npz"):  # a zip file holds the time
            assert two[file] == data, file
    assert stored(tmp_path / "one") == stored(tmp_path / "two")


# Other models


def test_a_model_without_classes(root: Path, photos: list[Path], tmp_path: Path) -> None:
    model = convlens.load(tiny.tiny(root / "features", features=True), threads=1)
    outcome = audit(model, photos[:2], tmp_path / "out")
    page, record = page_of(outcome), record_of(outcome)
    assert record["model"]["classes"] is None
    needing = {name for name, method in METHODS.items() if method.classes or method.target}
    used = {result["method"] for result in record["results"]}
    assert used
    assert not used & needing
    assert not any("probable" in heading or heading == "What it says" for heading in page.headings)
    assert "classes)" not in page.text


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_a_model_that_ends_in_probabilities(end: str, root: Path, photos: list[Path], tmp_path: Path) -> None:
    model = convlens.load(tiny.tiny(root / end, end=end), threads=1)
    page_of(audit(model, photos[:1], tmp_path / "out"))


def test_channels_last(root: Path, load: Callable[[], Model], photos: list[Path], tmp_path: Path) -> None:
    """The same network behind a Transpose says and shows the same."""
    model = convlens.load(tiny.tiny(root / "last", nhwc=True), threads=1)
    outcome = audit(model, photos[:2], tmp_path / "last")
    page_of(outcome)
    assert record_of(outcome)["model"]["input"]["layout"] == "NHWC"
    first = audit(load(), photos[:2], tmp_path / "first")
    assert len(outcome.record["results"]) == len(first.record["results"])
    for result, other in zip(outcome.record["results"], first.record["results"], strict=True):
        alike(
            json.loads(json.dumps(result["rows"])),
            json.loads(json.dumps(other["rows"])),
            result["method"],
        )


def test_one_channel(root: Path, tmp_path: Path) -> None:
    model = convlens.load(tiny.tiny(root / "digits", channels=1, side=28), threads=1)
    digits = []
    for number in range(2):
        path = tmp_path / f"digit{number}.png"
        Image.fromarray(tiny.pixels(number, 28, 28)[:, :, 0]).save(path)
        digits.append(path)
    outcome = audit(model, digits, tmp_path / "out")
    page_of(outcome)
    assert record_of(outcome)["model"]["input"]["shape"][1:] == [1, 28, 28]


def test_odd_and_equal_names(load: Callable[[], Model], tmp_path: Path) -> None:
    """Two folders hold a picture of the same name, and names hold what HTML and files cannot."""
    paths = []
    odd = "c/<i>&'\"#1 {}*.png"
    names = ["a/cat.png", "b/cat.png", "b/cat.jpg", odd.format("ü"), odd.format("ö")]
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(tiny.pixels(number)).save(path)
        paths.append(path)
    outcome = audit(load(), paths, tmp_path / "out")
    page = page_of(outcome)
    names = record_of(outcome)["images"]
    assert len(set(names)) == 5
    for name in names:
        assert name in page.text
    assert {"cat.png", "cat.jpg"} < set(page.headings)
    drawn: Counter[str] = Counter()
    for result in outcome.record["results"]:
        parts = range(2 if result["images"] else 1)
        folder = tmp_path / "out" / "results"
        whole = merge([Result.load(folder, f"{result['step']}-{part}") for part in parts])
        drawn[result["step"]] = len(whole.pictures)
    for step, count in drawn.items():
        assert len(list((tmp_path / "out" / "pictures").glob(f"{step}-*.png"))) == count, step


# A method from elsewhere


@pytest.fixture
def stranger() -> Iterator[type[Method[Any]]]:
    """A method of another package, registered for the length of a test."""
    before = dict(registry.methods())

    @register
    class Brightness(Method[Any]):
        """How bright each pixel is, N x rows x columns: ``brightness`` (main)."""

        name = "brightness"
        summary = "how bright each pixel is"
        paper = Paper("Nobody 2001", "page 5", "https://example.org/brightness")
        kind = "map"

        def run(self, job: Job[Any]) -> Result:
            array = job.images.array.mean(axis=job.model.source.channel)
            return Result(
                method=self.name,
                kind=self.kind,
                main="brightness",
                arrays={"brightness": array},
                units={"brightness": "input units"},
                images=job.images.names,
                views=job.images.views,
                rows=tuple(
                    {"image": n, "mean": float(a.mean())}
                    for n, a in zip(job.images.names, array, strict=True)
                ),
                hints={
                    "draw": [{"array": "brightness", "style": "map", "label": "brightness"}],
                    "each": [{"title": "brightness", "short": "how bright"} for _ in array],
                },
            )

        def plan(self, model: Model) -> list[Step]:
            return [Step("How bright it is", 15, "brightness", {}, "Light is light.")]

        def findings(self, result: Result) -> list[Finding]:
            return [Finding("note", f"It is bright on {len(result.images)} photos.", "look at it")]

    yield Brightness
    registry._METHODS.clear()
    registry._METHODS.update(before)


@pytest.mark.usefixtures("stranger")
def test_a_method_from_elsewhere_is_everywhere(
    load: Callable[[], Model],
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    from convlens.cli.app import run

    assert run(["--help"]) == 0
    assert re.search(r"^  brightness +how bright each pixel is$", capsys.readouterr().out, re.M)
    model = load()
    assert run(["brightness", str(model.path), str(photos[0]), "-o", str(tmp_path / "cli")]) == 0
    assert {path.suffix for path in (tmp_path / "cli").iterdir()} == {".npz", ".json", ".png"}
    spec = spec_from_file_location("docs_script", Path(__file__).parents[2] / "scripts" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    docs = module_from_spec(spec)
    spec.loader.exec_module(docs)
    assert "[Nobody 2001](https://example.org/brightness), page 5" in docs.methods_page()
    assert "## convlens brightness" in docs.command_page()
    outcome = audit(model, photos, tmp_path / "out")
    page = page_of(outcome)
    assert "How bright it is" in page.headings
    assert "Light is light." in page.text
    assert "It is bright on 6 photos." in page.text
    assert "Nobody 2001" in page.text
    result = next(r for r in outcome.record["results"] if r["method"] == "brightness")
    assert [row["image"] for row in result["rows"]] == [photo.name for photo in photos]
    assert len(list((tmp_path / "out" / "pictures").glob(f"{result['step']}-*.png"))) == 6


def test_the_stranger_is_gone() -> None:
    assert registry.methods() == METHODS


# A real model

CHELSEA = [
    *((0, 0), (205, 0), (203, 60), (224, 72), (224, 128)),
    *((197, 152), (186, 224), (58, 224), (42, 162), (0, 128)),
]
"""Outline of the cat's head in the 224 x 224 view, x and y, drawn by hand along the fur. Outside it lie
the blurred background at the lower right, the ear's rim at the upper right and the body at the lower left."""


def test_chelsea_is_a_cat(bundled: Path) -> None:
    model = convlens.load("efficientnet-lite0", threads=1)
    given = [bundled / "photos" / name for name in ("chelsea.png", "coffee.png")]
    said = model.run("predict", given, top=3)
    cats = [row["label"] for row in said.rows if row["image"] == "chelsea.png"]
    assert set(cats) == {"tiger cat", "Egyptian cat", "tabby"}
    assert next(row["label"] for row in said.rows if row["image"] == "coffee.png") == "espresso"
    hidden = model.run("occlusion", given[0], patch=32, stride=16)
    outline = Image.new("L", (224, 224))
    ImageDraw.Draw(outline).polygon(CHELSEA, fill=1)
    animal = np.asarray(outline)
    # that a place on the animal is no matter of course, some of the view has to be something else
    assert 0.7 < animal.mean() < 0.9
    grid = hidden.array[0]
    row, column = np.unravel_index(grid.argmin(), grid.shape)
    top, left = hidden.arrays["rows_at"][row], hidden.arrays["columns_at"][column]
    assert grid.min() < hidden.arrays["baseline"][0] * 0.9
    # a patch counts as on the animal where at least nine tenths of it are
    assert animal[top : top + 32, left : left + 32].mean() > 0.9


def test_scores_that_are_not_numbers_are_told(photos: list[Path], tmp_path: Path) -> None:
    """Weights that training blew up: the audit runs to its end and says that the scores mean nothing."""
    import onnx
    from onnx import numpy_helper

    path = tiny.tiny(tmp_path / "broken")
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name == "head.bias":
            tensor.CopyFrom(
                numpy_helper.from_array(np.full(len(tiny.LABELS), np.nan, np.float32), tensor.name)
            )
    onnx.save(proto, path)
    outcome = audit(convlens.load(path, threads=1), photos, tmp_path / "out")
    said = [finding["text"] for finding in outcome.findings]
    assert sum("are not numbers" in text for text in said) == len(photos)
    Page(outcome.report.read_text(encoding="utf-8"))
