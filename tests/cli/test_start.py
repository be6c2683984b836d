"""What starting costs: which modules a command imports, in interpreters of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest

from cli import tiny
from convlens import listing, registry

METHODS = registry.methods()
EXECUTORS = {"torch", "torchvision", "onnx2torch", "onnxruntime", "captum", "sklearn", "matplotlib"}


def after(*commands: Sequence[str | Path], **environment: str) -> list[set[str]]:
    """The modules that are there after each command, run one after the other in one new interpreter."""
    lines = [[str(word) for word in words] for words in commands]
    script = dedent(
        f"""
        import io, json, sys
        from contextlib import redirect_stdout
        from convlens.cli.app import run
        found = []
        for words in json.loads({json.dumps(lines)!r}):
            with redirect_stdout(io.StringIO()):
                assert run(words) == 0, words
            found.append(sorted(sys.modules))
        print(json.dumps(found))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def first_on_the_path(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def methods_in(modules: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in modules if name.startswith("convlens.methods.")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny(tmp_path_factory.mktemp("start") / "model")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return tiny.photos(tmp_path_factory.mktemp("photos"), 2)


# Lists and help


def test_every_summary_is_read_from_its_file() -> None:
    read = {name: listing._read(spec) for name, spec in listing._own().items()}
    own = {n: m.summary for n, m in METHODS.items() if type(m).__module__.startswith("convlens.methods.")}
    assert read == own
    assert listing.summaries() == {name: method.summary for name, method in METHODS.items()}


def test_help_imports_no_method_and_no_parameters() -> None:
    (found,) = after(["--help"])
    assert methods_in(found) == set()
    assert not found & {"pydantic", "numpy", "convlens.registry", "convlens.results"}


def test_the_help_of_a_method_imports_it_alone() -> None:
    (found,) = after(["grad-cam-plus-plus", "--help"])
    assert methods_in(found) == {"grad_cam_plus_plus"}
    assert not found & {"numpy", "onnx", "convlens.cli.record", "convlens.cli.jobs"}


def test_the_help_of_a_job_imports_it_alone() -> None:
    (found,) = after(["record", "--help"])
    assert not found & {"pydantic", "numpy", "convlens.cli.jobs", "convlens.cli.methods"}


def test_a_summary_that_is_no_plain_line_comes_from_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_read", lambda _spec: "")
    monkeypatch.setattr(listing, "REGISTERED", {})
    monkeypatch.setattr(listing, "find", METHODS.get)
    assert listing.summaries()["predict"] == METHODS["predict"].summary


STRANGER = '''
from convlens.registry import Method, Paper, register


@register
class Stranger(Method):
    """Nothing."""

    name = "{name}"
    summary = "a method " "of another package"
    paper = Paper("Nobody 2001")
    kind = "map"

    def run(self, job):
        raise NotImplementedError
'''


@pytest.mark.parametrize("name", ["stranger", "another-name-than-announced"])
def test_methods_of_other_packages_are_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "strange_package.py").write_text(STRANGER.format(name=name))
    about = tmp_path / "strange_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[convlens.methods]\nstranger = strange_package\n")
    script = (
        "from convlens import listing, registry; from convlens.cli.app import run; "
        f"assert run(['--help']) == 0; assert run([{name!r}, '--help']) == 0; "
        f"assert registry.method({name!r}) is registry.methods()[{name!r}] is listing.find({name!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": first_on_the_path(tmp_path)},
    )
    assert "a method of another package" in done.stdout
    assert f"Usage: convlens {name} " in done.stdout


# What commands need


def test_layers_imports_no_executor_and_no_symbolic_algebra(model: Path) -> None:
    (found,) = after(["layers", model])
    assert not found & {*EXECUTORS, "sympy", "onnx_ir._symbolic_shapes", "PIL", "rich", "pandas", "scipy"}
    assert methods_in(found) == set()


def test_what_needs_no_gradients_imports_no_torch(model: Path, photos: list[Path], tmp_path: Path) -> None:
    """Every method that says so, the jobs that list, and a recording with what is asked of it.

    Only the certificate needs it, which is made once for a file and kept.
    """
    kept = str(tmp_path / "cache")
    for label in ("one", "other"):
        tiny.photos(tmp_path / "data" / label, 3)
    recording = tmp_path / "recording"
    commands: list[list[str | Path]] = [
        ["layers", model],
        ["models"],
        ["methods"],
        ["record", model, tmp_path / "data", "-o", recording],
    ]
    for name, method in METHODS.items():
        if not method.gradients:
            about = recording if method.recording == "must" else model
            quick = [
                f"--{key.replace('_', '-')}={value}"
                for key, value in method.preview.items()
                if isinstance(value, (int, float, str)) and key != "settings"
            ]
            given = photos if method.images else []
            commands.append([name, about, *given, *quick, "-o", tmp_path / name])
    after(["verify", model], CONVLENS_CACHE=kept)
    found = after(*commands, CONVLENS_CACHE=kept)
    for words, modules in zip(commands, found, strict=True):
        assert not modules & {"torch", "torchvision", "onnx2torch", "captum"}, words[0]
    assert "onnxruntime" in found[-1]


def test_nothing_imports_torchvision(model: Path, photos: list[Path], tmp_path: Path) -> None:
    """It could be imported here, and onnx2torch too."""
    for name in ("torchvision", "onnx2torch"):
        (tmp_path / f"{name}.py").touch()
    found = after(
        ["saliency", model, photos[0], "-o", tmp_path / "map"],
        ["verify", model],
        PYTHONPATH=first_on_the_path(tmp_path),
    )
    assert "torch" in found[0]
    assert not found[-1] & {"torchvision", "onnx2torch"}


def test_lengths_that_are_open_can_still_be_calculated_with() -> None:
    """onnx-ir gets sympy when it asks for it."""
    code = (
        "import sys, convlens.graph, onnx_ir as ir; assert 'sympy' not in sys.modules; "
        "n = ir.SymbolicDim('N'); assert (n + 2).value == 'N + 2'; assert (n * 3).evaluate({'N': 5}) == 15; "
        "import sympy; assert ir.SymbolicDim(sympy.Symbol('K') ** 2).value == 'K**2'; "
        "assert type(sympy.__spec__).__name__ == 'ModuleSpec'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sympy_that_is_there_is_left_alone() -> None:
    code = "import sympy, sys, convlens.graph; assert sys.modules['sympy'] is sympy; assert sympy.Symbol('a')"
    subprocess.run([sys.executable, "-c", code], check=True)
