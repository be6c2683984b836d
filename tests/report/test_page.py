"""The page: a template for each kind, text that stays text, pictures inside the file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, PackageLoader
from PIL import Image

from convlens.audit import Entry
from convlens.pictures import KINDS
from convlens.registry import Finding, Images, Method, Paper, Step
from convlens.report.page import embed, page, sections, thousands
from convlens.results import Result

NASTY = "<script>alert('x')</script> & \"co\""


class Planted(Method[Any]):
    """A method that does nothing."""

    name = "planted"
    summary = "nothing"
    paper = Paper("Nobody 2000")
    kind = "map"

    def run(self, job: Any) -> Any:
        raise AssertionError("the page runs nothing")


def result(kind: str, count: int = 2, **changes: Any) -> Result:
    names = tuple(f"photo{number}.png" for number in range(count))
    given: dict[str, Any] = {
        "method": "planted",
        "kind": kind,
        "main": "main",
        "arrays": {"main": np.ones((count, 4, 4))},
        "units": {"main": "score"},
        "images": names,
        "rows": tuple({"image": name, "what": f"row of {name}", "share": 0.25} for name in names),
    }
    return Result(**(given | changes))


def entry(found: Result, key: str = "00-planted", section: str = "Part", **step: Any) -> Entry:
    order = step.pop("order", 1)
    title = step.pop("title", "title")
    return Entry(key, Planted(), Step(section, order, title, {}, **step), found, ())


def record(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": {
            "name": "Tiny",
            "file": "tiny.onnx",
            "sha256": "0" * 64,
            "producer": "",
            "opsets": {"": 17},
            "layers": 1,
            "parameters": 12,
            "macs": None,
            "input": {"name": "x", "shape": ["N", 3, 4, 4], "layout": "NCHW"},
            "outputs": {"y": ["N", 5]},
            "classes": 5,
            "licence": None,
            "unusual": [],
        },
        "certificate": {"passed": True, "words": "They agree."},
        "card": {"words": "Photos go in as they are."},
        "images": ["photo0.png", "photo1.png"],
        "skipped": [],
        "findings": [],
        "layers": [],
        "versions": {"convlens": "0"},
        "seed": 0,
    }
    return {**given, **changes}


def images(names: tuple[str, ...] = ("photo0.png", "photo1.png")) -> Images:
    views = np.full((len(names), 4, 4, 3), 200, np.uint8)
    return Images(np.zeros((len(names), 3, 4, 4), np.float32), names, views)


def test_a_kind_without_a_template_falls_back() -> None:
    own = set(Environment(loader=PackageLoader("convlens.report")).list_templates())
    assert "kinds/pictures.html" in own
    without = [kind for kind in KINDS if f"kinds/{kind}.html" not in own]
    assert without, "every kind has a template of its own, so nothing shows the fallback"
    hints = {"layer": "conv", "own_scale": False}
    html = page(
        record(), [entry(result("sprites", arrays={"main": np.ones((2, 3, 4, 4))}, hints=hints))], images()
    )
    assert "sprites" in without
    assert html.count('<figure class="wide">') == 2
    assert "every channel of conv" in html


def test_a_kind_that_nothing_draws_is_a_table() -> None:
    html = page(record(), [entry(result("hologram"))], images())
    for name in ("photo0.png", "photo1.png"):
        assert html.count(f"<td>row of {name}</td>") == 1
    assert "<th>share</th>" in html
    about_the_model = result("hologram", 0, rows=({"filter": 3, "dead": True},), arrays={"main": np.ones(3)})
    html = page(record(), [entry(about_the_model)], images())
    assert "<th>filter</th><th>dead</th>" in html


def test_text_stays_text() -> None:
    names = (NASTY, "photo1.png")
    found = result(
        "map",
        images=names,
        rows=(
            {"image": NASTY, "effect": "falls", "from": [0, 0], "to": [2, 2], "value": 0.5, "change": -0.25},
        ),
        hints={
            "draw": [{"array": "main", "style": "map", "label": NASTY}],
            "each": [{"title": NASTY, "short": NASTY}, {"title": "b"}],
        },
    )
    said = {
        "findings": [
            {
                "level": "note",
                "text": NASTY,
                "evidence": NASTY,
                "image": 0,
                "step": "00-planted",
                "method": "m",
            }
        ],
        "skipped": [{"image": NASTY, "reason": NASTY}],
        "card": {"words": NASTY},
    }
    html = page(record(**said), [entry(found, text=NASTY)], images(names))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("-0.250") == 1


def test_warnings_stand_above_their_section_once() -> None:
    found = result("hologram", how={"warnings": ["it may be noise", NASTY]})
    html = page(record(), [entry(found), entry(found, "01-planted")], images())
    assert html.count('<p class="verdict attention">it may be noise</p>') == 1
    assert "<script" not in html


def test_a_finding_about_all_photos_leads_somewhere() -> None:
    finding = Finding("note", "All alike.", "seen", None)
    said = {"level": finding.level, "text": finding.text, "evidence": finding.evidence, "image": None}
    hints = {"draw": [], "each": [{"title": ""}] * 2}
    html = page(
        record(findings=[{**said, "step": "00-planted"}]), [entry(result("map", hints=hints))], images()
    )
    assert '<a href="#00-planted"' in html
    assert html.count('id="00-planted"') == 1


def test_sections_keep_steps_together_and_texts_once() -> None:
    entries = [
        entry(result("map"), "00-a", "First", text="same"),
        entry(result("map"), "01-b", "Second", text="other"),
        entry(result("map"), "02-c", "First", text="same"),
    ]
    found = sections(entries)
    assert [section.title for section in found] == ["First", "Second"]
    assert [e.key for e in found[0].entries] == ["00-a", "02-c"]
    assert found[0].texts == [("", "same")]
    several = sections(
        [entry(result("map"), title="one", text="t1"), entry(result("map"), title="two", text="t2")]
    )
    assert several[0].texts == [("one", "t1"), ("two", "t2")]


def test_a_section_about_the_model_alone_has_no_photos() -> None:
    hints = {"layer": "c", "colour": False, "cutoff": 0.25, "shown": 4, "inputs": 4}
    weights = np.ones((2, 2, 3, 3))
    rows = tuple({"filter": n, "rms": 1.0, "high": 0.5, "dead": n == 1, "loud": False} for n in range(2))
    found = result("kernels", 0, arrays={"main": weights}, rows=rows, hints=hints)
    html = page(record(), [entry(found)], images())
    assert 'id="00-planted"' in html
    assert "<h3>" not in html
    assert html.count("<td>dead</td>") == 1


@pytest.mark.parametrize("size", [(3, 5), (256, 256), (257, 256), (600, 400)])
def test_pictures_are_inside_the_file(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    head, data = embed(Image.fromarray(pixels)).split(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as back:
        assert back.size == size
        if size[0] * size[1] <= 65536:
            np.testing.assert_array_equal(np.asarray(back.convert("RGB")), pixels)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not known"),
        (0, "0"),
        (999, "999"),
        (1000, "1 thousand"),
        (385_000_000, "385 million"),
        (4_652_008, "4.65 million"),
        (15_500_000_000, "15.5 billion"),
    ],
)
def test_counts_as_people_read_them(value: int | None, text: str) -> None:
    assert thousands(value) == text


def test_templates_know_no_method_by_name() -> None:
    from convlens import registry

    folder = Path(__file__).parents[2] / "engine" / "convlens" / "report"
    for path in [*folder.rglob("*.html"), *folder.rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for name in registry.methods():
            assert f'"{name}"' not in text, f"{path.name} asks for {name}"
            assert f"'{name}'" not in text, f"{path.name} asks for {name}"
