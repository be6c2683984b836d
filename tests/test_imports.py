"""What importing and loading pull in: heavy packages only when they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convlens
from graph.nets import classifier, put

HEAVY = {"torch", "onnxruntime", "onnx", "onnx_ir", "numpy", "PIL", "pydantic", "jinja2", "rich", "captum"}


def imported(code: str) -> set[str]:
    """The heavy packages that are there after running ``code`` in a new interpreter."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return HEAVY & set(done.stdout.split())


def test_the_package_itself_is_light() -> None:
    assert imported("import convlens; convlens.__version__; dir(convlens)") == set()


def test_listing_methods_needs_no_numbers() -> None:
    """As ``convlens --help`` does."""
    assert imported("from convlens import registry; registry.methods()") == {"pydantic"}


def test_errors_are_light() -> None:
    assert imported("import convlens.errors") == set()


def test_layers_need_no_executor(tmp_path: Path) -> None:
    path = put(classifier(), tmp_path)
    found = imported(
        f"import convlens; m = convlens.load({str(path)!r}); assert len(m.layers) == 5; m.classes"
    )
    assert not found & {"torch", "onnxruntime", "PIL", "jinja2", "rich", "captum"}


def test_predicted_values_need_no_torch(tmp_path: Path) -> None:
    path = put(classifier(), tmp_path)
    code = (
        f"import convlens, numpy; m = convlens.load({str(path)!r}); "
        "m.probabilities(m.images(numpy.zeros((1, 3, 8, 8), numpy.float32)))"
    )
    found = imported(code)
    assert "onnxruntime" in found
    assert "torch" not in found


@pytest.mark.parametrize("name", convlens.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(convlens, name))
    assert name in dir(convlens)


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = convlens.nothing
