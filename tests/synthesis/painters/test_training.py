"""How a painter learns: the loss by hand, its slope by differences, and one course however often stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import convlens
from convlens.errors import LayerError, OutputError, TargetError
from convlens.model import Model
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.painters.crops import Crops
from convlens.synthesis.painters.painter import Form, Painter
from convlens.synthesis.painters.perceptual import Loss, Weights, layers_for
from convlens.synthesis.painters.training import Course, train
from convlens.watch import Watch
from reference import nets

SINGLE = 1e-5
"""Relative: sums of float32 against those of float64."""

SLOPE = 1e-5
"""Relative: a central difference of 1e-6 in float64, whose own rounding is about 1e-9 of the loss."""

SIDE = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    net = nets.classifier(0, (3, 16, 16)).until("relu2").onnx(size=("H", "W"))
    path = nets.saved(net, tmp_path_factory.mktemp("net"))
    return convlens.load(path, threads=1, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], size=[16, 16])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(2)
    for index in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
        coarse.resize((36, 30), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((3, *size), np.float32)


def loss_of(model: Model, dtype: str = "float32", **weights: float) -> Loss:
    chosen = Weights(**{"content": 0.7, "style": 1.3, "tv": 0.2, **weights})
    content, style = layers_for(model, None, ())
    return Loss(model, canvas_for(model, (SIDE, SIDE), dtype), picture(0, (10, 14)), content, style, chosen)


def features(model: Model, shown: NDArray[Any], name: str) -> NDArray[np.float64]:
    """A layer's value of one picture by onnxruntime."""
    mean, std = (np.array(n).reshape(3, 1, 1) for n in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    fed = ((shown - mean) / std).astype(np.float32)[None]
    return model.runner.run({"input": fed}, [name])[name][0].astype(np.float64)


def gram(x: NDArray[Any]) -> NDArray[np.float64]:
    found = np.zeros((len(x), len(x)))
    for a, one in enumerate(x):
        for b, other in enumerate(x):
            found[a, b] = (one * other).sum() / one.size
    return found


def test_the_layers_are_the_last_rectified_ones_at_each_scale(model: Model) -> None:
    content, style = layers_for(model, None, ())
    assert [layer.alias for layer in style] == ["relu1", "relu2"]
    assert content.alias == "relu2"
    content, style = layers_for(model, "conv1", ("conv2",))
    assert (content.alias, [layer.alias for layer in style]) == ("conv1", ["conv2"])
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        layers_for(model, "conv9", ())


def test_of_vgg16_they_are_those_of_the_paper() -> None:
    content, style = layers_for(convlens.load("vgg16-conv4_1"), None, ())
    assert content.alias == "relu2_2"
    assert [layer.alias for layer in style] == ["relu1_2", "relu2_2", "relu3_3", "relu4_1"]


def test_the_loss_by_hand(model: Model) -> None:
    loss = loss_of(model)
    photo, painted, style = picture(1), picture(2), picture(0, (10, 14))
    total, parts = loss.of(torch.from_numpy(painted[None]), torch.from_numpy(photo[None]))
    kept, made = (features(model, shown, "relu2") for shown in (photo, painted))
    content = ((made - kept) ** 2).sum() / (kept**2).sum()
    apart = []
    for name in ("relu1", "relu2"):
        wanted, own = (gram(features(model, shown, name)) for shown in (style, painted))
        apart.append(((own - wanted) ** 2).sum() / (wanted**2).sum())
    lengths = []
    for plane in painted.astype(np.float64):
        for y in range(SIDE):
            for x in range(SIDE):
                down = plane[y + 1, x] - plane[y, x] if y + 1 < SIDE else 0.0
                right = plane[y, x + 1] - plane[y, x] if x + 1 < SIDE else 0.0
                lengths.append((down**2 + right**2) ** 0.5)
    by_hand = np.array([content, np.mean(apart), np.mean(lengths)])
    np.testing.assert_allclose(parts.numpy(), by_hand, rtol=SINGLE)
    np.testing.assert_allclose(float(total), by_hand @ [0.7, 1.3, 0.2], rtol=SINGLE)


def test_the_style_itself_has_no_style_loss(model: Model) -> None:
    style = torch.from_numpy(picture(0, (10, 14))[None])
    total, parts = loss_of(model, tv=0.0).of(style, style)
    assert float(total) == 0
    assert parts[:2].tolist() == [0, 0]


def test_the_slope_of_a_step_is_that_of_differences(model: Model) -> None:
    loss = loss_of(model, "float64")
    painter = Painter(Form(3, 2, 1), seed=1, dtype=torch.float64)
    photo = torch.from_numpy(picture(1).astype(np.float64))[None]
    total, _ = loss.of(painter(photo), photo)
    total.backward()
    rng = np.random.default_rng(0)
    for name, weight in painter.named_parameters():
        direction = torch.from_numpy(rng.standard_normal(weight.shape))
        assert weight.grad is not None
        expected = float((weight.grad * direction).sum())
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * 1e-6 * direction
                ends.append(float(loss.of(painter(photo), photo)[0]))
                weight -= sign * 1e-6 * direction
        found = (ends[0] - ends[1]) / 2e-6
        assert abs(found - expected) <= SLOPE * max(abs(expected), 1e-3), name


class Stopping(Watch):
    """Somebody who asks for an end after ``patience`` steps."""

    patience = 3

    def see(self, *given: object) -> None:  # type: ignore[override]
        self.patience -= 1
        self.stopped = self.stopped or self.patience == 0


def taught(
    model: Model, photos: list[Path], watch: Watch, steps: int = 6, job: str = "job"
) -> tuple[dict[str, Any], Any]:
    painter = Painter(Form(3, 2, 1), seed=2)
    course = Course(Crops(photos, SIDE, seed=5), steps, 2, 1e-2, job)
    learnt = train(painter, loss_of(model), course, watch, picture(3)[None])
    return {name: value.numpy() for name, value in painter.state_dict().items()}, learnt


@pytest.mark.parametrize("patience", [1, 3, 5])
def test_a_stopped_course_goes_on_to_the_same_weights(
    patience: int, model: Model, photos: list[Path], tmp_path: Path
) -> None:
    whole, learnt = taught(model, photos, Watch())
    assert learnt.interrupted is None
    watch = Stopping(tmp_path)
    watch.patience = patience
    watch.begin({})
    _, partly = taught(model, photos, watch)
    assert partly.interrupted == patience
    assert len(partly.history["loss"]) == patience
    again, rest = taught(model, photos, Watch(tmp_path, resume=True))
    for name, weight in whole.items():
        np.testing.assert_array_equal(again[name], weight)
    for name, told in learnt.history.items():
        np.testing.assert_array_equal(rest.history[name], told)


def test_a_course_on_other_photos_is_not_taken_up(model: Model, photos: list[Path], tmp_path: Path) -> None:
    watch = Stopping(tmp_path)
    watch.begin({})
    taught(model, photos, watch)
    with pytest.raises(OutputError, match="another style or other photos"):
        taught(model, photos, Watch(tmp_path, resume=True), job="other")


def test_the_loss_falls(model: Model, photos: list[Path]) -> None:
    _, learnt = taught(model, photos, Watch(), steps=60)
    loss = learnt.history["loss"]
    assert loss[-10:].mean() < 0.7 * loss[:3].mean()


class Broken(Loss):
    """A loss that is no number from its third step on."""

    calls = 0

    def of(self, painted: torch.Tensor, photo: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total, parts = super().of(painted, photo)
        self.calls += 1
        return (total * float("nan") if self.calls > 4 else total), parts


def test_it_stops_at_the_first_number_that_is_none(model: Model, photos: list[Path]) -> None:
    """The weights are those with which the last finite loss was found: before the second update."""
    content, style = layers_for(model, None, ())
    canvas = canvas_for(model, (SIDE, SIDE))
    loss = Broken(model, canvas, picture(0, (10, 14)), content, style, Weights(0.7, 1.3, 0.2))
    painter = Painter(Form(3, 2, 1), seed=2)
    course = Course(Crops(photos, SIDE, seed=5), 6, 2, 1e-2)
    learnt = train(painter, loss, course, Watch(), picture(3)[None])
    assert learnt.stopped == 2
    assert len(learnt.history["loss"]) == 2
    once, _ = taught(model, photos, Watch(), steps=1)
    for name, value in painter.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), once[name])


def test_a_last_update_that_breaks_the_network_is_taken_back(
    model: Model, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.optim.Adam.step

    def step(self: Any, closure: Any = None) -> Any:
        plain(self, closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].fill_(float("nan"))

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    found, learnt = taught(model, photos, Watch(), steps=1)
    assert learnt.stopped == 1
    assert all(np.isfinite(value).all() for value in found.values())


def test_a_silent_style_is_refused(model: Model) -> None:
    dark = nets.Conv(np.zeros((2, 3, 3, 3), np.float32), np.full(2, -1, np.float32), pad=1)
    net = nets.Net((3, 12, 12), (dark, nets.Relu()))
    path = model.path.parent / "dark.onnx"
    path.write_bytes(net.onnx().SerializeToString())
    silent = convlens.load(path, threads=1, mean=[0.5], std=[0.25])
    content, style = layers_for(silent, None, ())
    with pytest.raises(TargetError, match="layer 'relu1' is silent on the style"):
        Loss(silent, canvas_for(silent), picture(0), content, style, Weights(1, 1, 1))
