"""Class activation maps: each against its paper, at every layer, over the input, and their refusals."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import convlens
from convlens.attribution.layerwise import cams
from convlens.attribution.layerwise.layered import layer_for
from convlens.errors import LayerError, ParameterError, TargetError, UnsupportedError
from reference import cams as paper
from reference import deconvnet, nets
from reference.others import OTHERS, Maker

DRIFT = 1e-9
"""Of the largest number: float64 on both sides."""

SINGLE = 2e-5
"""Of the largest number: onnxruntime computes in float32."""

GRADIENT = ["grad-cam", "grad-cam-plus-plus", "layer-cam"]
ALL = [*GRADIENT, "score-cam", "eigen-cam", "guided-grad-cam"]
LAYERS = ["relu1", "maxpool1", "conv2", "relu2"]
PAPER = {
    "grad-cam": paper.grad_cam,
    "grad-cam-plus-plus": paper.grad_cam_plus_plus,
    "layer-cam": paper.layer_cam,
}


def loaded(net: nets.Net, folder: Path, **how: Any) -> convlens.Model:
    return convlens.load(nets.saved(net.onnx(**how), folder), threads=1)


def close(found: NDArray[Any], wanted: NDArray[Any], tolerance: float) -> None:
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max()
    assert scale > 0
    assert np.abs(found - wanted).max() <= tolerance * scale


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", GRADIENT)
def test_gradient_maps_equal_the_reference(name: str, layer: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape)
    result = loaded(net, tmp_path).run(name, images, 2, layer=layer)
    for index, image in enumerate(images):
        value, gradient = paper.layer_and_gradient(net, image, layer, 2)
        wanted = PAPER[name](value, gradient)
        close(result.arrays["signed"][index], wanted, DRIFT)
        close(result.arrays["coarse"][index], np.maximum(wanted, 0), DRIFT)
        close(result.array[index], paper.stretched(np.maximum(wanted, 0), *net.shape[1:]), DRIFT)


def test_plus_plus_weights_are_those_of_the_exponential_of_the_score(tmp_path: Path) -> None:
    """The second and third derivative at every single unit by automatic differentiation."""
    net = nets.classifier(5)
    image = nets.pictures(5, 1, net.shape)
    model = loaded(net, tmp_path)
    weights = model.run("grad-cam-plus-plus", image, 1, layer="relu2").arrays["weights"][0]
    last = net.layers[-1]
    assert isinstance(last, nets.Dense)
    value = torch.from_numpy(deconvnet.forward(net.until("relu2"), image[0]).top).requires_grad_()
    row, bias = torch.from_numpy(last.weight[1].astype(np.float64)), float(last.bias[1])
    score = torch.exp(value.reshape(-1) @ row + bias)
    wanted = np.zeros(len(value))
    (first,) = torch.autograd.grad(score, value, create_graph=True)
    for k, i, j in np.ndindex(*value.shape):
        (second,) = torch.autograd.grad(first[k, i, j], value, create_graph=True)
        (third,) = torch.autograd.grad(second[k, i, j], value, retain_graph=True)
        two, three = float(second[k, i, j].detach()), float(third[k, i, j].detach())
        below = 2 * two + float(value[k].detach().sum()) * three
        wanted[k] += (two / below if below else 0.0) * max(float(first[k, i, j].detach()), 0.0)
    close(weights * float(score.detach()), wanted, DRIFT)


@pytest.mark.parametrize("layer", LAYERS)
def test_eigen_cam_equals_the_reference(layer: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 3, net.shape, np.float32)
    result = loaded(net, tmp_path).run("eigen-cam", images, 2, layer=layer, signed=True, batch_size=2)
    for index, image in enumerate(images):
        value = deconvnet.forward(net.until(layer), image).top
        wanted = paper.eigen_cam(value)
        close(result.arrays["signed"][index], wanted, SINGLE)
        share = (wanted**2).sum() / (value**2).sum()
        assert result.arrays["share"][index] == pytest.approx(share, rel=SINGLE)
        close(result.array[index], paper.stretched(wanted, *net.shape[1:]), SINGLE)


def test_eigen_cam_is_the_same_for_every_target(tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape, np.float32)
    model = loaded(net, tmp_path)
    one, other = (model.run("eigen-cam", images, target).array for target in (0, 3))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weights", ["increase", "softmax"])
@pytest.mark.parametrize("layer", ["relu1", "relu2"])
def test_score_cam_equals_the_reference(layer: str, weights: Any, tmp_path: Path) -> None:
    net = nets.classifier(4)
    images = nets.pictures(4, 2, net.shape, np.float32)
    result = loaded(net, tmp_path).run(
        "score-cam", images, 1, layer=layer, weights=weights, signed=True, batch_size=4
    )

    def read(image: NDArray[Any]) -> float:
        scores = deconvnet.forward(net, image).top
        if weights == "softmax":
            return float(scores[1])
        return exp(scores[1]) / sum(exp(score) for score in scores)

    for index, image in enumerate(images):
        value = deconvnet.forward(net.until(layer), image).top
        wanted, each = paper.score_cam(image.astype(np.float64), value, read, weights == "softmax")
        close(result.arrays["weights"][index], np.array(each), SINGLE)
        close(result.arrays["signed"][index], wanted, SINGLE)
        assert result.arrays["baseline"][index] == pytest.approx(read(np.zeros(net.shape)), rel=SINGLE)


def test_score_cam_on_the_channels_of_the_widest_range(tmp_path: Path) -> None:
    net = nets.classifier(4)
    images = nets.pictures(4, 1, net.shape, np.float32)
    model = loaded(net, tmp_path)
    every = model.run("score-cam", images, 1, layer="relu1").arrays["weights"][0]
    some = model.run("score-cam", images, 1, layer="relu1", top=2).arrays["weights"][0]
    value = deconvnet.forward(net.until("relu1"), images[0]).top
    widest = np.argsort([-np.ptp(channel) for channel in value])[:2]
    assert set(np.flatnonzero(some)) == set(widest.tolist())
    np.testing.assert_allclose(some[widest], every[widest], rtol=1e-5)


def test_guided_grad_cam_is_guided_backpropagation_where_grad_cam_lies(tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape)
    result = loaded(net, tmp_path).run("guided-grad-cam", images, 0, layer="relu2")
    for index, image in enumerate(images):
        wanted = np.maximum(paper.grad_cam(*paper.layer_and_gradient(net, image, "relu2", 0)), 0)
        trace = deconvnet.forward(net, image)
        guided = deconvnet.backward(net, trace, deconvnet.unit(trace.top.shape, (0,)), "guided")
        close(result.array[index], guided * paper.stretched(wanted, *net.shape[1:]), DRIFT)


@pytest.mark.parametrize("name", ALL)
def test_channels_last_and_a_fixed_batch_change_nothing(name: str, tmp_path: Path) -> None:
    net = nets.classifier(6)
    images = nets.pictures(6, 3, net.shape, np.float32)
    path = nets.saved(net.onnx(), tmp_path, "plain")
    wanted = convlens.load(path, threads=1).run(name, images, 1)
    for how in ({"batch": 2}, {"nhwc": True}):
        path = nets.saved(net.onnx(**how), tmp_path, "-".join(how))
        given = np.moveaxis(images, 1, -1) if "nhwc" in how else images
        found = convlens.load(path, threads=1).run(name, given, 1)
        for key, array in wanted.arrays.items():
            own = found.arrays[key]
            own = np.moveaxis(own, -1, 1) if key == "signal" and "nhwc" in how else own
            np.testing.assert_allclose(own, array, atol=1e-5 * max(1e-3, np.abs(array).max()), err_msg=key)


@pytest.mark.parametrize("name", ALL)
def test_what_speaks_against_the_target_is_kept_on_demand(name: str, tmp_path: Path) -> None:
    net = nets.classifier(3)
    images = nets.pictures(3, 2, net.shape, np.float32)
    result = loaded(net, tmp_path).run(name, images, 1, layer="conv2", signed=True)
    np.testing.assert_array_equal(result.arrays["coarse"], result.arrays["signed"])
    if name not in ("layer-cam", "eigen-cam"):  # theirs need not have any
        assert result.arrays["signed"].min() < 0


def test_laid_over_the_input_as_torch_does(tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    layer = model["relu2"]
    rng = np.random.default_rng(0)
    for cells, extent, mode in [
        ((5,), (17,), "linear"), ((4, 3), (9, 14), "bilinear"), ((7, 9), (3, 4), "bilinear"),
        ((3, 2, 4), (8, 5, 4), "trilinear"), ((1, 4), (6, 6), "bilinear"),
    ]:  # fmt: skip
        coarse = rng.standard_normal((2, *cells))
        wanted = torch.nn.functional.interpolate(torch.from_numpy(coarse)[:, None], extent, mode=mode)[:, 0]
        found = cams.laid_over(coarse, extent, layer, "stretch")
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-12)


def test_cells_in_the_middle_of_what_their_units_see(tmp_path: Path) -> None:
    """A convolution of 5 with stride 4 and no padding: units see 0-4, 4-8 and 8-12."""
    rng = np.random.default_rng(0)
    net = nets.Net((1, 15, 13), (nets.conv(rng, 1, 4, 5, 4), nets.Relu(), nets.dense(rng, 36, 2)))
    model = loaded(net, tmp_path)
    coarse = np.array([[[1.0, 2.0, 4.0]] * 3])
    found = cams.laid_over(coarse, (15, 13), model["relu1"], "field")
    row = [1, 1, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4, 4]
    np.testing.assert_allclose(found, np.broadcast_to(row, (1, 15, 13)))
    images = nets.pictures(0, 1, net.shape)
    field, stretch = (model.run("layer-cam", images, 0, place=place) for place in ("field", "stretch"))
    np.testing.assert_array_equal(field.arrays["coarse"], stretch.arrays["coarse"])
    np.testing.assert_allclose(field.array[0, 2, 2], field.arrays["coarse"][0, 0, 0])
    assert np.abs(field.array - stretch.array).max() > 0


def test_places_that_are_not_known_are_refused(tmp_path: Path) -> None:
    """Behind squeeze and excitation every unit sees all of the input, and still has its place."""
    m = Maker()
    m.conv("x", "conv1", 4, 3, 3, 3)
    m.add("GlobalAveragePool", "conv1_relu", "squeezed")
    m.weight("gate_w", 4, 4, 1, 1)
    m.add("Conv", "squeezed gate_w", "gate")
    m.add("Sigmoid", "gate", "open")
    m.add("Mul", "conv1_relu open", "gated")
    m.conv("gated", "conv2", 4, 4, 3, 3)
    proto = m.model(["N", 3, 8, 8], m.scores("conv2_relu", 4, 3))
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    images = nets.pictures(0, 1, (3, 8, 8), np.float32)
    assert model.run("grad-cam", images, 0).rows[0]["layer"] == "conv2_relu"
    with pytest.raises(ParameterError, match=r"single units of 'conv2_relu' see is not known.*'stretch'"):
        model.run("grad-cam", images, 0, place="field")


def test_the_default_is_the_last_place_before_the_target(tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    assert layer_for(model, model.target(1), None).alias == "relu2"
    assert layer_for(model, model.target("relu2:1"), None).alias == "relu1"
    assert layer_for(model, model.target("conv2:1"), None).alias == "relu1"
    assert layer_for(model, model.target("relu1:0@1,1"), None).alias == "conv1"


def test_joined_branches_come_before_the_last_of_them(tmp_path: Path) -> None:
    m = Maker()
    m.conv("x", "left", 4, 3, 3, 3)
    m.conv("x", "right", 4, 3, 3, 3)
    m.add("Concat", "left_relu right_relu", "joined", axis=1)
    m.add("MaxPool", "joined", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    proto = m.model(["N", 3, 8, 8], m.scores("pooled", 8, 3))
    model = convlens.load(nets.saved(proto, tmp_path), threads=1)
    assert layer_for(model, model.target(1), None).alias == "joined"


def test_a_detector_is_read_before_its_scores(tmp_path: Path) -> None:
    model = convlens.load(nets.saved(OTHERS["detector"].make(), tmp_path), threads=1)
    assert layer_for(model, model.target("boxes[0,:,4].max"), None).alias == "conv1_relu"


@pytest.mark.parametrize("name", ALL)
def test_layers_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    model = loaded(nets.classifier(0), tmp_path)
    images = nets.pictures(0, 1, (3, 11, 9), np.float32)
    with pytest.raises(
        LayerError, match=r"'dense1' \(N x 4\) keeps no place .* nearest that does is 'relu2'"
    ):
        model.run(name, images, 1, layer="dense1")
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        model.run(name, images, 1, layer="conv9")
    with pytest.raises(TargetError, match=r"does not depend on layer 'relu2'.*such as 'conv1'"):
        model.run(name, images, "relu1:1", layer="relu2")
    with pytest.raises(TargetError, match=r"lies in layer 'relu2'.*such as 'relu1'"):
        model.run(name, images, "relu2:1", layer="relu2")
    with pytest.raises(TargetError, match="no layer between the input and channel 1 of conv1"):
        model.run(name, images, "conv1:1")


@pytest.mark.parametrize("name", ALL)
def test_a_layer_of_one_position_is_refused(name: str, tmp_path: Path) -> None:
    """The file leaves its size open, so that only this input tells."""
    m = Maker()
    m.conv("x", "conv1", 4, 3, 3, 3)
    m.add("MaxPool", "conv1_relu", "pooled", kernel_shape=[2, 2], strides=[2, 2])
    proto = m.model(["N", 3, "H", "W"], m.scores("pooled", 4, 3))
    model = convlens.load(nets.saved(proto, tmp_path), threads=1, size=(2, 3))
    images = nets.pictures(0, 1, (3, 2, 3), np.float32)
    with pytest.raises(LayerError, match=r"'pooled' is 1 x 4 x 1 x 1 on this input and has one position"):
        model.run(name, images, 0, layer="pooled")
    with pytest.raises(LayerError, match=r"'scores_mean' .* keeps no place .* nearest that does is 'pooled'"):
        model.run(name, images, 0, layer="scores_mean")


def test_places_that_come_before_the_images_are_none(tmp_path: Path) -> None:
    """Time first, as recurrent operators take it: rows of such a layer are no images."""
    m = Maker()
    m.conv("x", "wave1", 6, 2, 5)
    m.add("Transpose", "wave1_relu", "turned", perm=[2, 0, 1])
    m.add("Tanh", "turned", "bent")
    m.add("ReduceMean", "bent", "scores", axes=[0], keepdims=0)
    model = convlens.load(nets.saved(m.model(["N", 2, 30], "scores"), tmp_path), threads=1)
    images = nets.pictures(0, 2, (2, 30), np.float32)
    assert model["bent"].spatial_axes == (0,)
    assert model.run("eigen-cam", images, "scores:1").rows[0]["layer"] == "wave1_relu"
    with pytest.raises(LayerError, match=r"'bent' .* keeps no place .* nearest that does is 'wave1_relu'"):
        model.run("eigen-cam", images, "scores:1", layer="bent")


def test_a_vector_has_no_places(tmp_path: Path) -> None:
    other = OTHERS["vector"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1)
    for name in ALL:
        with pytest.raises(LayerError, match="no layer whose units have a place"):
            model.run(name, other.arrays(1))


def test_tokens_cannot_be_dimmed(tmp_path: Path) -> None:
    other = OTHERS["tokens"]
    model = convlens.load(nets.saved(other.make(), tmp_path), threads=1)
    with pytest.raises(UnsupportedError, match="numbers of tokens cannot be dimmed; grad-cam"):
        model.run("score-cam", other.arrays(1))
    assert model.run("grad-cam", other.arrays(1)).array.shape == (1, 12)
    assert model.run("guided-grad-cam", other.arrays(1)).array.shape == (1, 12, 8)


@pytest.mark.parametrize("name", [*GRADIENT, "guided-grad-cam"])
def test_an_empty_map_is_told(name: str, tmp_path: Path) -> None:
    """Every weight of the class is negative, so nothing in the layer speaks for it."""
    rng = np.random.default_rng(0)
    last = nets.Dense(-np.ones((2, 3 * 6 * 6), np.float32), np.zeros(2, np.float32))
    net = nets.Net((3, 6, 6), (nets.conv(rng, 3, 3, 3, pad=1), nets.Relu(), last))
    model = loaded(net, tmp_path)
    result = model.run(name, nets.pictures(0, 1, net.shape, np.float32), 0)
    (finding,) = convlens.methods()[name].findings(result)
    assert "input 0: the map at relu1 is empty" in finding.text
    assert (result.arrays["coarse"] == 0).all()


def test_plus_plus_says_where_its_weights_have_no_ground(tmp_path: Path) -> None:
    net = nets.classifier(3)
    model = loaded(net, tmp_path)
    method = convlens.methods()["grad-cam-plus-plus"]
    images = nets.pictures(3, 2, net.shape)
    result = model.run("grad-cam-plus-plus", images, 2, layer="conv2")
    assert any("negative numbers" in finding.text for finding in method.findings(result))
    assert not method.findings(model.run("grad-cam-plus-plus", images, 2, layer="relu1"))
    for index, image in enumerate(images):
        value, gradient = paper.layer_and_gradient(net, image, "conv2", 2)
        below = 2 + value.sum(axis=(1, 2), keepdims=True) * gradient
        smallest = below[gradient > 0].min()
        assert result.arrays["denominator"][index] == pytest.approx(smallest)


def test_sums_of_half_precision_are_taken_in_single(tmp_path: Path) -> None:
    """Sixteen bits end at 65504: 300 x 300 places at 2 would sum to infinity."""
    layer = loaded(nets.classifier(0), tmp_path)["relu2"]
    values = cams.by_channel(np.full((1, 1, 300, 300), 2, np.float16), layer)
    gradient = cams.by_channel(np.full((1, 1, 300, 300), 1, np.float16), layer)
    signed, more = cams.grad_cam_plus_plus(values, gradient)
    # 90,000 weights of 1 / (2 + 180,000), times 2
    np.testing.assert_allclose(signed, 180_000 / 180_002, rtol=1e-4)
    assert more["denominator"].tolist() == [180_002.0]
