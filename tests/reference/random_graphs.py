"""Random graphs, grown operator by operator: what slides, what works place by place, what sees everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A random graph, grown operator by operator."""

    def __init__(self, rng: np.random.Generator, axes: int, side: int) -> None:
        self.rng, self.axes = rng, axes
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": (2, *([side] * axes))}

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def constant(self, array: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def slide(
        self, op: str, x: str, kernel: int, stride: int, pads: tuple[int, int], dilation: int
    ) -> str | None:
        channels, *extent = self.shapes[x]
        span = (kernel - 1) * dilation + 1
        ceil = int(op != "Conv" and self.rng.random() < 0.5)
        sizes = []
        for length in extent:
            room = length + sum(pads) - span
            steps = -(-room // stride) if ceil else room // stride
            if ceil and steps * stride >= length + pads[0]:
                steps -= 1
            sizes.append(steps + 1)
        if min(sizes) < 1:
            return None
        common: dict[str, Any] = {
            "kernel_shape": [kernel] * self.axes,
            "strides": [stride] * self.axes,
            "pads": [pads[0]] * self.axes + [pads[1]] * self.axes,
            "dilations": [dilation] * self.axes,
        }
        if op == "Conv":
            alone = self.rng.random() < 0.3
            out = channels if alone else int(self.rng.integers(1, 4))
            if dilation == 1 and self.rng.random() < 0.2:
                common = {
                    "kernel_shape": common["kernel_shape"],
                    "strides": common["strides"],
                    "auto_pad": str(self.rng.choice(["SAME_UPPER", "SAME_LOWER"])),
                }
                sizes = [-(-length // stride) for length in extent]
            shape = (out, 1 if alone else channels, *([kernel] * self.axes))
            weight = self.constant(self.rng.normal(0, 0.5, shape).astype(np.float32))
            bias = self.constant(self.rng.normal(0, 1, out).astype(np.float32))
            return self.add(
                "Conv", [x, weight, bias], (out, *sizes), group=channels if alone else 1, **common
            )
        if op == "AveragePool":
            common["count_include_pad"] = int(self.rng.random() < 0.5)
        return self.add(op, [x], (channels, *sizes), ceil_mode=ceil, **common)

    def step(self, values: list[str]) -> str | None:
        rng = self.rng
        x = values[int(rng.integers(max(0, len(values) - 3), len(values)))]
        shape = self.shapes[x]
        kind = rng.choice(
            ["Conv", "MaxPool", "AveragePool", "point", "join", "pad", "channels", "longer", "cut", "last"],
            p=[0.3, 0.08, 0.08, 0.14, 0.1, 0.04, 0.1, 0.08, 0.04, 0.04],
        )
        if kind == "channels":
            return self.channels(x)
        if kind == "longer":
            return self.longer(x)
        if kind == "cut":
            return self.cut(x)
        if kind == "last":
            return self.last(x)
        if kind in ("Conv", "MaxPool", "AveragePool"):
            kernel, stride, dilation = (int(rng.integers(1, high)) for high in (4, 3, 3))
            most = kernel - 1 if kind != "Conv" else 2
            front, back = (int(rng.integers(0, most + 1)) for _ in range(2))
            return self.slide(str(kind), x, kernel, stride, (front, back), dilation)
        if kind == "pad":
            amounts = [int(n) for n in rng.integers(0, 3, 2 * self.axes)]
            pads = np.array([0, 0, *amounts[: self.axes], 0, 0, *amounts[self.axes :]], np.int64)
            value = self.constant(np.array(rng.normal(), np.float32))
            pairs = zip(shape[1:], amounts, amounts[self.axes :], strict=False)
            sizes = tuple(n + a + b for n, a, b in pairs)
            return self.add("Pad", [x, self.constant(pads), value], (shape[0], *sizes))
        if kind == "join":
            alike = [name for name in values if self.shapes[name][1:] == shape[1:]]
            other = alike[int(rng.integers(len(alike)))]
            if self.shapes[other][0] == shape[0] and rng.random() < 0.6:
                return self.add(str(rng.choice(["Add", "Mul", "Max"])), [x, other], shape)
            return self.add("Concat", [x, other], (shape[0] + self.shapes[other][0], *shape[1:]), axis=1)
        if rng.random() < 0.3:
            scale = self.constant(rng.normal(1, 0.3, (shape[0], *([1] * self.axes))).astype(np.float32))
            return self.add("Mul", [x, scale], shape)
        if rng.random() < 0.3:  # different at every place, or along one axis
            own = [n if rng.random() < 0.7 else 1 for n in shape][int(rng.random() < 0.3) :]
            return self.add("Add", [x, self.constant(rng.normal(0, 1, own).astype(np.float32))], shape)
        return self.add(str(rng.choice(["Relu", "Sigmoid", "Tanh"])), [x], shape)

    def channels(self, x: str) -> str | None:
        """Something along the channels: split and joined, shuffled, some of them, normalised, weighed."""
        rng, shape = self.rng, self.shapes[x]
        count, extent = shape[0], shape[1:]
        kind = rng.choice(["split", "shuffle", "slice", "gather", "LRN", "Softmax", "mean", "excite"])
        if kind == "split" and count > 1:
            first = int(rng.integers(1, count))
            sizes = self.constant(np.array([first, count - first], np.int64))
            name = f"v{len(self.nodes)}"
            self.nodes.append(helper.make_node("Split", [x, sizes], [name, f"{name}b"], axis=1))
            self.shapes[name], self.shapes[f"{name}b"] = (first, *extent), (count - first, *extent)
            return self.add("Concat", [f"{name}b", name], shape, axis=1)
        if kind == "shuffle" and count % 2 == 0:
            groups = self.constant(np.array([-1, 2, count // 2, *extent], np.int64))
            back = self.constant(np.array([-1, *shape], np.int64))
            apart = self.add("Reshape", [x, groups], (2, count // 2, *extent))
            order = [0, 2, 1, *range(3, 3 + self.axes)]
            turned = self.add("Transpose", [apart], (count // 2, 2, *extent), perm=order)
            return self.add("Reshape", [turned, back], shape)
        if kind == "slice" and count > 1:
            numbers = [self.constant(np.array([n], np.int64)) for n in (1, count, 1, 1)]
            return self.add("Slice", [x, *numbers], (count - 1, *extent))
        if kind == "gather":
            places = rng.integers(0, count, int(rng.integers(1, 4)))
            return self.add("Gather", [x, self.constant(places)], (len(places), *extent), axis=1)
        if kind == "LRN":
            return self.add("LRN", [x], shape, size=3)
        if kind == "Softmax":
            return self.add("Softmax", [x], shape, axis=1)
        if kind == "mean":
            mean = self.add("ReduceMean", [x, self.constant(np.array([1], np.int64))], (1, *extent))
            return self.add("Mul", [x, mean], shape)
        if kind == "excite":
            mean = self.add("GlobalAveragePool", [x], (count, *([1] * self.axes)))
            return self.add("Mul", [x, self.add("Sigmoid", [mean], self.shapes[mean])], shape)
        return None

    def longer(self, x: str) -> str | None:
        """More places than before; only where the picture does not grow too large."""
        rng, (count, *extent) = self.rng, self.shapes[x]
        if max(extent) > {1: 60, 2: 24, 3: 8}[self.axes]:
            return None
        if rng.random() < 0.5:
            kernel, stride, dilation = (int(rng.integers(1, high)) for high in (5, 4, 3))
            full = (kernel - 1) * dilation + 1 - stride  # how much longer than a whole multiple
            front = int(rng.integers(0, max(0, full) + 1))
            more = int(rng.integers(0, stride)) if full >= 0 else min(stride - 1, -full)
            back = max(0, full - front + more)
            sizes = [n * stride + full - front - back + more for n in extent]
            if min(sizes) < 1:
                return None
            weight = self.constant(rng.normal(0, 0.5, (count, 2, *([kernel] * self.axes))).astype(np.float32))
            return self.add(
                "ConvTranspose",
                [x, weight],
                (2, *sizes),
                strides=[stride] * self.axes,
                dilations=[dilation] * self.axes,
                pads=[front] * self.axes + [back] * self.axes,
                output_padding=[more] * self.axes,
            )
        if self.axes == 2 and count % 4 == 0 and rng.random() < 0.5:
            mode = str(rng.choice(["DCR", "CRD"]))
            return self.add(
                "DepthToSpace", [x], (count // 4, *[2 * n for n in extent]), blocksize=2, mode=mode
            )
        modes = {1: ["nearest"], 2: ["nearest", "linear", "cubic"], 3: ["nearest", "linear"]}[self.axes]
        how = {
            "mode": str(rng.choice(modes)),
            "coordinate_transformation_mode": str(
                rng.choice(["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
            ),
            "nearest_mode": str(rng.choice(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])),
        }
        by = [int(rng.integers(1, 4)) for _ in extent]
        sizes = [n * factor for n, factor in zip(extent, by, strict=True)]
        if rng.random() < 0.5:
            scales = self.constant(np.array([1, 1, *by], np.float32))
            return self.add("Resize", [x, "", scales], (count, *sizes), **how)
        names = [f"v{len(self.nodes)}s", f"v{len(self.nodes)}t"]  # as files do whose batch is open
        first = [self.constant(np.array([n], np.int64)) for n in (0, 2)]
        self.nodes.append(helper.make_node("Shape", [x], [names[0]]))
        self.nodes.append(helper.make_node("Slice", [names[0], *first], [names[1]]))
        name = f"v{len(self.nodes)}u"
        self.nodes.append(
            helper.make_node("Concat", [names[1], self.constant(np.array(sizes))], [name], axis=0)
        )
        return self.add("Resize", [x, "", "", name], (count, *sizes), **how)

    def cut(self, x: str) -> str | None:
        """A part of the picture, or every other place of it."""
        rng, (count, *extent) = self.rng, self.shapes[x]
        step = [int(rng.integers(1, 3)) for _ in extent]
        first = [int(rng.integers(0, 3)) for _ in extent]
        if self.axes == 2 and rng.random() < 0.3 and not any(n % 2 for n in extent):
            return self.add("SpaceToDepth", [x], (4 * count, *[n // 2 for n in extent]), blocksize=2)
        sizes = [len(range(a, n, s)) for a, n, s in zip(first, extent, step, strict=True)]
        if min(sizes) < 1:
            return None
        axes = list(range(2, 2 + self.axes))
        numbers = [self.constant(np.array(n, np.int64)) for n in (first, [1 << 40] * self.axes, axes, step)]
        return self.add("Slice", [x, *numbers], (count, *sizes))

    def last(self, x: str) -> str:
        """A dense layer and a normalisation over the channels of each place, with channels last."""
        rng, (count, *extent) = self.rng, self.shapes[x]
        forth = [0, *range(2, 2 + self.axes), 1]
        back = [0, 1 + self.axes, *range(1, 1 + self.axes)]
        turned = self.add("Transpose", [x], (*extent, count), perm=forth)
        weight = self.constant(rng.normal(0, 0.7, (count, 3)).astype(np.float32))
        mixed = self.add("MatMul", [turned, weight], (*extent, 3))
        scale = self.constant(rng.normal(1, 0.3, 3).astype(np.float32))
        normal = self.add("LayerNormalization", [mixed, scale], (*extent, 3), axis=-1, epsilon=1e-2)
        return self.add("Transpose", [normal], (3, *extent), perm=back)

    def model(self, steps: int) -> tuple[onnx.ModelProto, list[str]]:
        values = ["x"]
        while len(values) <= steps:
            made = self.step(values)
            if made is not None:
                values.append(made)
        pooled = self.add("GlobalAveragePool", [values[-1]], (self.shapes[values[-1]][0], *([1] * self.axes)))
        score = self.add("Flatten", [pooled], self.shapes[pooled][:1])
        outputs = list(dict.fromkeys([score, values[-1], values[len(values) // 2]]))
        outputs = [name for name in outputs if name != "x"]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.shapes["x"]])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        return proto, outputs
