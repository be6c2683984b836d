"""The command line: every job and every method, what is written, what is said, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convlens
from cli import tiny
from convlens import ops, registry
from convlens.cli import methods as method_commands
from convlens.cli.app import cli, run
from convlens.errors import FAILED, FINDING, FINE, MODEL, USAGE
from convlens.model import Model
from convlens.pictures import KINDS
from convlens.recording.plan import plan_of
from convlens.recording.run import record as recorded
from convlens.recording.source import open_source
from convlens.results import Result
from convlens.trust.certificate import Certificate, Check

METHODS = registry.methods()
DRAWN = [name for name, method in METHODS.items() if KINDS[method.kind] is not None]
WARNED = {"style", "texture"}  # say that a model of one size sees their pictures resampled
ATTACHED = {"embed": 1, "faststyle": 2}  # files that come beside arrays, record and pictures


@dataclass
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What is on stdout, which has to be JSON without NaN and infinities."""
        return json.loads(self.out, parse_constant=pytest.fail)


class Shell:
    """Runs commands in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *words: str | Path) -> Said:
        self.capture.readouterr()
        code = run([str(word) for word in words])
        printed = self.capture.readouterr()
        return Said(code, printed.out, printed.err)

    def refused(self, code: int, *words: str | Path) -> str:
        """The command's only line, on stderr; nothing is on stdout."""
        said = self(*words)
        assert (said.code, said.out) == (code, ""), said
        assert said.err.startswith("convlens: ")
        assert said.err.endswith("\n")
        assert said.err.count("\n") == 1, said.err
        assert "Traceback" not in said.err
        return said.err


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A command line in an empty folder."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return Shell(capsys)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return tiny.tiny(root / "model")


@pytest.fixture(scope="module")
def photos(root: Path) -> list[Path]:
    return tiny.photos(root / "photos")


def commands(group: Any = cli, before: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, and every command of a group, as they are typed."""
    import click

    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            yield (*before, name)
            if isinstance(command, click.Group):
                yield from commands(command, (*before, name))


def imported(code: str) -> set[str]:
    """Modules of a new interpreter that has run ``code``."""
    script = f"{code}\nimport sys; print('\\n' + ' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def typed(name: str, model: Path, photos: Sequence[Path]) -> list[str | Path]:
    return [name, subject(name, model), *(photos if METHODS[name].images else ()), *told(name)]


def subject(name: str, model: Path) -> Path:
    """What a command is about: the model, or a recording of labelled photos that lies beside it."""
    if name not in METHODS or METHODS[name].recording != "must":
        return model
    folder = model.parent / "recording"
    if not folder.exists():
        for label in ("one", "other"):
            tiny.photos(model.parent / "labelled" / label, 3)
        opened = convlens.load(model, threads=1)
        source = open_source([str(model.parent / "labelled")], opened.source, opened.card)
        recorded(opened, source, folder, plan_of(opened))
    return folder


def told(name: str) -> list[str]:
    """The quick settings of a method that searches, as options; its own take minutes."""
    if name not in METHODS or not METHODS[name].searches:
        return []
    given = [
        (f"--{key.replace('_', '-')}", str(one))
        for key, value in METHODS[name].preview.items()
        for one in (value if isinstance(value, tuple) else (value,))
    ]
    return [word for pair in given for word in pair]


def unwarned(name: str, said: Said) -> str:
    """What a command said on stderr beside the warnings that a method is known for."""
    lines = said.err.splitlines(keepends=True)
    return "".join(x for x in lines if name not in WARNED or not x.startswith("convlens: warning: "))


def few(name: str, photos: Sequence[Path]) -> Sequence[Path]:
    """One photo, and two for what compares them."""
    return photos[: 2 if name in METHODS and METHODS[name].together else 1]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Help


def test_help_lists_every_job_and_method(shell: Shell) -> None:
    said = shell("--help")
    assert (said.code, said.err) == (FINE, "")
    listed = [line.split()[0] for line in said.out.splitlines() if line.startswith("  ") and line.split()]
    for name, *_rest in commands():
        assert name in listed
    for method in METHODS.values():
        assert method.summary in " ".join(said.out.split())
    for code in range(5):
        assert f"{code} " in said.out.split("Exit codes:")[1]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(words: tuple[str, ...], flag: str, shell: Shell) -> None:
    said = shell(*words, flag)
    assert (said.code, said.err) == (FINE, "")
    assert said.out.startswith(f"Usage: convlens {' '.join(words)} ")
    assert "``" not in said.out
    method = METHODS.get(words[0])
    for name, field in method.Parameters.model_fields.items() if method else ():
        asked = method is not None and name == method.asks
        assert (f"[{name.upper()}]..." if asked else f"--{name.replace('_', '-')}") in said.out
        assert " ".join((field.description or "").split()) in " ".join(said.out.split())


def test_without_a_command_the_help_is_shown(shell: Shell) -> None:
    said = shell()
    assert said.code == USAGE
    assert "Usage: convlens" in said.err + said.out


def test_the_version(shell: Shell) -> None:
    said = shell("--version")
    assert (said.code, said.out) == (FINE, f"convlens, version {convlens.__version__}\n")


def test_help_needs_no_executor() -> None:
    found = imported("from convlens.cli.app import run; assert run(['--help']) == 0")
    assert not found & {"torch", "onnxruntime", "onnx", "onnx_ir", "PIL", "jinja2", "rich", "cmcrameri"}


def test_layers_needs_no_executor(model: Path) -> None:
    found = imported(f"from convlens.cli.app import run; assert run(['layers', {str(model)!r}]) == 0")
    assert "onnx" in found
    assert not found & {"torch", "onnxruntime", "PIL", "jinja2"}


def test_the_installed_command() -> None:
    program = Path(sys.executable).with_name("convlens")
    if not program.exists():
        pytest.skip("the package is not installed")
    done = subprocess.run([program, "oclusion"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr == "convlens: no command 'oclusion'; nearest: 'occlusion'\n"


# Jobs


def test_layers_as_table_and_as_json(shell: Shell, model: Path) -> None:
    said = shell("layers", model)
    head, *lines = said.out.splitlines()
    rows = lines[: lines.index("")]
    contents = shell("layers", model, "--json").json
    records = contents["layers"]
    assert said.code == FINE
    assert contents["input"]["kind"] == "photo"
    assert contents["input"]["words"] in said.out
    assert (contents["batch"], contents["changes"], contents["bound"]) == ({"fixed": None, "why": ""}, [], {})
    assert contents["parameters"] == sum(record["parameters"] for record in records)
    assert contents["macs"] == sum(record["macs"] for record in records)
    assert head.split() == ["alias", "op", "kind", "shape", "parameters", "MACs", "field", "stride", "offset"]
    assert len(rows) == len(records) == 8
    for row, record in zip(rows, records, strict=True):
        for key in ("alias", "op", "kind"):
            assert record[key] in row.split()
        if record["parameters"]:
            assert f"{record['parameters']:,}" in row.split()
    by_name = {record["name"]: record for record in records}
    side = tiny.SIDE
    assert by_name["stem"]["parameters"] == 8 * 3 * 9 + 8
    assert by_name["stem"]["macs"] == 8 * 3 * 9 * side * side
    assert by_name["body"]["macs"] == 12 * 8 * 9 * (side // 2) ** 2
    # a 3 x 3 window, doubled by the pool to 4 x 4 at every second pixel, widened by two units of 2 pixels
    assert by_name["body"]["field"]["size"] == [8, 8]
    assert by_name["body"]["field"]["stride"] == [2, 2]
    parameters = 8 * 3 * 9 + 8 + 12 * 8 * 9 + 12 + 5 * 12 + 5
    macs = 8 * 3 * 9 * side**2 + 12 * 8 * 9 * (side // 2) ** 2 + 5 * 12
    assert lines[-1].startswith(f"Tiny: 8 layers, {parameters:,} parameters")
    assert f"{macs:,}" in lines[-1]


def test_layers_of_a_model_of_any_size(shell: Shell, root: Path) -> None:
    import onnx

    proto = tiny.network()
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    del proto.graph.value_info[:]
    path = root / "open.onnx"
    onnx.save(proto, path)
    assert "give --size" in shell("layers", path).out
    macs = 8 * 27 * 64**2 + 12 * 72 * 32**2 + 60
    assert f"{macs:,}" in shell("layers", path, "--size", "64").out.splitlines()[-1]


def test_verify_passes(shell: Shell, model: Path) -> None:
    said = shell("verify", model)
    assert (said.code, said.err) == (FINE, "")
    assert "agree at all 8 values" in said.out
    every = shell("verify", model, "--all")
    for value in ("stem", "edges", "smaller", "body", "parts", "mean", "flat", "scores"):
        assert any(line.startswith(value) and " ok" in line for line in every.out.splitlines())
    record = shell("verify", model, "--json").json
    assert (record["passed"], record["values"], record["first_failure"]) == (True, 8, None)
    assert {check["value"] for check in record["checks"]} >= {"stem", "scores"}


@pytest.mark.parametrize("fault", ["value", "shape"])
def test_verify_finds_a_wrong_converter(
    fault: str, shell: Shell, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"value": lambda x: x.clamp(min=0) + 0.01 * x, "shape": lambda x: x.clamp(min=0)[:, :, 1:]}
    ops.known()
    relu = replace(ops.table._TABLE["Relu"], torch=lambda _node: wrong[fault])
    monkeypatch.setitem(ops.table._TABLE, "Relu", relu)
    said = shell("verify", model)
    assert (said.code, said.err) == (FINDING, "")
    assert "disagree from value 'edges' (Relu) on" in said.out
    assert "FAILS" in said.out
    found = shell("verify", model, "--json")
    assert found.code == FINDING
    assert (found.json["passed"], found.json["first_failure"]) == (False, "edges")


def test_models_lists_what_comes_along(shell: Shell, bundled: Path) -> None:
    said = shell("models")
    assert (said.code, said.err) == (FINE, "")
    rows = {row["name"]: row for row in shell("models", "--json").json}
    for card in bundled.glob("*/card.toml"):
        assert rows[card.parent.name]["state"] == "bundled"
        assert Path(rows[card.parent.name]["path"]).is_file()
        assert any(line.startswith(card.parent.name) for line in said.out.splitlines())


def test_an_unknown_recipe(shell: Shell) -> None:
    assert "vgg16" in shell.refused(USAGE, "models", "fetch", "vgg15")


# Methods


@pytest.mark.parametrize("name", METHODS)
def test_a_method_writes_its_files(name: str, shell: Shell, model: Path, photos: list[Path]) -> None:
    said = shell(*typed(name, model, photos), "-o", "out")
    assert (said.code, unwarned(name, said)) == (FINE, "")
    written = {path.name for path in Path("out").iterdir()}
    assert {f"{name}.npz", f"{name}.json"} <= written
    pictures = {file for file in written if file.endswith(".png")}
    assert len(written) == len(pictures) + 2 + ATTACHED.get(name, 0)
    assert bool(pictures) == (name in DRAWN)
    drawn = {picture.index for picture in Result.load("out", name).pictures}
    if drawn - {None}:
        for photo in photos:
            assert any(photo.stem in picture for picture in pictures)
    assert said.out.endswith(f"\n{len(written)} files in out\n")
    record = json.loads(Path("out", f"{name}.json").read_text(encoding="utf-8"))
    with np.load(Path("out", f"{name}.npz")) as stored:
        for key, about in record["arrays"].items():
            assert list(stored[key].shape) == about["shape"]
    for file in pictures:
        with Image.open(Path("out", file)) as picture:
            picture.verify()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_prints_json(name: str, shell: Shell, model: Path, photos: list[Path]) -> None:
    said = shell(*typed(name, model, photos), "--json")
    assert (said.code, unwarned(name, said)) == (FINE, "")
    record = said.json
    assert record["method"] == name
    assert record["rows"]
    assert (record["skipped"], record["files"]) == ([], [])
    assert record["images"] == ([photo.name for photo in photos] if METHODS[name].images else [])
    assert list(Path().iterdir()) == []
    both = shell(*typed(name, model, photos), "--json", "-o", "out").json
    assert sorted(both["files"]) == sorted(str(path) for path in Path("out").iterdir())


@pytest.mark.parametrize("name", METHODS)
def test_the_folder_by_default(name: str, shell: Shell, model: Path, photos: list[Path]) -> None:
    assert shell(*typed(name, model, few(name, photos))).code == FINE
    assert [path.name for path in Path().iterdir()] == ([f"convlens-{name}"] if METHODS[name].saves else [])


@pytest.mark.parametrize("name", [*METHODS, "audit"])
def test_a_folder_with_something_in_it_stays_as_it_is(
    name: str, shell: Shell, model: Path, photos: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / "results").mkdir(parents=True)
    (folder / "diary.txt").write_text("day one")
    (folder / "results" / "thesis.npz").write_bytes(b"years of work")
    before = content(folder)
    words = typed(name, model, few(name, photos)) if name in METHODS else [name, model, photos[0]]
    assert "not empty" in shell.refused(USAGE, *words, "-o", folder)
    assert content(folder) == before
    assert shell(*words, "-o", folder, "--overwrite").code == FINE
    after = content(folder)
    assert after.items() > before.items()
    shown = f"{name}.json" if name in METHODS else "index.html"
    assert shown in after
    again = shell(*words, "-o", folder, "--overwrite")
    assert again.code == FINE
    assert content(folder).keys() == after.keys()


@pytest.mark.parametrize("name", [*METHODS, "audit"])
def test_a_file_is_no_folder(
    name: str, shell: Shell, model: Path, photos: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "taken"
    path.write_text("something")
    words = typed(name, model, few(name, photos)) if name in METHODS else [name, model, photos[0]]
    assert "is a file" in shell.refused(USAGE, *words, "-o", path, "--overwrite")
    assert path.read_text() == "something"


def test_a_target_by_label_index_and_channel(shell: Shell, model: Path, photos: list[Path]) -> None:
    first = ["saliency", model, photos[0], "--json", "-t"]
    by_label, by_index = shell(*first, "Green Frog").json, shell(*first, "2").json
    assert by_label["rows"] == by_index["rows"]
    assert by_label["rows"][0]["target"] == "class 2 (green frog)"
    assert shell(*first, "parts:3").json["rows"][0]["target"] == "channel 3 of parts"


# What a card file and the command line say is the same


def test_settings_equal_a_card(shell: Shell, root: Path, photos: list[Path]) -> None:
    card = (
        '[input]\nlayout = "NCHW"\nchannels = "BGR"\nsize = [32, 32]\nrange = [0, 255]\n'
        'mean = [100, 110, 120]\nstd = [50, 60, 70]\nresize = "pad"\ninterpolation = "nearest"\n'
        '[output]\nlabels = "labels.json"\n'
    )
    with_card = tiny.tiny(root / "with", card)
    without = tiny.tiny(root / "without", None)
    names = root / "names.txt"
    names.write_text("\n".join(tiny.LABELS), encoding="utf-8")
    settings = [
        *("--layout", "NCHW", "--channels", "BGR", "--size", "32", "--range", "0,255"),
        *("--mean", "100,110,120", "--std", "50,60,70"),
        *("--resize", "pad", "--interpolation", "nearest", "--labels", str(names)),
    ]
    for name, method in METHODS.items():
        if method.recording == "must":  # whose card is the recording's
            continue
        images = [*(photos[:2] if method.images else []), *told(name)]
        assert shell(name, with_card, *images, "-o", f"card-{name}").code == FINE
        assert shell(name, without, *images, *settings, "-o", f"words-{name}").code == FINE
        others = ["words"]
        if name in ("occlusion", "predict", "saliency"):  # the file is read in one place for all
            card_file = with_card.parent / "card.toml"
            assert shell(name, without, *images, "--card", card_file, "-o", f"file-{name}").code == FINE
            others.append("file")
        with np.load(f"card-{name}/{name}.npz") as wanted:
            for other in others:
                with np.load(f"{other}-{name}/{name}.npz") as found:
                    assert found.files == wanted.files
                    for key in wanted.files:
                        assert found[key].tobytes() == wanted[key].tobytes(), (name, other, key)
        rows = [json.loads(Path(f"{w}-{name}/{name}.json").read_text())["rows"] for w in ("card", "words")]
        assert rows[0] == rows[1]


def test_a_setting_goes_over_the_card(shell: Shell, root: Path, photos: list[Path]) -> None:
    """One number for all channels, and channels last told to a model that has its own idea of them."""
    path = tiny.tiny(root / "last", None, nhwc=True)
    said = shell(
        "predict", path, photos[0], "--mean", "0.5", "--std", "0.25", "--layout", "NHWC", "-o", "one"
    )
    assert said.code == FINE
    numbers = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--size", "32x32"]
    assert shell("predict", path, photos[0], *numbers, "-o", "three").code == FINE
    with np.load("one/predict.npz") as one, np.load("three/predict.npz") as three:
        assert one["score"].tobytes() == three["score"].tobytes()


def test_photos_in_any_form(shell: Shell, model: Path, photos: list[Path], tmp_path: Path) -> None:
    """Transparency, sixteen bits, a palette and a camera held upright change nothing."""
    with Image.open(photos[0]) as file:
        plain = file.convert("RGB")
    grey = plain.convert("L")
    forms: dict[str, Image.Image] = {
        "plain": plain,
        "alpha": plain.convert("RGBA"),
        "palette": plain.quantize(256, dither=Image.Dither.NONE),
        "grey": grey,
        "deep": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
    }
    paths = {name: tmp_path / f"{name}.png" for name in forms}
    for name, picture in forms.items():
        picture.save(paths[name])
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
    paths["turned"] = tmp_path / "turned.png"
    turned.save(paths["turned"], exif=exif)
    record = shell("predict", model, *paths.values(), "--json").json
    first = {row["image"]: row["label"] for row in record["rows"] if row["rank"] == 1}
    for name in ("alpha", "palette", "turned"):
        assert first[f"{name}.png"] == first["plain.png"]
    assert first["deep.png"] == first["grey.png"]
    by_image = {image: [r["probability"] for r in record["rows"] if r["image"] == image] for image in first}
    assert by_image["alpha.png"] == by_image["turned.png"] == by_image["plain.png"]
    assert by_image["deep.png"] == by_image["grey.png"]


# What cannot be done


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict-all"], "nearest: 'predict'"),
        (["saliancy"], "'saliency'"),
        (["xyzzy"], "`convlens --help` lists all"),
        (["saliency", "{model}", "{photo}", "-t", "blue wale"], "nearest: 'blue whale'"),
        (["saliency", "{model}", "{photo}", "-t", "partz:1"], "nearest: 'parts'"),
        (["saliency", "{model}", "{photo}", "-t", "parts:12"], "channels 0 to 11"),
        (["saliency", "{model}", "{photo}", "-t", "5"], "classes 0 to 4"),
        (["activations", "{model}", "{photo}", "--layer", "smallr"], "nearest: 'smaller'"),
        (["filters", "{model}", "--layer", "edges"], "'stem'"),
        (["predict", "{model}", "{photo}", "--tpo", "3"], "--top"),
        (["predict", "{model}", "{photo}", "--top", "0"], "1<=x"),
        (["predict", "{model}", "{photo}", "--top", "many"], "many"),
        (["saliency", "{model}", "{photo}", "--rule", "relu"], "guided"),
        (["predict", "{model}", "{photo}", "--mean", "a,b"], "numbers separated by commas"),
        (["predict", "{model}", "{photo}", "--range", "1"], "expected 2 numbers"),
        (["predict", "{model}", "{photo}", "--range", "255,0"], "smaller number first"),
        (["predict", "{model}", "{photo}", "--size", "64"], "fixed at 32 x 32"),
        (["predict", "{model}", "{photo}", "--crop", "7"], "crop is 7.0"),
        (["predict", "{model}", "{photo}", "--labels", "none.txt"], "none.txt"),
        (["predict", "{model}", "{photo}", "--card", "none.toml"], "none.toml"),
        (["predict", "{model}"], "IMAGES"),
        (["predict", "{model}", "nowhere.png"], "nowhere.png: no such file"),
        (["predict", "{model}", "{photo}", "nowhere.png"], "nowhere.png: no such file"),
        (["predict", "{model}", "."], "a folder without pictures"),
        (["audit", "{model}", "nowhere.png", "-o", "out"], "nowhere.png: no such file"),
        (["audit", "{model}", "{photo}"], "--output"),
        (["predict", "efficientnet-lite", "{photo}"], "nearest: 'efficientnet-lite0'"),
        (["occlusion", "{model}", "{photo}", "--patch", "99"], "patch is 99; expected at most 32"),
        (["models", "fetsh"], "fetsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_costs_nothing(
    words: list[str], expected: str, shell: Shell, model: Path, photos: list[Path]
) -> None:
    said = shell.refused(USAGE, *(word.format(model=model, photo=photos[0]) for word in words))
    assert expected in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.images])
def test_a_picture_that_cannot_be_read_among_others(
    name: str, shell: Shell, model: Path, photos: list[Path], tmp_path: Path
) -> None:
    bad, about = tiny.no_picture(tmp_path / "bad.png"), subject(name, model)
    said = shell(name, about, photos[0], bad, photos[1], *told(name), "-o", "out")
    assert said.code == FAILED
    assert unwarned(name, said) == f"convlens: skipped: {bad}: not a picture that can be decoded\n"
    alone = shell(name, about, photos[0], photos[1], *told(name), "-o", "alone")
    assert alone.code == FINE
    assert content(Path("out")).keys() == content(Path("alone")).keys()
    with np.load(f"out/{name}.npz") as found, np.load(f"alone/{name}.npz") as wanted:
        for key in wanted.files:
            np.testing.assert_array_equal(found[key], wanted[key])
    record = shell(name, about, bad, *few(name, photos), *told(name), "--json")
    assert record.code == FAILED
    assert record.json["images"] == [photo.name for photo in few(name, photos)]
    assert [Path(entry["image"]).name for entry in record.json["skipped"]] == ["bad.png"]


@pytest.mark.parametrize("name", [*(name for name, method in METHODS.items() if method.images), "audit"])
def test_no_picture_that_can_be_read(name: str, shell: Shell, model: Path, tmp_path: Path) -> None:
    bad = [tiny.no_picture(tmp_path / f"bad{number}.png") for number in range(2)]
    said = shell(name, subject(name, model), *bad, "-o", "out")
    assert (said.code, said.out) == (FAILED, "")
    assert (
        "none of the 2 inputs could be used and nothing was written; the first: " in said.err.splitlines()[-1]
    )
    assert all(line.startswith("convlens: ") for line in said.err.splitlines())
    assert list(Path().iterdir()) == []


def test_what_is_no_model(shell: Shell, model: Path, photos: list[Path], tmp_path: Path) -> None:
    whole = model.read_bytes()
    broken = {
        "text.onnx": b"hello, I am a text file and no model at all",
        "empty.onnx": b"",
        "half.onnx": whole[: len(whole) // 2],
        "nearly.onnx": whole[:-3],
        "picture.onnx": photos[0].read_bytes(),
        "noise.onnx": np.random.default_rng(0).bytes(500),
    }
    for file, data in broken.items():
        path = tmp_path / file
        path.write_bytes(data)
        for words in (["layers", path], ["verify", path], ["predict", path, photos[0]], ["filters", path]):
            assert file in shell.refused(MODEL, *words)
    assert "gone.onnx" in shell.refused(MODEL, "layers", tmp_path / "gone.onnx")
    assert list(Path().iterdir()) == []


def test_a_model_of_tokens(shell: Shell, photos: list[Path], tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Gather", ["table", "photo"], ["y"])]
    table = {"table": np.random.default_rng(0).normal(size=(50, 8))}
    path = tmp_path / "tokens.onnx"
    onnx.save(tiny.model_of(nodes, ["N", 16], "y", table, TensorProto.INT64), path)
    assert "N x 16 int64, is taken as a sequence of tokens" in shell("layers", path).out
    for words in (["predict"], ["saliency"], ["audit", "-o", "out"]):
        said = shell.refused(FAILED, words[0], path, photos[0], *words[1:])
        assert "takes no photo but a sequence of tokens; give .txt or .npy files" in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [*(name for name, method in METHODS.items() if method.images and method.recording != "must"), "audit"],
)
def test_without_a_card_it_says_what_to_add(name: str, shell: Shell, root: Path, photos: list[Path]) -> None:
    path = tiny.tiny(root / "bare", None)
    said = shell.refused(USAGE, name, path, photos[0], "-o", "out")
    for word in ("card.toml", "[input]", "mean = [", "std = [", "--mean", "--std"):
        assert word in said
    assert list(Path().iterdir()) == []


def test_an_error_nobody_thought_of(
    shell: Shell, model: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any, **_more: Any) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(Model, "run", broken)
    said = shell.refused(FAILED, "predict", model, photos[0])
    assert "ZeroDivisionError: first line second line" in said
    assert "CONVLENS_DEBUG=1" in said
    monkeypatch.setenv("CONVLENS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["predict", str(model), str(photos[0])])


def test_stopped_by_the_user(
    shell: Shell, model: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_given: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(method_commands, "_run", stopped)
    said = shell("predict", model, photos[0])
    assert (said.code, said.out) == (130, "")
    assert "stopped" in said.err


def failed(_model: Model, _seed: int = 0) -> Certificate:
    good = Check("stem", "Conv", "random input", 1e-7, 1e-7, True)
    return Certificate((good, Check("edges", "Relu", "random input", 0.5, 0.25, False)), ("random input",))


@pytest.mark.parametrize("name", METHODS)
def test_an_uncertified_model_runs_only_on_demand(
    name: str, shell: Shell, model: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "certificate", failed)
    said = shell.refused(MODEL, *typed(name, model, few(name, photos)), "-o", "out")
    assert "disagree from value 'edges' (Relu)" in said
    assert "--allow-uncertified" in said
    assert list(Path().iterdir()) == []
    run_all_the_same = shell(*typed(name, model, few(name, photos)), "-o", "out", "--allow-uncertified")
    assert run_all_the_same.code == FINE
    assert "uncertified" in run_all_the_same.out
    record = shell(*typed(name, model, few(name, photos)), "--json", "--allow-uncertified").json
    assert record["how"]["certificate"]["passed"] is False
    assert record["how"]["allow_uncertified"] is True


# The audit as a command


def test_the_audit_as_a_command(shell: Shell, model: Path, photos: list[Path], tmp_path: Path) -> None:
    said = shell("audit", model, *photos, "-o", "out")
    assert (said.code, said.err) == (FINE, "")
    assert said.out.endswith(f"\nreport: {Path('out', 'index.html').resolve()}\n")
    bad = tiny.no_picture(tmp_path / "bad.png")
    other = shell("audit", model, photos[0], bad, "-o", "more", "--json")
    assert other.code == FAILED
    assert other.err == f"convlens: skipped: {bad}: not a picture that can be decoded\n"
    assert other.json == json.loads(Path("more", "audit.json").read_text(encoding="utf-8"))
    for finding in json.loads(Path("out", "audit.json").read_text(encoding="utf-8"))["findings"]:
        assert f"- {finding['text']} ({finding['evidence']})" in said.out.splitlines()
