"""Pictures by way of a generator network: one is trained here, on discs, crosses and stripes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

import convlens
from convlens.errors import ConvLensError, ParameterError
from convlens.model import Model
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.generator import Latent, Prior, load_generator, span_of
from reference.nets import saved

SIDE, CODE, CLASSES = 16, 6, 3
DISC, CROSS, STRIPES = range(CLASSES)


def shapes(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Grey pictures N x 1 x 16 x 16 from 0 to 1, each of a random place, size and brightness."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    kinds = rng.integers(0, CLASSES, count)
    made = []
    for kind in kinds:
        y, x, size, bright = *rng.uniform(6, 9, 2), rng.uniform(3, 5.5), rng.uniform(0.7, 1)
        if kind == DISC:
            inside = np.clip(size - np.hypot(rows - y, columns - x) + 0.5, 0, 1)
        elif kind == CROSS:
            near = np.maximum(np.abs(rows - y), np.abs(columns - x)) < size
            inside = near & ((np.abs(rows - y) < 1.5) | (np.abs(columns - x) < 1.5))
        else:
            inside = 0.5 + 0.5 * np.sin(2 * np.pi * (rows / (size + 1) + y / 3))
        made.append(0.1 + 0.8 * bright * inside)
    return np.stack(made)[:, None].astype(np.float32), kinds.astype(np.int64)


@cache
def trained() -> tuple[nn.Sequential, nn.Sequential]:
    """A classifier of the shapes, and a decoder from six numbers, normal over the shapes, to pictures."""
    torch.manual_seed(0)
    x, y = (torch.from_numpy(array) for array in shapes(600, 0))
    classifier = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, CLASSES),
    )  # fmt: skip
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE**2, 64),
        nn.ReLU(),
        nn.Linear(64, CODE),
        nn.BatchNorm1d(CODE, affine=False),
    )
    decoder = nn.Sequential(nn.Linear(CODE, 64), nn.ReLU(), nn.Linear(64, SIDE**2), nn.Sigmoid())
    first = torch.optim.Adam(classifier.parameters(), 0.005)
    second = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 0.005)
    for step in range(400):
        rows = torch.from_numpy(np.random.default_rng(step).integers(0, len(x), 64))
        first.zero_grad()
        functional.cross_entropy(classifier(x[rows]), y[rows]).backward()
        first.step()
        second.zero_grad()
        code = encoder(x[rows])
        made = decoder(code + 0.05 * torch.randn(code.shape)).view(-1, 1, SIDE, SIDE)
        functional.mse_loss(made, x[rows]).backward()
        second.step()
    return classifier.eval(), decoder.eval()


def layer_arrays(net: nn.Sequential) -> dict[str, NDArray[np.float32]]:
    return {name.replace(".", "_"): value.numpy() for name, value in net.state_dict().items()}


def written(
    nodes: list[onnx.NodeProto], arrays: dict[str, NDArray[Any]], shape: list[Any], path: Path, name: str
) -> Path:
    start = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    end = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", [start], [end], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return saved(proto, path, name)


def classifier_file(path: Path) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "0_weight", "0_bias"], ["a"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "2_weight", "2_bias"], ["c"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "5_weight", "5_bias"], ["y"], transB=1),
    ]
    return written(nodes, layer_arrays(trained()[0]), ["N", 1, SIDE, SIDE], path, "shapes")


def generator_file(path: Path, end: str = "Sigmoid", code: tuple[int, ...] = (), batch: Any = "N") -> Path:
    """The decoder; ``end`` says in which numbers its pictures are, ``code`` further axes of its vector."""
    arrays = layer_arrays(trained()[1])
    shape = helper.make_node("Reshape", ["last", "size"], ["y"])
    arrays["size"] = np.array([-1, 1, SIDE, SIDE])
    ends: dict[str, list[onnx.NodeProto]] = {
        "Sigmoid": [helper.make_node("Sigmoid", ["d"], ["last"])],
        # tanh(x / 2) = 2 sigmoid(x) - 1
        "Tanh": [helper.make_node("Mul", ["d", "half"], ["e"]), helper.make_node("Tanh", ["e"], ["last"])],
        "255": [helper.make_node("Sigmoid", ["d"], ["e"]), helper.make_node("Mul", ["e", "white"], ["last"])],
        # linear pieces, by which nothing tells what is black and white
        "open": [
            helper.make_node("Sigmoid", ["d"], ["e"]),
            helper.make_node("Relu", ["e"], ["last"]),
        ],
    }
    arrays["half"], arrays["white"] = np.float32(0.5).reshape(1), np.float32(255).reshape(1)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "0_weight", "0_bias"], ["b"], transB=1),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "2_weight", "2_bias"], ["d"], transB=1),
        *ends[end],
        shape,
    ]
    return written(nodes, arrays, [batch, CODE, *code], path, f"generator-{end}")


def classifier(path: Path) -> Model:
    return convlens.load(classifier_file(path), threads=1, range=[0.0, 1.0], channels="GRAY")


def nearest(picture: NDArray[Any]) -> float:
    """Root mean square distance to the nearest of the pictures that both were trained on."""
    known = shapes(600, 0)[0]
    return float(np.sqrt(((known - picture) ** 2).mean(axis=(1, 2, 3))).min())


@pytest.mark.parametrize(("kind", "end"), [(DISC, "Sigmoid"), (CROSS, "Tanh"), (STRIPES, "255")])
def test_the_class_is_reached_by_a_picture_like_those_of_training(
    kind: int, end: str, tmp_path: Path
) -> None:
    model = classifier(tmp_path)
    file = str(generator_file(tmp_path, end, (1, 1) if end == "Tanh" else ()))
    free = model.run(
        "visualise", None, kind, preset="lucid2017", parametrisation="pixels", steps=100, rotate=0
    )
    held = model.run("visualise", None, kind, generator=file, steps=100, jitter=0, rotate=0, scale=0)
    assert held.rows[0]["probability"] > 0.9
    assert held.rows[0]["from"] == "a random vector"
    assert nearest(held.arrays["picture"][0]) < 0.5 * nearest(free.arrays["picture"][0])


def test_what_it_makes_is_what_onnxruntime_makes_of_the_vector(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    canvas = canvas_for(model)
    for end, low, high in (("Sigmoid", 0, 1), ("Tanh", -1, 1), ("255", 0, 255)):
        path = generator_file(tmp_path, end)
        made = load_generator(str(path), None, canvas, model)
        assert (made.low, made.high) == (low, high)
        codes = made.latent([3, 4])
        found = made.pictures(codes, canvas).numpy()
        expected = made.model.runner.run({"x": codes.numpy()}, ["y"])["y"]
        np.testing.assert_allclose(found, (expected - low) / (high - low), rtol=0, atol=1e-5)


def test_a_generator_of_one_at_a_time_is_run_one_by_one(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    path = str(generator_file(tmp_path, batch=1))
    parameters = {"generator": path, "variants": 3, "steps": 3}
    together = model.run("visualise", None, 0, **parameters)
    single = model.run("visualise", None, 0, batch_size=1, **parameters)
    np.testing.assert_allclose(together.arrays["picture"], single.arrays["picture"], rtol=0, atol=1e-5)
    assert np.abs(np.diff(together.arrays["picture"], axis=0)).max() > 0.01


def test_the_prior_shrinks_bounds_and_shakes_the_vector(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    canvas = canvas_for(model)
    made = load_generator(str(generator_file(tmp_path)), None, canvas, model)
    given = made.latent([0])
    expected = given.numpy().astype(np.float64)
    form = Latent(made, canvas, given.clone().requires_grad_(), Prior(0.2, 0.5, 0.3), 7)
    for step in range(3):
        noise = np.random.default_rng((7, step, 2)).normal(0, 0.3, CODE)
        expected = np.clip(expected * 0.8 + noise, -0.5, 0.5)
        form.settle(step)
    np.testing.assert_allclose(form.leaf.detach().numpy(), expected, rtol=0, atol=1e-6)


def test_the_range_is_followed_back_through_constants(tmp_path: Path) -> None:
    for nodes, expected in (
        ([("Tanh", []), ("Add", [1.0]), ("Div", [2.0])], (0.0, 1.0)),
        ([("Tanh", []), ("Mul", [-127.5]), ("Add", [127.5])], (0.0, 255.0)),
        ([("Sigmoid", []), ("Sub", [0.5])], (-0.5, 0.5)),
        ([("Clip", [0.0, 255.0])], (0.0, 255.0)),
        ([("Relu", [])], None),
        ([("Sigmoid", []), ("Exp", [])], None),
    ):
        graph_nodes, arrays, name = [], {}, "x"
        for number, (op, constants) in enumerate(nodes):
            inputs = [name]
            for place, constant in enumerate(constants):
                arrays[f"c{number}{place}"] = np.float32(constant)
                inputs.append(f"c{number}{place}")
            name = "y" if number == len(nodes) - 1 else f"v{number}"
            graph_nodes.append(helper.make_node(op, inputs, [name]))
        model = convlens.load(written(graph_nodes, arrays, ["N", 3, 8, 8], tmp_path, "chain"), threads=1)
        assert span_of(model.graph, "y") == (None if expected is None else pytest.approx(expected)), nodes


def test_what_is_no_generator_is_refused(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    canvas = canvas_for(model)
    with pytest.raises(
        ParameterError, match=r"black and white cannot be told from its last operator .Reshape.; say"
    ):
        load_generator(str(generator_file(tmp_path, "open")), None, canvas, model)
    with pytest.raises(ParameterError, match=r"numbers from .* say another --generator-range"):
        load_generator(str(generator_file(tmp_path, "255")), "0,1", canvas, model)
    assert load_generator(str(generator_file(tmp_path, "open")), "0,1", canvas, model).high == 1
    with pytest.raises(ParameterError, match="expected a vector"):
        load_generator(str(classifier_file(tmp_path)), None, canvas, model)
    file = str(generator_file(tmp_path))
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    flat = written(nodes, {}, ["N", CODE], tmp_path, "flat")
    with pytest.raises(ParameterError, match="expected a picture"):
        load_generator(str(flat), None, canvas, model)
    for wrong, match in (
        ({"parametrisation": "pixels"}, "leave one of them out"),
        ({"preset": "yosinski2015"}, "holds none"),
        ({"start": str(Path(__file__).parents[2] / "models/photos/coffee.png")}, "cannot start from a photo"),
    ):
        with pytest.raises(ConvLensError, match=match):
            model.run("visualise", None, 0, generator=file, steps=2, **wrong)
    with pytest.raises(ParameterError, match="there is none"):
        model.run("visualise", None, 0, generator_range="0,1", steps=2)
