"""Converters of other packages, and that no operator of ONNX is missing without a reason."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import onnx
import pytest
from onnx import helper

from convlens.errors import UnsupportedError
from convlens.ops import known, table
from ops.models import check_gradient, compare, model_of, numbers, torch_graph

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a module and announce it as converters, as if its package were installed."""
    known()
    before, modules = dict(table._TABLE), set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    announced: list[EntryPoint] = []
    monkeypatch.setattr(table, "entry_points", lambda group: announced if group == "convlens.ops" else [])

    def write(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        announced.append(EntryPoint(name, name, "convlens.ops"))
        table._load.cache_clear()

    yield write
    for name in sys.modules.keys() - modules:
        del sys.modules[name]
    table._TABLE.clear()
    table._TABLE.update(before)


def distances(domain: str = "com.microsoft", metric: str = "euclidean") -> onnx.ModelProto:
    """A model with an operator that the table does not have."""
    node = helper.make_node("CDist", ["x", "rows"], ["y"], domain=domain, metric=metric)
    return model_of([node], FEEDS, ["y"], {"rows": numbers(5, 3)})


FEEDS = {"x": numbers(4, 3)}


def test_the_converter_of_the_documentation_works(install: Install, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    install("converter_of_the_guide", code)
    compare(distances(), FEEDS, tmp_path)
    check_gradient(distances(), FEEDS, tmp_path)
    with pytest.raises(UnsupportedError, match=r"CDist.*metric 'sqeuclidean'"):
        torch_graph(distances(metric="sqeuclidean"), tmp_path)


@pytest.mark.usefixtures("install")
def test_an_unknown_operator_is_refused_by_domain_and_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"operator acme\.vision\.CDist;.*'convlens\.ops'") as caught:
        torch_graph(distances("acme.vision"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        (
            "from convlens.ops import operator\noperator('Relu', kind='rectifier')(None)",
            "operator Relu is in",
        ),
        (
            "from convlens.ops import operator\n"
            "operator('acme.Op', kind='math')(None)\n"
            "raise OSError('no key')",
            "no key",
        ),
    ],
)
def test_a_broken_package_is_named(install: Install, code: str, why: str) -> None:
    install("broken_converters", code)
    for _ in range(2):  # the second attempt says the same, not what the first one left behind
        with pytest.raises(UnsupportedError, match=f"'broken_converters'.*{why}") as caught:
            known()
        assert "\n" not in str(caught.value)
    assert "acme.Op" not in table._TABLE


TRAINING = "a loss, for training only"
RANDOM = "random numbers: two runs of the model differ, so nothing can be explained or certified"
TEXT = "works on text"
NOT_COVERED = {
    "NegativeLogLikelihoodLoss": TRAINING,
    "SoftmaxCrossEntropyLoss": TRAINING,
    "Bernoulli": RANDOM,
    "Multinomial": RANDOM,
    "RandomNormal": RANDOM,
    "RandomNormalLike": RANDOM,
    "RandomUniform": RANDOM,
    "RandomUniformLike": RANDOM,
    "RegexFullMatch": TEXT,
    "StringConcat": TEXT,
    "StringNormalizer": TEXT,
    "StringSplit": TEXT,
    "TfIdfVectorizer": TEXT,
    "ImageDecoder": "decodes a file; the picture that it gives is what can be explained",
}


def test_no_operator_is_missing_without_a_reason() -> None:
    """The table and the list above are together what the installed ONNX knows, and do not overlap."""
    standard = {
        schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == "" and not schema.deprecated
    }
    covered = {entry.name for entry in known()}
    assert sorted(standard - covered - NOT_COVERED.keys()) == []
    assert sorted(covered & NOT_COVERED.keys()) == []
    assert sorted(NOT_COVERED.keys() - standard) == []


def test_no_name_in_the_table_is_a_slip() -> None:
    """Every name without a domain is ONNX's, but for the one that onnxruntime writes without one."""
    every = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    names = {entry.name for entry in known() if "." not in entry.name}
    assert names - every == {"SimplifiedLayerNormalization"}
