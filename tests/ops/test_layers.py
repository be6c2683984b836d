"""Convolutions, pools, activations, dense layers and normalisation against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops.models import (
    ABSENT,
    Case,
    case,
    check_gradient,
    compare,
    feed,
    numbers,
    spread,
    x,
)

W = numbers
MICROSOFT = "com.microsoft"
BOTH = (7, 11, 22)

CONVOLUTIONS = [
    case("Conv", x(2, 3, 7, 8), W(4, 3, 3, 3), opsets=BOTH),
    case("Conv", x(1, 3, 7, 8), W(4, 3, 3, 3), W(4), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", x(1, 3, 7, 8), W(4, 3, 3, 2), W(4), pads=[2, 0, 1, 1], strides=[2, 1]),
    case("Conv", x(1, 3, 9, 9), W(4, 3, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
    case("Conv", x(1, 3, 9, 9), W(4, 3, 3, 3), dilations=[2, 2], pads=[0, 1, 2, 3]),
    case("Conv", x(1, 4, 7, 7), W(6, 2, 3, 3), W(6), group=2),
    case("Conv", x(1, 4, 7, 7), W(4, 1, 3, 3), W(4), group=4, pads=[1, 1, 1, 1]),
    case("Conv", x(1, 4, 7, 7), W(8, 1, 5, 5), group=4, auto_pad="SAME_UPPER"),
    *(
        case("Conv", x(1, 2, *size), W(3, 2, *kernel), opsets=BOTH, auto_pad=auto, strides=[2, 2])
        for auto in ("SAME_UPPER", "SAME_LOWER")
        for size in ((7, 9), (8, 6))
        for kernel in ((3, 3), (2, 4))
    ),
    case("Conv", x(1, 2, 9, 8), W(3, 2, 3, 3), auto_pad="VALID", strides=[2, 2]),
    case("Conv", x(1, 3, 11), W(4, 3, 3), W(4), pads=[1, 2], strides=[2]),
    case("Conv", x(1, 2, 5, 6, 7), W(4, 2, 3, 3, 3), W(4), pads=[1, 1, 1, 1, 1, 1]),
    case("Conv", x(1, 2, 5, 6, 7), W(4, 2, 3, 2, 3), pads=[0, 1, 0, 1, 0, 1], strides=[1, 2, 1]),
    case("Conv", x(1, 3, 7, 8), x(4, 3, 3, 3), x(4), pads=[0, 1, 1, 1]),
    case("Conv", x(1, 3, 7, 8), W(4, 3, 3, 3), x(4), pads=[1, 1, 1, 1]),
    case("Conv", x(1, 3, 7, 8), x(4, 3, 3, 3), W(4)),
]

TRANSPOSED = [
    case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 3, 3), opsets=BOTH),
    case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 3, 3), W(2), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 3, 3), strides=[2, 3], pads=[0, 1, 2, 0]),
    case(
        "ConvTranspose",
        x(1, 3, 4, 5),
        W(3, 2, 3, 3),
        W(2),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 1],
    ),
    case("ConvTranspose", x(1, 3, 4, 4), W(3, 2, 2, 2), strides=[3, 3], output_padding=[2, 1]),
    case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10]),
    case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 3, 3), strides=[2, 2], output_shape=[7, 9]),
    case(
        "ConvTranspose",
        x(1, 3, 4, 5),
        W(3, 2, 3, 3),
        strides=[2, 2],
        output_shape=[9, 12],
        auto_pad="SAME_UPPER",
    ),
    *(
        case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, *k), auto_pad=auto, strides=[2, 2], **more)
        for auto in ("SAME_UPPER", "SAME_LOWER")
        for k in ((3, 3), (4, 5))
        for more in ({}, {"output_shape": [8, 9]})
    ),
    *(
        case("ConvTranspose", x(1, 3, 4, 5), W(3, 2, 1, 2), auto_pad=auto, strides=[2, 3])
        for auto in ("SAME_UPPER", "SAME_LOWER")  # a kernel narrower than the stride
    ),
    case("ConvTranspose", x(1, 4, 4, 5), W(4, 3, 3, 3), group=2, dilations=[2, 2]),
    case("ConvTranspose", x(1, 4, 4, 5), W(4, 1, 4, 4), group=4, strides=[2, 2], pads=[1] * 4),
    case("ConvTranspose", x(1, 3, 6), W(3, 2, 4), W(2), strides=[2], pads=[1, 1]),
    case("ConvTranspose", x(1, 2, 3, 3, 4), W(2, 2, 2, 2, 2), strides=[2, 2, 2]),
]

POOLS = [
    case("MaxPool", x(1, 2, 7, 8), opsets=(7, 8, 10, 12, 22), kernel_shape=[3, 3]),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", x(1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    case("MaxPool", x(1, 2, 8, 8), opsets=(10, 12), kernel_shape=[2, 3], dilations=[2, 2]),
    case("MaxPool", x(1, 2, 11), kernel_shape=[3], strides=[2], pads=[1, 0]),
    case("MaxPool", x(1, 2, 5, 6, 7), kernel_shape=[2, 2, 3], strides=[2, 2, 2]),
    *(
        case(
            "MaxPool",
            x(1, 2, *size),
            opsets=(10, 12, 22),
            kernel_shape=[3, 2],
            strides=[2, 3],
            pads=pads,
            ceil_mode=1,
        )
        for size in ((6, 7), (7, 8), (8, 6))
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1])
    ),
    *(
        case("MaxPool", x(1, 2, *s), opsets=(8, 12), auto_pad=a, kernel_shape=k, strides=[2, 2])
        for a in ("SAME_UPPER", "SAME_LOWER")
        for s, k in (((7, 9), [3, 3]), ((8, 6), [2, 4]), ((7, 7), [2, 3]))
    ),
    *(
        case("MaxPool", x(2, 3, *size), opsets=(8, 12), outputs=2, kernel_shape=k, strides=k, **more)
        for size, k, more in (
            ((7, 8), [2, 2], {}),
            ((7, 8), [3, 3], {"pads": [1, 0, 1, 1]}),
            ((9,), [2], {}),
            ((4, 5, 6), [2, 2, 2], {"pads": [0, 1, 0, 0, 1, 0]}),
        )
    ),
    case("AveragePool", x(1, 2, 7, 8), opsets=(7, 10, 11, 19, 22), kernel_shape=[3, 3]),
    *(
        case(
            "AveragePool",
            x(1, 2, *size),
            opsets=opsets,
            kernel_shape=[3, 2],
            strides=[2, 3],
            pads=pads,
            count_include_pad=include,
            **ceil,
        )
        for size in ((6, 7), (7, 8), (8, 6))
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1])
        for include in (0, 1)
        for ceil, opsets in (({"ceil_mode": 1}, (11, 19)), ({}, (7, 22)))
    ),
    *(
        case(
            "AveragePool",
            x(1, 2, *s),
            opsets=(7, 19),
            auto_pad=a,
            kernel_shape=k,
            strides=[2, 2],
            count_include_pad=i,
        )
        for a in ("SAME_UPPER", "SAME_LOWER")
        for i in (0, 1)
        for s, k in (((7, 9), [3, 3]), ((8, 6), [2, 4]))
    ),
    *(
        case(pool, x(1, 2, *s), opsets=22, auto_pad=a, kernel_shape=k, strides=t, dilations=d, ceil_mode=c)
        for pool in ("MaxPool", "AveragePool", "LpPool")
        for a in ("SAME_UPPER", "SAME_LOWER")
        for c in (0, 1)
        for s, k, t, d in (
            ((7, 8), [3, 2], [1, 2], [2, 1]),
            ((6, 7), [2, 3], [3, 2], [2, 2]),
            ((6, 8), [1, 2], [3, 4], [2, 2]),
        )
    ),
    case("MaxPool", x(1, 2, 8), opsets=12, outputs=2, auto_pad="SAME_UPPER", kernel_shape=[2], strides=[4]),
    case("AveragePool", x(1, 2, 9, 9), opsets=19, kernel_shape=[3, 2], dilations=[2, 3]),
    case(
        "AveragePool",
        x(1, 2, 9, 9),
        opsets=19,
        kernel_shape=[3, 3],
        dilations=[2, 2],
        pads=[1, 2, 0, 1],
        strides=[2, 1],
    ),
    case("AveragePool", x(1, 2, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("AveragePool", x(1, 2, 5, 6, 7), kernel_shape=[2, 2, 3], pads=[0, 1, 0, 0, 0, 1]),
    case("GlobalAveragePool", x(2, 3, 5, 4), opsets=BOTH),
    case("GlobalAveragePool", x(2, 3, 5)),
    case("GlobalMaxPool", x(2, 3, 5, 4), opsets=BOTH),
    case("GlobalMaxPool", x(2, 3, 2, 5, 4)),
    *(
        case(
            "MaxPool", x(2, 2, *size), opsets=(8, 12, 22), outputs=2, kernel_shape=k, storage_order=1, **more
        )
        for size, k, more in (
            ((5, 6), [2, 3], {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
            ((7,), [2], {}),
            ((4, 5, 6), [2, 2, 2], {}),
        )
    ),
    *(
        case("MaxPool", feed(W(1, 2, 6, 7, low=0) * 60, kind), opsets=(12, 22), outputs=n, **how)
        for kind in (np.int8, np.uint8)
        for n in (1, 2)
        for how in (
            {"kernel_shape": [2, 2]},
            {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
        )
    ),
    case("LpPool", x(1, 2, 7, 8), opsets=(7, 11, 18, 22), kernel_shape=[3, 2]),
    *(
        case("LpPool", x(1, 2, 8, 9), opsets=(7, 11, 18), kernel_shape=[3, 2], p=p, strides=[2, 1], **more)
        for p in (1, 2, 3)
        for more in ({}, {"pads": [1, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"})
    ),
    *(
        case("LpPool", x(1, 2, *size), opsets=(18, 22), kernel_shape=k, **more)
        for size, k, more in (
            ((8, 9), [3, 2], {"dilations": [2, 3]}),
            ((8, 9), [3, 3], {"dilations": [2, 1], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
            ((8, 9), [3, 3], {"ceil_mode": 1, "strides": [2, 3]}),
            ((8, 8), [3, 3], {"ceil_mode": 1, "strides": [3, 2], "pads": [1, 1, 1, 1]}),
            ((9,), [3], {"strides": [2]}),
            ((5, 6, 4), [2, 3, 2], {"p": 1}),
        )
    ),
    *(
        case("GlobalLpPool", x(2, 3, *size), opsets=(7, 17), p=p)
        for size in ((5, 4), (5,))
        for p in (1, 2, 3)
    ),
    case("LpPool", feed(np.zeros((1, 1, 3, 3))), kernel_shape=[2, 2]),
]

_PLACES = feed([[[[5, 2], [8, 15]]], [[[16, 19], [24, 31]]]], np.int64)
UNPOOLS = [
    case("MaxUnpool", x(2, 1, 2, 2), _PLACES, opsets=(9, 11, 22), kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxUnpool", x(2, 1, 2, 2), _PLACES, opsets=11, kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4),
    case("MaxUnpool", x(2, 1, 2, 2), _PLACES, np.array([2, 1, 4, 4]), opsets=(9, 22), kernel_shape=[2, 2]),
    case("MaxUnpool", x(2, 1, 2, 2), _PLACES, np.array([2, 1, 5, 5]), kernel_shape=[2, 2], strides=[2, 2]),
    case("MaxUnpool", x(1, 1, 3), feed([[[1, 2, 5]]], np.int64), kernel_shape=[2], strides=[2]),
]

_I = feed([-5, -1, 0, 3, 9], np.int32)
ACTIVATIONS = [
    case("Relu", x(2, 3, 4), opsets=(7, 13, 14)),
    case("Clip", x(2, 3, 4), opsets=(7, 6), min=-0.5, max=0.75),
    case("Clip", x(2, 3, 4), opsets=7, max=0.75),
    case("Clip", x(2, 3, 4), opsets=7),
    case("Clip", x(2, 3, 4, high=9.0), np.float32(0), np.float32(6), opsets=(11, 13)),
    case("Clip", x(2, 3, 4), np.float32(0), opsets=(11, 13)),
    case("Clip", x(2, 3, 4), ABSENT, np.float32(0.5), opsets=(11, 13)),
    case("Clip", x(2, 3, 4), opsets=13),
    case("Clip", x(2, 3, 4), feed(-0.25), feed(0.5)),
    case("Clip", x(2, 3, 4), ABSENT, feed(0.5)),
    case("Clip", x(2, 3, 4), np.float32(-0.5), feed(0.5)),
    case("Clip", _I, np.int32(-2), np.int32(4)),
    case("Clip", _I, ABSENT, np.int32(4)),
    case("Clip", _I, np.int32(0)),
    case("LeakyRelu", x(2, 3, 4), opsets=(7, 16)),
    case("LeakyRelu", x(2, 3, 4), alpha=0.3),
    case("PRelu", x(2, 3, 4, 5), W(1), opsets=(7, 9, 16)),
    case("PRelu", x(2, 3, 4, 5), W(3, 1, 1), opsets=(7, 9, 16)),
    case("PRelu", x(2, 3, 4, 5), W(1, 3, 1, 1)),
    case("PRelu", x(2, 3, 4, 5), W(1, 1, 1)),
    case("PRelu", x(2, 3, 4, 5), W(3, 4, 5)),
    case("PRelu", x(2, 3, 4, 5), W(5)),
    case("PRelu", x(2, 3), W(3)),
    case("PRelu", x(2, 3), W(1)),
    case("PRelu", x(2, 3, 3), W(3)),
    case("PRelu", x(3), W(3)),
    case("PRelu", x(2, 3, 4, 5), x(3, 1, 1)),
    *(case(op, x(2, 3, 4)) for op in ("Elu", "Selu", "ThresholdedRelu", "Softplus", "Celu")),
    *(case(op, x(2, 3, 4), alpha=0.7) for op in ("Elu", "ThresholdedRelu", "Celu")),
    case("Selu", x(2, 3, 4), alpha=1.5, gamma=1.2),
    *(case(op, x(2, 3, 4)) for op in ("HardSwish", "HardSigmoid", "Softsign", "Sigmoid", "Tanh")),
    case("HardSigmoid", x(2, 3, 4), alpha=0.3, beta=0.4),
    case("Gelu", x(2, 3, 4), opsets=20),
    case("Gelu", x(2, 3, 4), opsets=20, approximate="tanh"),
    case("Gelu", x(2, 3, 4), domain="com.microsoft"),
    case("Mish", x(2, 3, 4), opsets=18),
    *(case(op, x(2, 3, 4), opsets=(7, 11, 13)) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *(case("Softmax", x(2, 3, 4), opsets=(11, 13), axis=axis) for axis in (0, 1, 2, -1, -2)),
    case("LogSoftmax", x(2, 3, 4), opsets=(11, 13), axis=0),
    case("Hardmax", feed([[1, 3, 3, 0], [2, 2, 1, 2]]), opsets=(11, 13), axis=1),
]

DENSE = [
    case("Gemm", x(2, 3), W(3, 4), W(4), opsets=(7, 9, 11, 13)),
    case("Gemm", x(2, 3), W(4, 3), W(4), transB=1, alpha=0.5, beta=2.0),
    case("Gemm", x(2, 3), W(3, 4), opsets=(11, 13), alpha=0.5),
    case("Gemm", x(3, 2), W(3, 4), W(4), transA=1),
    case("Gemm", x(3, 2), W(4, 3), W(1, 4), transA=1, transB=1),
    *(case("Gemm", x(2, 3), W(3, 4), W(*c)) for c in ((), (1,), (1, 4), (2, 1), (1, 1), (2, 4))),
    case("Gemm", x(2, 3), x(3, 4), x(2, 1), alpha=2.0, beta=0.5),
    case("Gemm", x(2, 3), W(3, 4), x(4)),
    case("MatMul", x(2, 3), W(3, 4), opsets=(7, 9, 13)),
    case("MatMul", x(2, 5, 3), W(3, 4)),
    case("MatMul", x(2, 5, 3), W(2, 3, 4)),
    case("MatMul", x(3), W(3, 4)),
    case("MatMul", x(2, 3), W(3)),
    case("MatMul", x(2, 5, 3), x(2, 3, 4)),
    case("Einsum", x(2, 3, 4), x(2, 4, 5), equation="bij,bjk->bik"),
]

_BN = (W(3), W(3, seed=1), W(3, seed=2), W(3, low=0.5))
NORMALISATIONS = [
    case("BatchNormalization", x(2, 3, 4, 5), *_BN, opsets=(7, 9, 14, 15), epsilon=1e-3),
    case("BatchNormalization", x(2, 3), *_BN),
    case("BatchNormalization", x(2, 3, 4, 5, 2), *_BN),
    case("InstanceNormalization", x(2, 3, 4, 5), W(3), W(3, seed=1), opsets=(7, 22)),
    case("InstanceNormalization", x(2, 3, 7), W(3), W(3, seed=1), epsilon=1e-2),
    case("InstanceNormalization", x(2, 3, 1, 1), W(3), W(3, seed=1), epsilon=1e-2),
    case("GroupNormalization", x(2, 6, 4, 5), W(3), W(3, seed=1), opsets=18, num_groups=3),
    case("GroupNormalization", x(2, 6, 4, 5), W(6), W(6, seed=1), opsets=21, num_groups=3),
    case("GroupNormalization", x(1, 6, 1, 1), W(6), W(6, seed=1), opsets=21, num_groups=6),
    case("LayerNormalization", x(2, 6, 4), W(4), W(4, seed=1), epsilon=1e-3),
    case("LayerNormalization", x(2, 6, 4), W(6, 4), W(6, 4, seed=1), axis=1),
    case("LayerNormalization", x(2, 6, 4), W(4)),
    *(
        case("LayerNormalization", x(2, 6, 4), W(*d), W(*d, seed=1), outputs=n, axis=a)
        for n in (2, 3)
        for a, d in ((-1, (4,)), (1, (6, 4)), (0, (2, 6, 4)))
    ),
    case(
        "BatchNormalization", x(2, 3, 4), *(W(3, 4, seed=s, low=0.5) for s in range(4)), opsets=7, spatial=0
    ),
    *(
        case("BatchNormalization", x(*s), *_BN, opsets=(14, 15), outputs=3, training_mode=1, **more)
        for s in ((2, 3, 4), (2, 3, 4, 5))
        for more in ({}, {"momentum": 0.3, "epsilon": 1e-2})
    ),
    *(case("RMSNormalization", x(2, 3, 4), W(4), opsets=(23, 24), **m) for m in ({}, {"epsilon": 1e-2})),
    case("RMSNormalization", x(2, 3, 4), W(3, 4), opsets=23, axis=-2),
    case("SimplifiedLayerNormalization", x(2, 3, 4), W(4), epsilon=1e-3),
    *(
        case("SkipLayerNormalization", x(2, 3, 4), x(2, 3, 4, seed=1), *more, outputs=n, domain=MICROSOFT)
        for n in (1, 4)
        for more in ((W(4),), (W(4), W(4, seed=1)), (W(4), W(4, seed=1), W(4, seed=2)))
    ),
    *(
        case("SkipSimplifiedLayerNormalization", x(2, 3, 4), x(2, 3, 4, seed=1), *more, domain=MICROSOFT)
        for more in ((W(4),), (W(4), W(4, seed=1)))
    ),
    case("MeanVarianceNormalization", x(2, 3, 4, 5), opsets=(9, 13)),
    case("MeanVarianceNormalization", x(2, 3, 4, 5), opsets=(9, 13), axes=[2, 3]),
    *(case("LpNormalization", x(2, 3, 4), opsets=(7, 22), p=p, axis=a) for p in (1, 2) for a in (0, 1, -1)),
    case("LpNormalization", feed([[0, 0, 0], [1, 2, -3]])),
    *(
        case("LRN", x(1, 7, *shape), opsets=(7, 13), size=size, alpha=0.2, beta=0.6, bias=1.5)
        for size in (1, 3, 5)
        for shape in ((4, 5), (1, 3))
    ),
]

CASES = [*CONVOLUTIONS, *TRANSPOSED, *POOLS, *UNPOOLS, *ACTIVATIONS, *DENSE, *NORMALISATIONS]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)
