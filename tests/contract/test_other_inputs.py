"""Every registered method on every kind of input and output there is, or one clear line why not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import convlens
from convlens import registry
from convlens.attribution.maps import heat
from convlens.errors import ConvLensError, TargetError
from convlens.model import Model
from convlens.pictures import KINDS
from convlens.results import Result
from reference.nets import saved
from reference.others import OTHERS, Other
from reference.recorded import recorded

METHODS = registry.methods()
EACH = pytest.mark.parametrize("which", OTHERS)
ON_EACH = [(name, which) for which in OTHERS for name in METHODS]
CLOSE = 1e-5
"""Of an array's largest magnitude: float32, where another batch takes another path through the kernels."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("others")


@cache
def opened(which: str, root: Path) -> Model:
    other = OTHERS[which]
    path = saved(other.make(), root, which.replace(" ", "-").replace(",", ""))
    return convlens.load(path, device="cpu", threads=1, **other.settings)


def run(model: Model, name: str, other: Other, count: int = 2, batch_size: int = 8) -> Result:
    method = METHODS[name]
    images = other.arrays(count) if method.images else None
    target = other.target if method.target else None
    settings = dict(method.preview)
    if method.recording == "must":
        settings["recording"] = recorded(model, other.arrays(6), model.path.parent / "recordings")
    return model.run(name, images, target, batch_size=batch_size, **settings)


@EACH
def test_it_is_certified(which: str, root: Path) -> None:
    assert opened(which, root).certificate().passed


@pytest.mark.parametrize(("name", "which"), ON_EACH)
def test_it_runs_or_says_why_not(name: str, which: str, root: Path, tmp_path: Path) -> None:
    other, model, method = OTHERS[which], opened(which, root), METHODS[name]
    if name in other.refused:
        with pytest.raises(ConvLensError) as caught:
            run(model, name, other)
        assert other.refused[name] in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    result, single = run(model, name, other), run(model, name, other, batch_size=1)
    for key, array in result.arrays.items():
        scale = float(np.abs(array).max(initial=0.0))
        np.testing.assert_allclose(single.arrays[key], array, rtol=0, atol=CLOSE * scale, err_msg=key)
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    assert result.units.keys() == result.arrays.keys()
    if method.attributes:
        extent = [other.arrays(1).shape[axis] for axis in model.source.axes]
        assert heat(result, model.source).shape == (2, *extent)
    for finding in method.findings(result):
        assert finding.text.endswith(".")
    result.save(tmp_path)
    back = Result.load(tmp_path, name)
    for picture, again in zip(result.pictures, back.pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(again.image))
    if KINDS[result.kind] is None:
        assert result.rows
        return
    assert result.pictures
    for picture in result.pictures:
        assert len(picture.alt) > 20
        assert picture.image.mode == "RGB"
        assert max(picture.image.size) <= 2048
        assert min(picture.composed().size) > 20


@EACH
def test_without_a_target_the_class_or_a_target_that_works(which: str, root: Path) -> None:
    """A model without class scores names targets; each of them can be typed as it stands."""
    other, model = OTHERS[which], opened(which, root)
    if other.target is None:
        assert model.classes is not None
        return
    with pytest.raises(TargetError, match=r"no class scores .*e\.g\. --target") as caught:
        model.run("saliency", other.arrays(1))
    text = str(caught.value).split("--target ")[1]
    for typed in text.split(" or "):
        result = model.run("saliency", other.arrays(2), typed)
        assert result.arrays["score"].shape == (2,)
        assert np.isfinite(result.array).all()


@EACH
def test_the_plan_of_the_audit_runs(which: str, root: Path) -> None:
    other, model = OTHERS[which], opened(which, root)
    steps = [(method, step) for method in METHODS.values() for step in method.plan(model)]
    assert steps
    for method, step in steps:
        if step.parameters:  # without, it is the run of the test above
            images = other.arrays(1) if method.images else None
            model.run(method.name, images, **{**method.preview, **step.parameters})
