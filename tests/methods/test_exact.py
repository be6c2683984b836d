"""The parameter ``exact``: the same words in every method that has it, the same numbers whatever it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convlens
from convlens import registry
from convlens.errors import ParameterError, UnsupportedError
from convlens.model import Model
from reference import nets

CLOSE = 1e-5
"""Of an array's largest magnitude: float32, where another size takes another path through the kernels."""

HAVING = [name for name, method in registry.methods().items() if "exact" in method.Parameters.model_fields]
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}
SHAPE = (3, 22, 17)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return convlens.load(
        nets.saved(nets.classifier(0, SHAPE).onnx(), tmp_path_factory.mktemp("models")), **CARD
    )


def run(model: Model, name: str, **options: Any) -> convlens.Result:
    return model.run(name, nets.pictures(0, 2, SHAPE, np.float32), **options)


def test_methods_that_change_a_part_of_an_input_have_it() -> None:
    assert HAVING == ["correspondence", "occlusion"]


def test_it_is_the_same_everywhere() -> None:
    told = [registry.method(name).schema()["properties"]["exact"] for name in HAVING]
    assert all(each == told[0] for each in told)
    assert (told[0]["enum"], told[0]["default"]) == (["auto", "incremental", "dense"], "auto")


@pytest.mark.parametrize("fill", ["grey", "mean", "blur", "inpaint", "17"])
@pytest.mark.parametrize("name", HAVING)
def test_windows_give_what_whole_inputs_give(name: str, fill: str, model: Model) -> None:
    found = {}
    for exact in ("dense", "incremental", "auto"):
        result = found[exact] = run(model, name, exact=exact, fill=fill)
        ways = [each["computed"] for each in result.hints["each"]]
        assert len(ways) == 2
        if exact == "dense":
            assert ways == ["dense: asked for"] * 2
        elif exact == "incremental":
            assert all(way.startswith("incremental: ") for way in ways)
            assert all("computed whole too differ by" in way for way in ways)
        else:
            assert all(way.startswith(("dense: ", "incremental: ")) for way in ways)
    for exact in ("incremental", "auto"):
        for key, array in found["dense"].arrays.items():
            scale = float(np.abs(array).max(initial=0.0)) if array.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(
                found[exact].arrays[key], array, rtol=0, atol=CLOSE * scale, err_msg=f"{exact}: {key}"
            )


@pytest.mark.parametrize("name", HAVING)
def test_another_word_is_refused(name: str, model: Model) -> None:
    with pytest.raises(ParameterError, match="exact is 'exactly'"):
        run(model, name, exact="exactly")


@pytest.mark.parametrize("name", HAVING)
def test_a_graph_without_windows_is_refused_when_they_are_asked_for(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["dense"]),
        helper.make_node("Relu", ["dense"], ["features"]),
        helper.make_node("MatMul", ["features", "v"], ["out"]),
    ]
    stored = {
        "w": rng.normal(size=(3 * 22 * 17, 5)).astype(np.float32),
        "v": rng.normal(size=(5, 4)).astype(np.float32),
    }
    loaded = convlens.load(
        nets.saved(nets.model_of(nodes, {"input": ["N", *SHAPE]}, ["out"], stored), tmp_path), **CARD
    )
    with pytest.raises(UnsupportedError, match=r"nothing can be computed in windows: .*--exact auto"):
        run(loaded, name, exact="incremental")
    result = run(loaded, name)
    assert all(each["computed"].startswith("dense: ") for each in result.hints["each"])
