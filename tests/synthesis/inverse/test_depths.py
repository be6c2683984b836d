"""The ends of a model's stages, on graphs whose stages are told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

import convlens
from convlens.synthesis.inverse.depths import depths
from reference import nets
from reference.others import OTHERS

RNG = np.random.default_rng(0)


def ends(proto: onnx.ModelProto, folder: Path, shape: tuple[int, ...], **settings: object) -> list[str]:
    model = convlens.load(nets.saved(proto, folder), threads=1, **settings)
    return [layer.alias for layer in depths(model, shape)]


class Net:
    """Nodes in order, each of a name, and the weights of its convolutions."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}

    def conv(self, x: str, name: str, inputs: int, outputs: int, stride: int = 1) -> str:
        self.stored[f"{name}_w"] = RNG.normal(0, 0.3, (outputs, inputs, 3, 3)).astype(np.float32)
        self.nodes.append(make_node("Conv", [x, f"{name}_w"], [name], pads=[1] * 4, strides=[stride] * 2))
        return name

    def add(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(make_node(op, inputs, [name], **attributes))
        return name

    def proto(self, *outputs: str) -> onnx.ModelProto:
        return nets.model_of(self.nodes, {"x": ["N", 3, "H", "W"]}, outputs, self.stored)


def test_a_pooling_ends_its_stage(tmp_path: Path) -> None:
    net, value = Net(), "x"
    for stage, (inputs, outputs) in enumerate([(3, 4), (4, 5), (5, 6)], start=1):
        for number in (1, 2):
            name = f"conv{stage}_{number}"
            value = net.conv(value, name, inputs if number == 1 else outputs, outputs)
            value = net.add("Relu", [value], f"relu{stage}_{number}")
        value = net.add("MaxPool", [value], f"pool{stage}", kernel_shape=[2, 2], strides=[2, 2])
    found = ends(net.proto(value), tmp_path, (3, 32, 40), size=[32, 40])
    assert found == ["pool1", "pool2", "pool3"]


def test_with_strides_the_last_value_that_all_goes_through_counts(tmp_path: Path) -> None:
    """Residual blocks whose first layer keeps the old resolution in one of two branches."""
    net = Net()
    value = net.add("Relu", [net.conv("x", "stem", 3, 4, 2)], "stem_relu")
    for block in (1, 2, 3):
        inside = net.add("Relu", [net.conv(value, f"in{block}", 4, 4)], f"in{block}_relu")
        inside = net.conv(inside, f"down{block}", 4, 4, 2)
        beside = net.conv(value, f"skip{block}", 4, 4, 2)
        value = net.add("Add", [inside, beside], f"sum{block}")
        value = net.add("Relu", [value], f"out{block}")
    pooled = net.add("GlobalAveragePool", [value], "pooled")
    flat = net.add("Flatten", [pooled], "flat")
    net.stored["head_w"] = RNG.normal(0, 1, (5, 4)).astype(np.float32)
    net.add("Gemm", [flat, "head_w"], "scores", transB=1)
    found = ends(net.proto("scores"), tmp_path, (3, 64, 48), size=[64, 48])
    assert found == ["stem_relu", "out1", "out2", "out3", "scores"]


def test_without_stages_they_lie_evenly(tmp_path: Path) -> None:
    net, value = Net(), "x"
    for number in range(1, 11):
        value = net.conv(value, f"conv{number}", 3, 3)
        value = net.add("Relu", [value], f"relu{number}")
    found = ends(net.proto(value), tmp_path, (3, 16, 16), size=[16, 16])
    assert found == ["relu2", "relu4", "relu6", "relu8", "relu10"]


def test_behind_the_fork_of_two_heads_nothing_counts(tmp_path: Path) -> None:
    net = Net()
    value = net.add("Relu", [net.conv("x", "conv1", 3, 4, 2)], "relu1")
    value = net.add("Relu", [net.conv(value, "conv2", 4, 4, 2)], "relu2")
    value = net.add("Relu", [net.conv(value, "conv3", 4, 4, 2)], "relu3")
    net.conv(value, "boxes", 4, 4)
    net.conv(value, "masks", 4, 4)
    found = ends(net.proto("boxes", "masks"), tmp_path, (3, 32, 32), size=[32, 32])
    assert found == ["relu1", "relu2", "relu3"]


@pytest.mark.parametrize(
    ("which", "expected"),
    [("vector", ["active", "scores"]), ("board", ["tower1_relu", "tower2_relu", "head_relu"])],
)
def test_inputs_without_resolutions(which: str, expected: list[str], tmp_path: Path) -> None:
    assert ends(OTHERS[which].make(), tmp_path, OTHERS[which].shape) == expected
