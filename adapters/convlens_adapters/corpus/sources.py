"""Nets written as ONNX text that the variants are made from; random weights, the same each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from convlens_adapters.corpus.edges import Edge

if TYPE_CHECKING:
    import onnx

_SMALL = """agraph (float[N, 3, 32, 32] x) => (float[N, 5] y) {
  a = Conv<pads = [1, 1, 1, 1]> (x, w, b)   a1 = Relu (a)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]> (a1)
  c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]> (p, w2, b2)   c1 = Relu (c)
  m = GlobalAveragePool (c1)   f = Flatten (m)
  y = Gemm<transB = 1> (f, w3, b3)
}"""

_RESIDUAL = """agraph (float[N, 3, 32, 32] x) => (float[N, 5] y) {
  a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)   a1 = Clip (a, low, high)
  d = Conv<pads = [1, 1, 1, 1], group = 12> (a1, wd, b)   d1 = HardSwish (d)
  e = Conv (d1, we, b)   s = Add (e, a1)   s1 = LeakyRelu<alpha = 0.1> (s)
  g = GlobalAveragePool (s1)   g1 = Conv (g, we, b)   g2 = Sigmoid (g1)   h = Mul (s1, g2)
  k = Concat<axis = 1> (h, a1)
  r = AveragePool<kernel_shape = [4, 4], strides = [4, 4]> (k)
  t = ReduceMean<axes = [2, 3], keepdims = 0> (r)
  l = MatMul (t, w3)   n = Add (l, b3)   y = Softmax<axis = 1> (n)
}"""

_SEGMENT = """agraph (float[1, 3, 24, 24] x) => (float[1, 4, 24, 24] y) {
  a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)   a1 = Relu (a)
  u = ConvTranspose<strides = [2, 2]> (a1, wu)
  z = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel"> (a1, , by)
  v = Concat<axis = 1> (u, z)   n = InstanceNormalization (v, g, g2)
  q = PRelu (n, slope)   y = Conv (q, wo)
}"""

_SPEECH = """agraph (float[1, 1, 200] x) => (float[1, 6] y) {
  a = Conv<pads = [4, 4], strides = [2]> (x, w, b)   a1 = Relu (a)
  t = Transpose<perm = [2, 0, 1]> (a1)
  o, h, c = LSTM<hidden_size = 6> (t, i, r)
  y = Squeeze (h, first)
}"""


def _net(body: str, weights: dict[str, tuple[int, ...]], **fixed: object) -> onnx.ModelProto:
    import numpy as np
    import onnx

    from convlens_adapters.corpus.group_edges import model

    made = model(Edge(body, weights), seed=3)
    for name, value in fixed.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return onnx.shape_inference.infer_shapes(made)


def _small() -> onnx.ModelProto:
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "w2": (12, 8, 3, 3), "b2": (12,), "w3": (5, 12), "b3": (5,)}
    return _net(_SMALL, shapes)


def _residual() -> onnx.ModelProto:
    import numpy as np

    shapes = {
        "w": (12, 3, 3, 3),
        "b": (12,),
        "wd": (12, 1, 3, 3),
        "we": (12, 12, 1, 1),
        "w3": (24, 5),
        "b3": (5,),
    }
    return _net(_RESIDUAL, shapes, low=np.float32(0), high=np.float32(6))


def _segment() -> onnx.ModelProto:
    import numpy as np

    shapes = {"w": (8, 3, 3, 3), "b": (8,), "wu": (8, 4, 2, 2), "g": (12,), "g2": (12,), "wo": (4, 12, 1, 1)}
    by, slope = np.array([1, 1, 2, 2], np.float32), np.full((12, 1, 1), 0.2, np.float32)
    return _net(_SEGMENT, shapes, by=by, slope=slope)


def _speech() -> onnx.ModelProto:
    import numpy as np

    return _net(
        _SPEECH,
        {"w": (10, 1, 9), "b": (10,), "i": (1, 24, 10), "r": (1, 24, 6)},
        first=np.array([0], np.int64),
    )


SOURCES: dict[str, Callable[[], onnx.ModelProto]] = {
    "small": _small,
    "residual": _residual,
    "segment": _segment,
    "speech": _speech,
}
