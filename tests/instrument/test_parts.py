"""How much is run: only what the target needs, image by image, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import convlens
from convlens.errors import TargetError, UnsupportedError
from convlens.model import Model
from reference import nets

DRIFT = 1e-6
"""Of the largest magnitude: float32, where another batch may take another path through the kernels."""

RULES = ("plain", "guided", "deconvnet")


def loaded(net: nets.Net, folder: Path, **how: object) -> Model:
    return convlens.load(nets.saved(net.onnx(**how), folder), threads=1)  # type: ignore[arg-type]


def test_only_the_part_below_the_target_is_run(tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    ran: list[str] = []
    for name, module in model.torch.named_children():
        module.register_forward_hook(lambda _m, _i, _o, n=name: ran.append(n))
    images = nets.pictures(0, 2, (3, 11, 9), np.float32)
    model.certificate()  # runs everything, once
    ran.clear()
    model.run("saliency", images, "conv2:1")
    assert ran == ["conv1", "relu1", "maxpool1", "conv2"]
    ran.clear()
    with model.session() as session:
        session.tap("relu2")  # above what is asked for, so not a reason to run it
        session.run(images, ["relu1"])
    assert ran == ["conv1", "relu1"]


def test_what_lies_above_may_fail(tmp_path: Path) -> None:
    """The dense layer takes pictures of 11 x 9 only; the convolutions take any."""
    proto = nets.classifier(0).onnx(size=("height", "width"))
    model = convlens.load(nets.saved(proto, tmp_path), size=(11, 9), threads=1)
    images = nets.pictures(0, 2, (3, 8, 14), np.float32)
    assert model.run("saliency", images, "conv2:1").array.shape == images.shape
    with pytest.raises(UnsupportedError):
        model.run("saliency", images, 0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [2, "conv2:1", None])
def test_no_batch_size_changes_the_signal(rule: str, target: int | str | None, tmp_path: Path) -> None:
    net = nets.classifier(1)
    model = loaded(net, tmp_path)
    images = nets.pictures(1, 5, net.shape, np.float32)
    whole = model.run("saliency", images, target, rule=rule, batch_size=5).array
    for size in (1, 2, 4, 100):
        found = model.run("saliency", images, target, rule=rule, batch_size=size).array
        assert np.abs(found - whole).max() < DRIFT * np.abs(whole).max(), f"batch size {size}"


@pytest.mark.parametrize("rule", RULES)
def test_an_image_does_not_see_the_others(rule: str, tmp_path: Path) -> None:
    net = nets.classifier(1)
    model = loaded(net, tmp_path)
    images = nets.pictures(1, 4, net.shape, np.float32)
    before = model.run("saliency", images, 2, rule=rule).array[1]
    others = images.copy()
    others[[0, 2, 3]] = 50 * others[[3, 0, 2]]
    after = model.run("saliency", others, 2, rule=rule).array[1]
    assert np.abs(after - before).max() < DRIFT * np.abs(before).max()


@pytest.mark.parametrize("fixed", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_a_fixed_batch_works_like_a_free_one(rule: str, fixed: int, tmp_path: Path) -> None:
    net = nets.classifier(1)
    images = nets.pictures(1, 3, net.shape)
    free = loaded(net, tmp_path).run("saliency", images, rule=rule)
    model = convlens.load(nets.saved(net.onnx(batch=fixed), tmp_path, "fixed"), threads=1)
    assert model.runner.fixed_batch == (None if fixed == 1 else fixed)  # a batch of one is freed on loading
    found = model.run("saliency", images, rule=rule)
    assert found.array.shape == images.shape
    assert np.abs(found.array - free.array).max() < DRIFT * np.abs(free.array).max()
    assert found.how["target"]["index"] == free.how["target"]["index"]
    for index in range(len(images)):
        alone = model.run("saliency", images[index : index + 1], rule=rule)
        assert np.abs(found.array[index] - alone.array[0]).max() < DRIFT * np.abs(alone.array).max()


def test_channels_last_is_channels_first_turned(tmp_path: Path) -> None:
    net = nets.classifier(4)
    images = nets.pictures(4, 2, net.shape)
    wanted = loaded(net, tmp_path).run("saliency", images, 1, rule="guided").array
    model = convlens.load(nets.saved(net.onnx(nhwc=True), tmp_path, "nhwc"), threads=1)
    assert model.source.layout == "NHWC"
    found = model.run("saliency", np.moveaxis(images, 1, -1), 1, rule="guided").array
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), wanted, atol=1e-12 * np.abs(wanted).max())


def test_the_working_precision_follows_the_array(tmp_path: Path) -> None:
    net = nets.classifier(4)
    model = loaded(net, tmp_path)
    images = nets.pictures(4, 2, net.shape)
    double = model.run("saliency", images, 1).array
    single = model.run("saliency", images.astype(np.float32), 1).array
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    assert 0 < np.abs(double - single).max() < 1e-5 * np.abs(double).max()


def test_the_score_before_the_softmax_is_differentiated(tmp_path: Path) -> None:
    net = nets.classifier(4)
    images = nets.pictures(4, 2, net.shape)
    bare = loaded(net, tmp_path).run("saliency", images, 1)
    model = convlens.load(nets.saved(net.onnx(end="Softmax"), tmp_path, "soft"), threads=1)
    found = model.run("saliency", images, 1)
    np.testing.assert_array_equal(found.array, bare.array)
    np.testing.assert_array_equal(found.arrays["score"], bare.arrays["score"])


def test_a_python_function_as_target(tmp_path: Path) -> None:
    net = nets.classifier(4)
    images = nets.pictures(4, 3, net.shape)
    model = loaded(net, tmp_path)
    named = model.run("saliency", images, 1, batch_size=2)
    called = model.run("saliency", images, lambda out: out[:, 1], batch_size=2)
    np.testing.assert_array_equal(named.array, called.array)


def test_a_target_without_gradient_is_refused(tmp_path: Path) -> None:
    model = loaded(nets.classifier(4), tmp_path)
    images = nets.pictures(4, 2, (3, 11, 9))
    with pytest.raises(TargetError, match="has no gradient"):
        model.run("saliency", images, lambda out: out.argmax(dim=1).double())
    with pytest.raises(TargetError, match="does not depend on the input"):
        model.run("saliency", images, lambda out: torch.ones(len(out), requires_grad=True))
