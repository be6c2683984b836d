"""Graphs written by hand, as ONNX text: what exporters and hands leave in files at the edges of the format.

``WEIGHTS`` after the graph's name in a text is replaced by initializers that are drawn at random from a
fixed seed; ``weights`` gives their shapes. Each graph is small and stands for one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Edge:
    """One graph: the body in ONNX text, the shapes of random weights, opset and IR version."""

    body: str
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 17
    ir: int = 8
    domains: str = ""
    also_inputs: bool = False
    """Weights are listed among the inputs as well, as files before IR 4 have to."""


CONV = {"w": (6, 3, 3, 3), "b": (6,)}
_NET = "agraph (float[{n}, 3, 16, 16] x) => (float[{n}, 6, {s}, {s}] y)"


def _conv(attributes: str, side: int | str = 16, batch: str = "N", opset: int = 17, **more: object) -> Edge:
    """One convolution with a ReLU after it."""
    head = _NET.format(n=batch, s=side)
    body = f"{head} {{ c = Conv{attributes} (x, w, b)  y = Relu (c) }}"
    return Edge(body, CONV, opset, **more)  # type: ignore[arg-type]


def _chain(nodes: str, weights: Mapping[str, tuple[int, ...]] | None = None, **more: object) -> Edge:
    """Nodes between ``x`` (N x 3 x 16 x 16) and ``y``, whose shape is left out."""
    body = f"agraph (float[N, 3, 16, 16] x) => (float y) {{ {nodes} }}"
    return Edge(body, weights or CONV, **more)  # type: ignore[arg-type]


EDGES: dict[str, Edge] = {
    # convolution's padding
    "auto-pad-upper": _conv('<auto_pad = "SAME_UPPER", strides = [2, 2]>', 8),
    "auto-pad-lower": _conv('<auto_pad = "SAME_LOWER", strides = [2, 2]>', 8),
    "auto-pad-valid": _conv('<auto_pad = "VALID">', 14),
    "auto-pad-dilated": _conv('<auto_pad = "SAME_UPPER", dilations = [2, 2]>', 16),
    "asymmetric-pads": _conv("<pads = [0, 1, 2, 1]>", 16),
    "one-sided-pads": _conv("<pads = [0, 0, 1, 1], strides = [2, 2]>", 8),
    "explicit-kernel-shape": _conv("<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 1>"),
    "auto-pad-any-size": Edge(
        "agraph (float[N, 3, H, W] x) => (float[N, 6, h, w] y) "
        '{ y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b) }',
        CONV,
    ),
    "transposed-auto-pad": _chain(
        'c = Conv<pads = [1, 1, 1, 1]> (x, w, b) y = ConvTranspose<auto_pad = "SAME_UPPER", '
        "strides = [2, 2]> (c, u)",
        CONV | {"u": (6, 4, 3, 3)},
    ),
    "transposed-output-padding": _chain(
        "c = Conv<pads = [1, 1, 1, 1]> (x, w, b) "
        "y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1], group = 2> (c, u)",
        CONV | {"u": (6, 4, 3, 3)},
    ),
    "transposed-output-shape": _chain(
        "c = Conv<pads = [1, 1, 1, 1]> (x, w, b) "
        "y = ConvTranspose<strides = [2, 2], output_shape = [32, 32]> (c, u)",
        CONV | {"u": (6, 4, 3, 3)},
    ),
    # pooling
    "max-ceil": _chain(
        "c = Conv (x, w, b) y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (c)"
    ),
    "max-ceil-past-the-pad": _chain(
        "c = Conv<pads = [1, 1, 1, 1]> (x, w, b) "
        "y = MaxPool<kernel_shape = [2, 2], strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1> (c)"
    ),
    "max-same-lower": _chain(
        'c = Conv (x, w, b) y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER"> (c)'
    ),
    "max-dilated": _chain("c = Conv (x, w, b) y = MaxPool<kernel_shape = [2, 2], dilations = [3, 2]> (c)"),
    "average-ceil-with-pad": _chain(
        "c = Conv (x, w, b) y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], "
        "ceil_mode = 1, count_include_pad = 1> (c)",
        opset=19,
        ir=9,
    ),
    "average-one-sided": _chain(
        "c = Conv (x, w, b) y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]> (c)"
    ),
    "max-with-places": _chain(
        "c = Conv (x, w, b) m, places = MaxPool<kernel_shape = [2, 2], strides = [2, 2]> (c) "
        "y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]> (m, places)"
    ),
    "global-max-and-lp": _chain(
        "c = Conv (x, w, b) a = GlobalMaxPool (c) l = GlobalLpPool<p = 2> (c) y = Concat<axis = 1> (a, l)"
    ),
    # the order and names of things
    "unsorted": _chain(
        "y = Relu (b2) b2 = Conv<pads = [1, 1, 1, 1]> (a2, u) a2 = Conv (x, w, b)", CONV | {"u": (4, 6, 3, 3)}
    ),
    "weights-are-inputs": _conv("<pads = [1, 1, 1, 1]>", also_inputs=True),
    "ir3": _conv("<pads = [1, 1, 1, 1]>", also_inputs=True, ir=3, opset=8),
    "weight-that-is-a-default": Edge(
        "agraph (float[N, 3, 16, 16] x, float[1] gain) => (float[N, 6, 14, 14] y) "
        "<float[1] gain = {0.5}> { c = Conv (x, w, b) y = Mul (c, gain) }",
        CONV,
    ),
    "output-is-input": Edge(
        "agraph (float[N, 3, 16, 16] x) => (float[N, 3, 16, 16] x, float[N, 6, 14, 14] y) { y "
        "= Conv (x, w, b) }",
        CONV,
    ),
    "output-twice-inside": Edge(
        "agraph (float[N, 3, 16, 16] x) => (float[N, 6, 14, 14] c, float[N, 6, 14, 14] y) "
        "{ c = Conv (x, w, b) y = Identity (c) }",
        CONV,
    ),
    "output-is-a-weight": Edge(
        "agraph (float[N, 3, 16, 16] x) => (float[N, 6, 14, 14] y, float[6] b) { y = Conv (x, w, b) }", CONV
    ),
    "two-heads": Edge(
        "agraph (float[N, 3, 16, 16] x) => (float[N, 6, 14, 14] middle, float[N, 6, 1, 1] y) "
        "{ c = Conv (x, w, b) middle = Relu (c) y = GlobalAveragePool (middle) }",
        CONV,
    ),
    "unused-outputs": _chain("c = Conv (x, w, b) y, left = Split<axis = 1, num_outputs = 2> (c)", opset=18),
    "split-by-sizes": _chain(
        "sizes = Constant<value = int64[3] {1, 2, 3}> () c = Conv (x, w, b) "
        "p, q, r = Split<axis = 1> (c, sizes) y = Concat<axis = 1> (r, p)"
    ),
    "dead-node": _chain("c = Conv (x, w, b) never = Sigmoid (c) y = Relu (c)"),
    # where weights come from
    "constant-weights": Edge(
        "agraph (float[N, 1, 6, 6] x) => (float[N, 1, 5, 5] y) "
        "{ k = Constant<value = float[1, 1, 2, 2] {0.5, -1.0, 2.0, 0.25}> () y = Conv (x, k) }"
    ),
    "filled-weights": Edge(
        "agraph (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) "
        "{ s = Constant<value = int64[4] {4, 3, 3, 3}> () k = ConstantOfShape<value = float[1] "
        "{0.02}> (s) y = Conv (x, k) }"
    ),
    "identity-weights": _chain("v = Identity (w) y = Conv (x, v, b)"),
    "cast-weights": _chain("h = Cast<to = 10> (w) v = Cast<to = 1> (h) y = Conv (x, v, b)"),
    "scaled-weights": _chain("v = Mul (w, g) y = Conv (x, v, b)", CONV | {"g": (6, 1, 1, 1)}),
    "weights-of-a-run": Edge(
        "agraph (float[N, 4] x) => (float y) "
        "{ s = Constant<value = int64[4] {-1, 1, 2, 2}> () k = Reshape (x, s) y = Conv (image, k) }",
        {"image": (1, 1, 8, 8)},
    ),
    "scalar-constants": _chain(
        "two = Constant<value_float = 2.0> () i = Constant<value_ints = [0, 1]> () c = Conv (x, w, b) "
        "d = Gather<axis = 1> (c, i) y = Mul (d, two)"
    ),
    # shapes computed in the graph
    "flatten-by-shape": _chain(
        "c = Conv<strides = [4, 4]> (x, w, b) s = Shape (c) zero = Constant<value_int = 0> () "
        "n = Gather (s, zero) ax = Constant<value_ints = [0]> () n1 = Unsqueeze (n, ax) "
        "rest = Constant<value_ints = [-1]> () t = Concat<axis = 0> (n1, rest) y = Reshape (c, t)"
    ),
    "flatten-by-one": Edge(
        "agraph (float[1, 3, 16, 16] x) => (float[1, 96] y) "
        "{ c = Conv<strides = [4, 4]> (x, w, b) s = Constant<value_ints = [1, 96]> () y = Reshape (c, s) }",
        {"w": (6, 3, 4, 4), "b": (6,)},
    ),
    "allowzero": Edge(
        "agraph (float[1, 3, 16, 16] x) => (float[1, 6, 196] y) "
        "{ c = Conv (x, w, b) s = Constant<value_ints = [1, 6, -1]> () y = Reshape<allowzero = 1> (c, s) }",
        CONV,
    ),
    "reshape-zero-keeps": _chain(
        "c = Conv (x, w, b) s = Constant<value_ints = [0, 0, -1]> () y = Reshape (c, s)"
    ),
    "expand-by-shape": _chain(
        "c = Conv (x, w, b) g = GlobalAveragePool (c) s = Shape (c) e = Expand (g, s) y = Sub (c, e)"
    ),
    "slice-of-shape": _chain(
        "c = Conv (x, w, b) s = Shape<start = 2> (c) f = Cast<to = 1> (s) m = ReduceProd<keepdims = 0> (f) "
        "ax = Constant<value_ints = [2, 3]> () q = ReduceSum<keepdims = 1> (c, ax) y = Div (q, m)"
    ),
    "size-of-the-input": _chain(
        "c = Conv (x, w, b) s = Shape (x) t = Shape (c) i = Constant<value_ints = [2, 3]> () "
        "hw = Gather (s, i) "
        "j = Constant<value_ints = [0, 1]> () nc = Gather (t, j) z = Concat<axis = 0> (nc, hw) "
        'y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric"> (c, , , z)'
    ),
    # control flow, functions
    "if-constant": _chain(
        "c = Conv (x, w, b) flag = Constant<value = bool {1}> () y = If (flag) "
        "<then_branch = yes () => (float p) { p = Relu (c) }, else_branch = no () => (float q) "
        "{ q = Neg (c) }>"
    ),
    "if-by-rank": _chain(
        "c = Conv (x, w, b) s = Shape (c) n = Size (s) four = Constant<value_int = 4> () flag "
        "= Equal (n, four) "
        "y = If (flag) <then_branch = yes () => (float p) { p = Sigmoid (c) }, "
        "else_branch = no () => (float q) { q = Neg (c) }>"
    ),
    "if-by-value": _chain(
        "c = Conv (x, w, b) m = ReduceMean<keepdims = 0> (c) z = Constant<value_float = 0.0> "
        "() flag = Greater (m, z) "
        "y = If (flag) <then_branch = yes () => (float p) { p = Relu (c) }, "
        "else_branch = no () => (float q) { q = Neg (c) }>"
    ),
    # normalisation and activations with their corners
    "batchnorm-by-hand": _chain(
        "c = Conv (x, w, b) d = Sub (c, m) s = Sqrt (v2) e = Div (d, s) f = Mul (e, m) y = Add (f, m)",
        CONV | {"m": (6, 1, 1), "v2": (6, 1, 1)},
    ),
    "batchnorm-7": _chain(
        "c = Conv (x, w, b) y = BatchNormalization<epsilon = 0.001> (c, g, b, b, v2)",
        CONV | {"g": (6,), "v2": (6,)},
        opset=8,
        ir=4,
    ),
    "clip-6": _chain("c = Conv (x, w, b) y = Clip<min = 0.0, max = 6.0> (c)", opset=9, ir=4),
    "clip-one-side": _chain("top = Constant<value_float = 1.0> () c = Conv (x, w, b) y = Clip (c, , top)"),
    "softmax-11": _chain("c = Conv (x, w, b) y = Softmax<axis = 1> (c)", opset=11, ir=6),
    "softmax-13": _chain("c = Conv (x, w, b) y = Softmax<axis = 1> (c)", opset=13, ir=7),
    "prelu-per-channel": _chain("c = Conv (x, w, b) y = PRelu (c, s)", CONV | {"s": (6, 1, 1)}),
    "lrn": _chain("c = Conv (x, w, b) y = LRN<size = 3, alpha = 0.01> (c)"),
    "instance-norm": _chain("c = Conv (x, w, b) y = InstanceNormalization (c, g, b)", CONV | {"g": (6,)}),
    "mean-variance": _chain("c = Conv (x, w, b) y = MeanVarianceNormalization (c)"),
    "hard-sigmoid-swish": _chain(
        "c = Conv (x, w, b) h = HardSigmoid<alpha = 0.17, beta = 0.5> (c) y = Mul (c, h)"
    ),
    "dropout-with-mask": _chain("c = Conv (x, w, b) d, mask = Dropout (c) y = Relu (d)"),
    "dropout-7": _chain("c = Conv (x, w, b) d = Dropout<ratio = 0.5> (c) y = Relu (d)", opset=9, ir=4),
    # resizing and moving
    "upsample-9": _chain(
        "f = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}> () c = Conv (x, w, b) y = "
        'Upsample<mode = "nearest"> (c, f)',
        opset=9,
        ir=4,
    ),
    "upsample-linear": _chain(
        "f = Constant<value = float[4] {1.0, 1.0, 1.5, 2.0}> () c = Conv (x, w, b) y = "
        'Upsample<mode = "linear"> (c, f)',
        opset=9,
        ir=4,
    ),
    "resize-10": _chain(
        "f = Constant<value = float[4] {1.0, 1.0, 0.5, 0.5}> () c = Conv (x, w, b) y = "
        'Resize<mode = "nearest"> (c, f)',
        opset=10,
        ir=5,
    ),
    "resize-cubic": _chain(
        "f = Constant<value = float[4] {1.0, 1.0, 1.7, 1.3}> () c = Conv (x, w, b) "
        'y = Resize<mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1> (c, , f)'
    ),
    "pad-reflect": _chain(
        'p = Constant<value_ints = [0, 0, 2, 1, 0, 0, 1, 3]> () q = Pad<mode = "reflect"> (x, '
        "p) y = Conv (q, w, b)"
    ),
    "pad-negative": _chain(
        "p = Constant<value_ints = [0, 0, -1, 2, 0, 0, -2, 0]> () q = Pad (x, p) y = Conv (q, w, b)"
    ),
    "pad-2": _chain(
        "q = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1], value = 0.5> (x) y = Conv (q, w, b)",
        opset=7,
        ir=3,
        also_inputs=True,
    ),
    "depth-to-space": _chain(
        'c = Conv (x, w, b) y = DepthToSpace<blocksize = 2, mode = "CRD"> (c)', {"w": (8, 3, 3, 3), "b": (8,)}
    ),
    "space-to-depth": _chain("s = SpaceToDepth<blocksize = 2> (x) y = Conv (s, w)", {"w": (6, 12, 3, 3)}),
    "shuffle": _chain(
        "c = Conv (x, w, b) s = Constant<value_ints = [-1, 2, 3, 14, 14]> () r = Reshape (c, s) "
        "t = Transpose<perm = [0, 2, 1, 3, 4]> (r) e = Constant<value_ints = [-1, 6, 14, 14]> "
        "() y = Reshape (t, e)"
    ),
    "focus-slices": _chain(
        "st = Constant<value_ints = [0, 0]> () en = Constant<value_ints = "
        "[9223372036854775807, 9223372036854775807]> () "
        "ax2 = Constant<value_ints = [2, 3]> () by = Constant<value_ints = [2, 2]> () o = "
        "Constant<value_ints = [1, 1]> () "
        "p = Slice (x, st, en, ax2, by) q = Slice (x, o, en, ax2, by) z = Concat<axis = 1> (p, "
        "q) y = Conv (z, w)",
        {"w": (6, 6, 3, 3)},
    ),
    "slice-backwards": _chain(
        "st = Constant<value_ints = [-1]> () en = Constant<value_ints = [-9223372036854775807]> () "
        "ax3 = Constant<value_ints = [3]> () by = Constant<value_ints = [-1]> () "
        "f = Slice (x, st, en, ax3, by) y = Conv (f, w, b)"
    ),
    "einsum": _chain(
        'c = Conv (x, w, b) y = Einsum<equation = "nchw,dc->ndhw"> (c, m)', CONV | {"m": (4, 6)}
    ),
    "top-k": _chain(
        "c = Conv (x, w, b) f = Flatten (c) k = Constant<value_ints = [5]> () y, places = "
        "TopK<axis = 1> (f, k)"
    ),
    "arg-max-only": _chain("c = Conv (x, w, b) a = ArgMax<axis = 1, keepdims = 0> (c) y = Cast<to = 1> (a)"),
    "nhwc": Edge(
        "agraph (float[N, 16, 16, 3] x) => (float[N, 14, 14, 6] y) "
        "{ t = Transpose<perm = [0, 3, 1, 2]> (x) c = Conv (t, w, b) y = Transpose<perm = [0, "
        "2, 3, 1]> (c) }",
        CONV,
    ),
    "gemm-forms": _chain(
        "c = Conv<strides = [4, 4]> (x, w, b) f = Flatten (c) y = Gemm<alpha = 0.5, beta = "
        "2.0, transB = 1> (f, m, n)",
        {"w": (6, 3, 4, 4), "b": (6,), "m": (5, 96), "n": (1, 5)},
    ),
    "fused-conv": _chain(
        'y = com.microsoft.FusedConv<activation = "Relu", pads = [1, 1, 1, 1]> (x, w, b)',
        domains=', "com.microsoft" : 1',
    ),
    "gelu-of-microsoft": _chain(
        "c = Conv (x, w, b) y = com.microsoft.Gelu (c)", domains=', "com.microsoft" : 1'
    ),
    "gelu-20": _chain('c = Conv (x, w, b) y = Gelu<approximate = "tanh"> (c)', opset=20, ir=9),
    "reduce-l2-18": _chain(
        "a = Constant<value_ints = [1]> () c = Conv (x, w, b) n = ReduceL2<keepdims = 1> (c, "
        "a) y = Div (c, n)",
        opset=18,
    ),
    "reduce-l2-7": _chain(
        "c = Conv (x, w, b) n = ReduceL2<axes = [1], keepdims = 1> (c) y = Div (c, n)", opset=9, ir=4
    ),
    "where-mask": _chain(
        "z = Constant<value_float = 0.1> () c = Conv (x, w, b) m = Greater (c, z) k = Mul (c, "
        "z) y = Where (m, c, k)"
    ),
    "grid-sample": _chain(
        "c = Conv (x, w, b) t = Constant<value = float[1, 2, 3] {0.9, 0.1, 0.0, -0.1, 1.1, 0.1}> () "
        "s = Constant<value_ints = [1, 6, 10, 10]> () g = AffineGrid<align_corners = 0> (t, s) "
        'y = GridSample<mode = "linear"> (c, g)',
        opset=20,
        ir=9,
    ),
    "lstm-over-width": _chain(
        "c = Conv<strides = [4, 4]> (x, w, b) s = Constant<value_ints = [0, 24, 4]> () r = Reshape (c, s) "
        "q = Transpose<perm = [2, 0, 1]> (r) y, h, cell = LSTM<hidden_size = 5, direction = "
        '"bidirectional"> (q, i, k, l)',
        {"w": (6, 3, 4, 4), "b": (6,), "i": (2, 20, 24), "k": (2, 20, 5), "l": (2, 40)},
    ),
    "newest-opset": _conv("<pads = [1, 1, 1, 1]>", opset=26, ir=13),
    "opset-7": _conv("<pads = [1, 1, 1, 1]>", opset=7, ir=3, also_inputs=True),
    "fixed-batch-4": Edge(
        "agraph (float[4, 3, 16, 16] x) => (float[4, 6, 14, 14] y) { c = Conv (x, w, b) y = Relu (c) }", CONV
    ),
    "rows-influence-each-other": _chain(
        "a = Constant<value_ints = [0]> () c = Conv (x, w, b) m = ReduceMean<axes = [0], "
        "keepdims = 1> (c) y = Sub (c, m)"
    ),
    "custom-operator": _chain("c = Conv (x, w, b) y = my.domain.Sharpen (c)", domains=', "my.domain" : 1'),
}
