"""Methods side by side: what is drawn, what refuses, what the table says; and the verdicts of an audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convlens
from cli import tiny
from convlens import registry
from convlens.attribution.maps import Signal, input_map
from convlens.audit import Outcome, audit
from convlens.cli.app import run
from convlens.errors import ConvLensError, ParameterError, TargetError, UsageError
from convlens.model import Model
from convlens.registry import Job, Method, Paper, Parameters, Step
from convlens.results import Result
from convlens.sidebyside import SideBySide, side_by_side, ways
from reference import nets
from reference.nets import saved
from reference.others import OTHERS

ATTRIBUTING = [name for name, method in registry.methods().items() if method.attributes]


class Edges(Method[Parameters]):
    """The differences between neighbours: a map that no network has a part in."""

    name = "planted-edges"
    summary = "edges"
    paper = Paper("Nobody 2000", "", "https://example.org")
    kind = "map"
    target = True
    attributes = True

    def run(self, job: Job[Parameters]) -> Result:
        array = job.images.array
        found = np.abs(np.diff(array, axis=-1, append=0))
        scores = np.zeros(len(array))
        signal = Signal("m", found, scores, "x", "edges", contribution=False, reduction="max")
        return input_map(job, self.name, signal)

    def plan(self, model: Model) -> list[Step]:
        del model
        return [Step("Edges", 99, "edges")]


class Refusing(Edges):
    """Never runs."""

    name = "planted-refusal"

    def run(self, job: Job[Parameters]) -> Result:
        raise ConvLensError("this model has no such thing;\nchoose another")

    def plan(self, model: Model) -> list[Step]:
        del model
        return []


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.methods()
    for method in (Edges(), Refusing()):
        monkeypatch.setitem(registry._METHODS, method.name, method)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    net = nets.classifier(0, (3, 30, 26))
    return convlens.load(nets.saved(net.onnx(), tmp_path_factory.mktemp("side")), threads=1, kind="image")


def images(count: int = 2) -> Any:
    return nets.pictures(0, count, (3, 30, 26), np.float32)


def test_all_methods_and_their_variants_once(model: Model) -> None:
    found = ways(model, "all", quick=True)
    assert {way.method.name for way in found} == set(ATTRIBUTING)
    assert len({way.label for way in found}) == len(found)
    for name in ATTRIBUTING:
        own = [way.method.parse(way.parameters).model_dump_json() for way in found if way.method.name == name]
        assert len(set(own)) == len(own), name


def test_methods_by_name_with_settings(model: Model) -> None:
    found = ways(model, "saliency, saliency:rule=guided;reduction=mean,occlusion:patch=4x3")
    assert [way.label for way in found] == [
        "saliency",
        "saliency:rule=guided;reduction=mean".replace(":", ": ", 1),
        "occlusion: patch=4x3",
    ]
    assert found[1].parameters == {"rule": "guided", "reduction": "mean"}
    assert found[2].parameters == {"patch": "4x3"}


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        ("predict", ParameterError, "does not say where"),
        ("salience", UsageError, "nearest: 'saliency'"),
        ("saliency:rule", ParameterError, "NAME=VALUE"),
        ("saliency:rule=left", ParameterError, "rule is 'left'"),
    ],
)
def test_methods_that_do_not_fit(methods: str, error: type[Exception], words: str, model: Model) -> None:
    with pytest.raises(error, match=words):
        ways(model, methods)


def test_the_table_marks_what_does_not_beat_random(model: Model, planted: None, tmp_path: Path) -> None:
    shares: list[float] = []
    found = side_by_side(
        model,
        images(),
        1,
        "planted-edges,occlusion:patch=6,planted-refusal",
        faithfulness=True,
        progress=shares.append,
    )
    rows = {row["method"]: row for row in found.rows}
    assert set(rows) == {
        "planted-edges",
        "occlusion: patch=6",
        "[random order]",
        "[centred Gaussian]",
        "planted-refusal",
    }
    assert all(list(row) == list(found.rows[0]) for row in found.rows)
    assert rows["occlusion: patch=6"]["verdict"] == "beats random"
    assert rows["planted-edges"]["verdict"].startswith("! not clearly better than random; ! stays")
    assert rows["planted-edges"]["random weights"] == pytest.approx(1)
    assert rows["planted-refusal"]["verdict"] == "refused: this model has no such thing; choose another"
    deletions = [row["deletion"] for row in found.rows[:2]]
    assert deletions == sorted(deletions)
    assert rows["occlusion: patch=6"]["deletion"] < rows["[random order]"]["deletion"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["refused"].keys() == {"planted-refusal"}
    paths = found.save(tmp_path / "out")
    assert [path.name for path in paths if path.suffix == ".png"] == ["montage.png"]
    assert all(path.is_file() for path in paths)


def test_orders_depend_on_no_batch_size(model: Model) -> None:
    def areas(size: int) -> list[Any]:
        found = side_by_side(model, images(), 1, "occlusion:patch=6", faithfulness=True, batch_size=size)
        return [row["deletion"] for row in found.rows]

    np.testing.assert_allclose(areas(1), areas(7), rtol=1e-5)


def test_what_is_asked_wrongly_is_an_error_and_no_refusal(model: Model, planted: None) -> None:
    with pytest.raises(TargetError):
        side_by_side(model, images(), "no such thing", "saliency")
    with pytest.raises(ConvLensError, match="no method can explain it; planted-refusal"):
        side_by_side(model, images(), 1, "planted-refusal")


def tiles(found: SideBySide) -> list[Image.Image]:
    return [picture.image for picture in found.pictures]


@pytest.mark.parametrize("which", ["waveform", "tokens", "volume", "board", "vector"])
def test_inputs_that_are_no_photos(which: str, tmp_path: Path) -> None:
    name = next(key for key in OTHERS if key.startswith(which) or OTHERS[key].kind == which)
    other = OTHERS[name]
    model = convlens.load(saved(other.make(), tmp_path), threads=1, **other.settings)
    found = side_by_side(
        model, other.arrays(2), other.target, "occlusion,saliency,grad-cam", faithfulness=True
    )
    assert {*found.results, *found.refused} == {"occlusion", "saliency", "grad-cam"}
    assert "occlusion" in found.results
    assert found.rows
    for image in tiles(found):
        assert min(image.size) > 60
        assert max(image.size) < 4000


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny.tiny(tmp_path / "model"))
    photos = [str(photo) for photo in tiny.photos(tmp_path / "photos", 2)]
    out = tmp_path / "out"
    methods = ["--methods", "saliency,occlusion:patch=8", "--threads", "1"]
    assert run(["attribute", path, *photos, *methods, "--faithfulness", "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "[random order]" in printed
    assert "occlusion: patch=8" in printed
    assert (out / "montage.png").is_file()
    assert run(["attribute", path, *photos, *methods, "-o", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run(["attribute", path, *photos, *methods, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in record["rows"]] == ["drawn", "drawn"]
    assert run(["attribute", path, *photos, "--methods", "predict"]) == 2


# The audit's verdicts


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("audited")
    registry.methods()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._METHODS, Edges.name, Edges())
        model = convlens.load(tiny.tiny(folder / "model"), threads=1)
        return audit(model, tiny.photos(folder / "photos", 3), folder / "out")


def test_the_audit_has_a_verdict_beside_each_map(audited: Outcome) -> None:
    judged = {r["step"]: r["verdict"] for r in audited.record["results"] if "verdict" in r}
    assert {step.split("-", 1)[1] for step in judged} == {
        result["method"]
        for result in audited.record["results"]
        if result["method"] == Edges.name or registry.methods()[result["method"]].attributes
    }
    html = audited.report.read_text(encoding="utf-8")
    assert html.count('<details class="judged">') == 3 * len(judged)
    for verdict in judged.values():
        order = verdict["order"]
        assert order["outcome"] in ("better", "same", "worse")
        assert len(order["areas"]) == len(order["areas_random"]) == 3
        assert order["deletion"] == pytest.approx(np.mean(order["areas"]))
        assert "hiding on 3 photos in 10 steps" in verdict["rests_on"]
        assert "random weights on 2 photos" in verdict["rests_on"]
        assert order["words"] in html.replace("&#39;", "'")
    edges = next(verdict for step, verdict in judged.items() if step.endswith("planted-edges"))
    assert edges["random"]["outcome"] == "stays"
    assert edges["random"]["alike"] == pytest.approx(1)
    said = [finding["text"] for finding in audited.findings if finding["step"].endswith("planted-edges")]
    assert any("hardly changes" in text and "not what the model learnt" in text for text in said)


def test_verdicts_are_made_once(audited: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished verdict is taken from disk when the audit goes on."""
    from convlens.attribution.faithful.verdicts import Judge
    from convlens.audit.folder import noted

    folder = audited.report.parent / "results"
    stems = [path.stem for path in folder.glob("*-verdict.json")]
    assert stems
    monkeypatch.setattr(Judge, "verdict", lambda *_: pytest.fail("made again"))
    kept = noted(folder, stems[0], lambda: pytest.fail("made again"))
    assert kept["order"]["words"]
