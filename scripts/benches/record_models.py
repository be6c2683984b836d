"""ResNet-18 and MobileNetV2 as ONNX, with random weights whose activations are those of trained networks.

Speed depends on a network's shape and on how many of its values are zero or constant, not on what it was
trained for. So weights are drawn at random (He et al. 2015) and then every convolution is scaled channel by
channel until its outputs have mean 0 and variance 1 on noise (Krähenbühl et al. 2016), as batch
normalisation leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES, _OPSET = 224, 1000, 18
_BATCH = 4  # of the noise on which weights are scaled


class _Net:
    """Nodes and weights in the making."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.convs: list[str] = []
        self._rng = np.random.default_rng(seed)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(self, x: str, given: int, channels: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        fan = given // group * kernel * kernel
        shape = (channels, given // group, kernel, kernel)
        place = f"{len(self.nodes)}"
        weight = self._rng.standard_normal(shape) * np.sqrt(2 / fan)
        self.weights["w" + place] = weight.astype(np.float32)
        self.weights["b" + place] = np.zeros(channels, np.float32)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        made = self.node("Conv", x, "w" + place, "b" + place, pads=pads, strides=strides, group=group)
        self.convs.append(made)
        return made

    def dense(self, x: str, given: int) -> str:
        self.weights["dense"] = (self._rng.standard_normal((CLASSES, given)) / given**0.5).astype(np.float32)
        flat = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.node("Gemm", flat, "dense", transB=1)

    def model(self, output: str) -> onnx.ModelProto:
        """The model with one output."""
        shape = ["N", 3, SIDE, SIDE]
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opset = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=9)

    def settle(self) -> None:
        """Scale every convolution, first to last."""
        x = self._rng.random((_BATCH, 3, SIDE, SIDE), dtype=np.float32)
        producer = {node.output[0]: node for node in self.nodes}
        for name in self.convs:
            data = self.model(name).SerializeToString()
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            (found,) = session.run([name], {"x": x})
            mean, spread = found.mean(axis=(0, 2, 3)), found.std(axis=(0, 2, 3)) + 1e-6
            _, weight, bias = producer[name].input
            self.weights[weight] /= spread[:, None, None, None]
            self.weights[bias] = (self.weights[bias] - mean) / spread


def _resnet18(net: _Net) -> str:
    x = net.node("Relu", net.conv("x", 3, 64, 7, 2))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    given = 64
    for channels in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and channels > 64 else 1
            inner = net.node("Relu", net.conv(x, given, channels, 3, stride))
            inner = net.conv(inner, channels, channels, 3)
            skip = net.conv(x, given, channels, 1, stride) if stride > 1 else x
            x = net.node("Relu", net.node("Add", inner, skip))
            given = channels
    return net.dense(x, given)


def _mobilenet_v2(net: _Net) -> str:
    net.weights["low"], net.weights["high"] = np.float32(0), np.float32(6)

    def clip(value: str) -> str:
        return net.node("Clip", value, "low", "high")

    x, given = clip(net.conv("x", 3, 32, 3, 2)), 32
    widths = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
    for wider, channels, blocks, first in [*widths, (6, 320, 1, 1)]:
        for block in range(blocks):
            stride, inner = first if block == 0 else 1, given * wider
            value = clip(net.conv(x, given, inner, 1)) if wider > 1 else x
            value = clip(net.conv(value, inner, inner, 3, stride, group=inner))
            value = net.conv(value, inner, channels, 1)
            x = net.node("Add", x, value) if stride == 1 and given == channels else value
            given = channels
    return net.dense(clip(net.conv(x, given, 1280, 1)), 1280)


BUILDERS: dict[str, Callable[[_Net], str]] = {"resnet18": _resnet18, "mobilenet_v2": _mobilenet_v2}


def made(name: str, folder: Path) -> Path:
    """The model's file in ``folder``, made if it is not there."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        net = _Net(0)
        output = BUILDERS[name](net)
        net.settle()
        onnx.save(net.model(output), path)
    return path
