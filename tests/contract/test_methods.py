"""What every registered method keeps to. Nothing is listed here: the table is the registry."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens import registry
from convlens.attribution.maps import heat
from convlens.errors import LayerError, ParameterError, TargetError, UncertifiedError, UsageError
from convlens.instrument.build import ACTIVE
from convlens.model import Model
from convlens.pictures import KINDS
from convlens.recording.reading import Recording
from convlens.registry import Field, Method, Paper, Parameters, register
from convlens.results import Result
from convlens.trust.certificate import Certificate, Check
from reference import nets
from reference.recorded import recorded

SINGLE = 1e-5
"""Of an array's largest magnitude: float32, where another batch takes another path through the kernels."""

DOUBLE = 1e-4
"""Of an array's largest magnitude: what float32 and float64 may differ by in a small network."""

METHODS = registry.methods()
EACH = pytest.mark.parametrize("name", METHODS)
EACH_OF_IMAGES = pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.images])
EACH_BY_IMAGE = pytest.mark.parametrize(
    "name", [name for name, m in METHODS.items() if m.images and not m.together]
)
EACH_OF_TARGETS = pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.target])
SHAPE = (3, 22, 17)
CARD: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "threads": 1}
SETTINGS: dict[str, Callable[[], Any]] = {
    "free": lambda: nets.classifier(0, SHAPE).onnx(),
    "fixed": lambda: nets.classifier(0, SHAPE).onnx(batch=2),
    "channels-last": lambda: nets.classifier(0, SHAPE).onnx(nhwc=True),
    "softmax": lambda: nets.classifier(0, SHAPE).onnx(end="Softmax"),
}


@cache
def file(which: str, root: Path) -> Path:
    return nets.saved(SETTINGS[which](), root, which)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def model(root: Path) -> Model:
    return convlens.load(file("free", root), **CARD)


def arrays(count: int = 5, dtype: Any = np.float32) -> NDArray[Any]:
    return nets.pictures(0, count, SHAPE, dtype)


def photos(count: int = 2) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 31, 3), np.uint8)) for _ in range(count)]


def run(model: Model, name: str, images: Any, **options: Any) -> Result:
    method = METHODS[name]
    if method.recording == "must":
        options["recording"] = a_recording(model)
    images = images if method.images else None
    return model.run(name, images, **{**method.preview, **options})


def a_recording(model: Model) -> Recording:
    """Nine noisy pictures of three classes, recorded beside the model."""
    pictures = nets.pictures(7, 9, tuple(model.source.shape[1:]), np.float32)
    return recorded(model, pictures, model.path.parent / "recordings", np.arange(9) % 3)


def alike(one: Result, other: Result, tolerance: float) -> None:
    """Whole numbers equal, real ones within ``tolerance`` of the largest."""
    assert one.arrays.keys() == other.arrays.keys()
    for key, array in one.arrays.items():
        own = other.arrays[key]
        assert own.shape == array.shape, key
        if array.dtype.kind != "f":
            np.testing.assert_array_equal(own, array, err_msg=key)
            continue
        finite = np.isfinite(array)
        np.testing.assert_array_equal(np.isfinite(own), finite, err_msg=key)
        scale = float(np.abs(array[finite]).max(initial=0.0))
        drift = float(np.abs(own.astype(np.float64) - array)[finite].max(initial=0.0))
        assert drift <= tolerance * scale, f"{key} drifts by {drift:.1e}, its largest number is {scale:.1e}"


@EACH
def test_it_says_what_it_is(name: str) -> None:
    method = METHODS[name]
    assert re.fullmatch(r"[a-z][a-z0-9-]*", name)
    assert method.name == name
    assert method.summary
    assert method.summary[0].islower()
    assert not method.summary.endswith(".")
    assert re.search(r"(19|20)\d\d", method.paper.cite), "a citation has a year"
    assert method.paper.link.startswith("https://")
    assert method.kind in KINDS
    assert (type(method).__doc__ or "").strip()


@EACH
def test_every_parameter_has_a_default_a_type_and_a_description(name: str) -> None:
    schema = METHODS[name].Parameters.model_json_schema()
    for parameter, field in METHODS[name].Parameters.model_fields.items():
        assert field.description, parameter
        assert not field.is_required(), parameter
        described = schema["properties"][parameter]
        assert {"type", "anyOf", "enum", "$ref"} & described.keys(), parameter
    METHODS[name].parse({})


@EACH
@pytest.mark.parametrize("which", SETTINGS)
def test_no_batch_size_changes_the_result(name: str, which: str, root: Path) -> None:
    model = convlens.load(file(which, root), **CARD)
    images = np.moveaxis(arrays(), 1, -1) if which == "channels-last" else arrays()
    whole = run(model, name, images, batch_size=5)
    for size in (1, 2, 100):
        alike(whole, run(model, name, images, batch_size=size), SINGLE)


@EACH_BY_IMAGE
@pytest.mark.parametrize("which", ["fixed", "channels-last", "softmax"])
def test_images_do_not_meet(name: str, which: str, root: Path) -> None:
    """The result of a batch is that of its images one by one."""
    model = convlens.load(file(which, root), **CARD)
    images = np.moveaxis(arrays(3), 1, -1) if which == "channels-last" else arrays(3)
    whole = run(model, name, images)
    for index in range(3):
        alone = run(model, name, images[index : index + 1])
        part = {
            key: array if key in whole.shared else array[index : index + 1]
            for key, array in whole.arrays.items()
        }
        alike(alone, replace(whole, arrays=part), SINGLE)


@EACH
def test_one_seed_one_result(name: str, root: Path) -> None:
    found = []
    for _ in range(2):
        model = convlens.load(file("free", root), **CARD)
        found.append(run(model, name, arrays(), seed=3))
    for key, array in found[0].arrays.items():
        assert array.dtype == found[1].arrays[key].dtype
        assert array.tobytes() == found[1].arrays[key].tobytes(), key
    assert found[0].rows == found[1].rows


@EACH
def test_double_precision_goes_in(name: str, model: Model) -> None:
    images = arrays(dtype=np.float64)
    alike(run(model, name, images), run(model, name, images.astype(np.float32)), DOUBLE)


@EACH
def test_given_arrays_stay_as_they_are(name: str, model: Model) -> None:
    images = arrays()
    given = images.copy()
    run(model, name, given)
    np.testing.assert_array_equal(given, images)


@EACH
@pytest.mark.parametrize("size", [(8, 30), (30, 8)], ids=["wide", "tall"])
def test_long_and_narrow_inputs(name: str, size: tuple[int, int], root: Path) -> None:
    shape = (3, *size)
    path = nets.saved(nets.classifier(0, shape).onnx(), root, f"{size[0]}x{size[1]}")
    result = run(convlens.load(path, **CARD), name, nets.pictures(0, 2, shape, np.float32))
    assert len(result.pictures) > 0 or KINDS[result.kind] is None


BAD: dict[str, Any] = {
    "a word": "no such thing",
    "a class too many": 4,
    "a negative class": -1,
    "a channel too many": "conv1:99",
    "a layer too many": "conv9:0",
    "a place outside": "conv1:0@99,0",
    "too few numbers": "conv1:0@3",
    "an index too many": "dense1[0,1,2]",
    "an unknown reduction": "dense1[1].median",
}


@EACH
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_target_is_refused(name: str, bad: Any, model: Model) -> None:
    expected = (TargetError, LayerError) if METHODS[name].target else UsageError
    with pytest.raises(expected) as caught:
        run(model, name, arrays(1), target=bad)
    assert "\n" not in str(caught.value)


@EACH_OF_TARGETS
@pytest.mark.parametrize("target", ["dense1[1]", "conv2:1", "relu1:1@3,4", "conv2", "conv2[0,1,:,2].max", 3])
def test_a_good_target_is_taken(name: str, target: Any, model: Model) -> None:
    result = run(model, name, arrays(2), target=target)
    assert result.how["target"]["text"]
    assert all(np.isfinite(array).all() for array in result.arrays.values())


@EACH
def test_an_unknown_parameter_is_refused(name: str, model: Model) -> None:
    with pytest.raises(ParameterError, match=f"{name} has no parameter 'colour_of_the_sky'"):
        run(model, name, arrays(1), colour_of_the_sky="blue")


@EACH
def test_a_parameter_of_the_wrong_type_is_refused(name: str, model: Model) -> None:
    for parameter in METHODS[name].Parameters.model_fields:
        with pytest.raises(ParameterError, match=parameter):
            run(model, name, arrays(1), **{parameter: object()})


@EACH_OF_IMAGES
def test_missing_and_misshapen_images_are_refused(name: str, model: Model) -> None:
    read = {"recording": a_recording(model)} if METHODS[name].recording == "must" else {}
    with pytest.raises(UsageError, match="needs images"):
        model.run(name, **read)
    with pytest.raises(UsageError, match="no images given"):
        model.run(name, [], **read)
    with pytest.raises(UsageError, match="shape"):
        model.run(name, arrays(2)[:, :, :-1], **read)
    with pytest.raises(UsageError, match="batch size"):
        model.run(name, arrays(2), batch_size=0, **read)


def state(model: Model) -> dict[str, Any]:
    """Everything about a model that a method could change."""
    modules = dict(model.torch.named_modules())
    return {
        "weights": {k: v.numpy().tobytes() for k, v in model.torch.state_dict().items()},
        "frozen": [p.requires_grad for p in model.torch.parameters()],
        "gradients": [p.grad for p in model.torch.parameters()],
        "modules": {k: (id(m), m.training, len(m._forward_hooks)) for k, m in modules.items()},
        "constants": {k: v.tobytes() for k, v in model.graph.constants.items()},
        "nodes": id(model.graph.nodes),
        "outputs": [v.name for v in model.graph.ir.graph.outputs],
        "count": len(model.graph.ir.graph),
        "card": model.card.model_dump_json(),
        "layers": model.layers.json(),
        "file": model.path.read_bytes(),
        "sessions": ACTIVE.get(),
    }


@EACH
def test_the_model_stays_as_it_is(name: str, model: Model) -> None:
    images = arrays(2)
    output = model.runner.run({"input": images}, model.graph.outputs)["dense1"]
    before = state(model)
    run(model, name, images)
    assert state(model) == before
    np.testing.assert_array_equal(model.runner.run({"input": images}, model.graph.outputs)["dense1"], output)


@EACH
def test_the_result_says_what_it_is_and_how_it_was_made(name: str, model: Model) -> None:
    method = METHODS[name]
    result = run(model, name, photos(), seed=5)
    assert (result.method, result.kind) == (name, method.kind)
    assert result.main in result.arrays
    assert result.units.keys() == result.arrays.keys()
    assert all(result.units.values())
    assert set(result.shared) <= result.arrays.keys()
    if method.images:
        assert result.images == ("image 0", "image 1")
        assert result.views is not None
        assert result.views.shape == (2, *SHAPE[1:], 3)
        for key, array in result.arrays.items():
            assert key in result.shared or len(array) == 2, key
        rows = [row for row in result.rows if "image" in row or not method.together]
        assert {row["image"] for row in rows} <= set(result.images)
        assert len(result.hints.get("each", result.images)) == 2
    else:
        assert result.images == ()
    assert all(np.isfinite(array).all() for array in result.arrays.values())
    how = result.how
    assert how["model"]["sha256"] == model.sha256
    assert how["seed"] == 5
    assert how["parameters"].keys() == method.Parameters.model_fields.keys()
    assert {"numpy", "onnx", "torch"} <= how["versions"].keys()
    assert how["certificate"]["passed"] is True
    assert how["certificate"]["values"] > 0
    assert how["allow_uncertified"] is False
    assert how["device"]["onnxruntime"] in ("cpu", "cuda")
    assert (how["target"] is not None) == method.target
    if method.target:
        predicted = method.images and method.default(model) is None
        assert len(how["target"]["each"]) == (2 if predicted else 0)
        assert not predicted or len(how["target"]["index"]) == 2


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.attributes])
def test_an_attribution_ranks_every_place_of_the_input(name: str, model: Model) -> None:
    found = heat(run(model, name, arrays(2)), model.source)
    assert found.shape == (2, *SHAPE[1:])
    assert found.dtype == np.float64
    assert len(np.unique(found[0])) > 1


@EACH
@pytest.mark.parametrize("given", ["photos", "arrays"])
def test_saved_and_loaded_it_is_the_same(name: str, given: str, model: Model, tmp_path: Path) -> None:
    result = run(model, name, photos() if given == "photos" else arrays(2))
    record = json.loads(json.dumps(result.record(), allow_nan=False))
    paths = result.save(tmp_path)
    back = Result.load(tmp_path, name)
    assert back.arrays.keys() == result.arrays.keys()
    for key, array in result.arrays.items():
        assert back.arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[key], array)
    if result.views is None:
        assert back.views is None
    else:
        np.testing.assert_array_equal(back.views, result.views)
    assert back.record() == record
    assert dict(back.units) == dict(result.units)
    assert back.images == result.images
    drawn = [path for path in paths if path.suffix == ".png"]
    plain = {f"{entry['name']}.png" for entry in result.hints.get("photos", ())}
    assert len({path.name for path in drawn}) == len(drawn) == len(result.pictures) + len(plain)
    for path in (path for path in drawn if path.name not in plain):
        with Image.open(path) as picture:
            assert min(picture.size) > 20
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 4, "the picture is empty"
    again = [np.asarray(picture.image) for picture in back.pictures]
    for one, other in zip(result.pictures, again, strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), other)


@EACH
def test_pictures_say_what_they_show(name: str, model: Model) -> None:
    result = run(model, name, photos())
    if KINDS[result.kind] is None:
        assert result.pictures == ()
        assert result.rows
        return
    assert result.pictures
    of_all = METHODS[name].together or result.hints.get("over") == "images"
    for picture in result.pictures:
        assert picture.caption
        assert len(picture.alt) > 20
        assert picture.image.mode == "RGB"
        assert picture.scale is None or picture.scale.low < picture.scale.high
        assert (picture.index is None) == (not METHODS[name].images or of_all)
    if METHODS[name].images and not of_all:
        assert {picture.index for picture in result.pictures} == {0, 1}


@EACH
def test_steps_and_findings_are_in_plain_language(name: str, model: Model) -> None:
    for step in METHODS[name].plan(model):
        assert step.section
        assert step.title
        result = run(model, name, photos(), **step.parameters)
        for finding in METHODS[name].findings(result):
            assert finding.level in ("good", "note", "attention")
            assert finding.text.endswith(".")
            assert finding.evidence
            assert finding.image is None or finding.image in (0, 1)


@EACH
def test_progress_rises_to_one(name: str, model: Model) -> None:
    shares: list[float] = []
    run(model, name, arrays(), batch_size=2, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def failed(_model: Model, _seed: int = 0) -> Certificate:
    good = Check("conv1", "Conv", "random input", 1e-7, 1e-7, True)
    return Certificate((good, Check("relu1", "Relu", "random input", 0.5, 0.25, False)), ("random input",))


@EACH
def test_without_a_certificate_it_runs_only_on_demand(
    name: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "certificate", failed)
    with pytest.raises(UncertifiedError, match=r"disagree from value 'relu1' \(Relu\) on.*allow_uncertified"):
        run(model, name, arrays(2))
    result = run(model, name, arrays(2), allow_uncertified=True)
    assert result.how["certificate"]["passed"] is False
    assert result.how["certificate"]["first_failure"] == "relu1"
    assert result.how["allow_uncertified"] is True


@EACH
def test_a_model_of_several_inputs_is_refused(name: str, tmp_path: Path) -> None:
    from onnx.helper import make_node

    dims = ["N", 3, 4, 4]
    proto = nets.model_of([make_node("Add", ["a", "b"], ["c"])], {"a": dims, "b": dims}, ["c"])
    model = convlens.load(nets.saved(proto, tmp_path), **CARD)
    with pytest.raises(convlens.ConvLensError):
        run(model, name, np.zeros((1, 3, 4, 4), np.float32))


def test_listing_the_methods_imports_no_executor() -> None:
    code = (
        "import sys; from convlens import registry; assert registry.methods(); "
        "print(*sorted({'torch', 'onnxruntime', 'captum', 'PIL'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_every_file_of_the_package_registers_a_method_of_its_name() -> None:
    folder = Path(registry.__file__).parent / "methods"
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py") if path.stem != "__init__"}
    here = {
        name for name, method in METHODS.items() if type(method).__module__.startswith("convlens.methods.")
    }
    assert here == files


def test_the_public_list_can_be_asked_for_twice() -> None:
    assert convlens.methods() == convlens.methods() == METHODS


def nameless(**changes: Any) -> type[Method[Any]]:
    """A method class that is complete but for ``changes``."""
    body = {
        "name": "planted",
        "summary": "nothing",
        "paper": Paper("Nobody 2000"),
        "kind": "map",
        "run": lambda self, job: None,
    }
    return type("Planted", (Method,), {**body, **changes})


class Undescribed(Parameters):
    """A parameter that says nothing."""

    size: int = Field(3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "does not say its name"),
        ({"summary": ""}, "does not say its summary"),
        ({"paper": None}, "does not say its paper"),
        ({"kind": ""}, "does not say its kind"),
        ({"Parameters": Undescribed}, "parameter size of Planted has no description"),
        ({"name": "saliency"}, "a method 'saliency' is registered by convlens.methods.saliency already"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_an_incomplete_method_does_not_enter_the_registry(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        register(nameless(**changes))
    assert registry.methods() == METHODS


def test_an_unknown_method_names_the_nearest(model: Model) -> None:
    with pytest.raises(UsageError, match=r"no method 'salience'; nearest: 'saliency'"):
        model.run("salience", arrays(1))
