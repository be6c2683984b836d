"""Attention operators against onnxruntime, and where it has no kernel against ONNX's own evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from ops.models import ABSENT, Case, case, check_gradient, compare, feed, numbers, spread, torch_graph, x

W = numbers
MICROSOFT = "com.microsoft"
Q, K, V = x(2, 4, 3, 6), x(2, 2, 5, 6, seed=1), x(2, 2, 5, 4, seed=2)
PAST = (x(2, 2, 2, 6, seed=4), x(2, 2, 2, 4, seed=5))
FLAT = (x(2, 3, 24), x(2, 5, 12, seed=1), x(2, 5, 8, seed=2))
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
SOME = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
ALL = (23, 24, 25)

STANDARD = [
    case("Attention", Q, K, V, opsets=ALL),
    case("Attention", Q, K, V, scale=0.3),
    case("Attention", x(2, 2, 3, 6), K, V, outputs=3),
    *(
        case("Attention", Q, K, V, x(3, 5, seed=3), outputs=4, qk_matmul_output_mode=mode, softcap=cap)
        for mode in range(4)
        for cap in (0.0, 1.5)
    ),
    *(case("Attention", Q, K, V, SOME, outputs=4, qk_matmul_output_mode=mode) for mode in (0, 2, 3)),
    *(
        case("Attention", Q, K, V, mask, outputs=4, is_causal=1, qk_matmul_output_mode=mode)
        for mask in (SOME, x(3, 5), ABSENT)
        for mode in (2, 3)
    ),
    *(case("Attention", Q, K, V, x(*shape)) for shape in ((4, 3, 5), (2, 1, 3, 5), (1, 4, 3, 5))),
    case("Attention", Q, K, V, opsets=ALL, is_causal=1),
    case("Attention", x(2, 4, 7, 6), K, V, is_causal=1),
    case("Attention", Q, K, V, ABSENT, *PAST, opsets=ALL, outputs=3),
    case("Attention", Q, K, V, ABSENT, *PAST, opsets=ALL, outputs=3, is_causal=1),
    case("Attention", Q, K, V, x(3, 7), *PAST, outputs=3, is_causal=1),
    *(
        case("Attention", Q, K, V, ABSENT, ABSENT, ABSENT, np.array(n), opsets=(24, 25), is_causal=c)
        for n in ([3, 5], [2, 5])
        for c in (0, 1)
    ),
    case("Attention", *FLAT, opsets=ALL, **HEADS),
    case("Attention", *FLAT, x(3, 5), softmax_precision=1, **HEADS),
    case("Attention", *FLAT, ABSENT, *PAST, outputs=3, **HEADS),
]
STANDARD = [
    Case(c.op, c.inputs, c.opsets if c.opsets != (17,) else (24,), c.outputs, "", c.attributes)
    for c in STANDARD
]

ROTARY = [
    *(
        case("RotaryEmbedding", x(2, 3, 4, 6), W(2, 4, 3), W(2, 4, 3, seed=1), opsets=23, interleaved=i)
        for i in (0, 1)
    ),
    *(
        case(
            "RotaryEmbedding",
            data,
            W(8, width // 2),
            W(8, width // 2, seed=1),
            np.array([[0, 1, 2, 3], [4, 7, 2, 2]]),
            opsets=23,
            interleaved=i,
            **more,
        )
        for i in (0, 1)
        for data, width, more in (
            (x(2, 3, 4, 6), 6, {}),
            (x(2, 4, 18), 6, {"num_heads": 3}),
            (x(2, 3, 4, 6), 4, {"rotary_embedding_dim": 4, "num_heads": 3}),
            (x(2, 4, 18), 4, {"num_heads": 3, "rotary_embedding_dim": 4}),
        )
    ),
    *(
        case("RotaryEmbedding", data, places, W(8, 3), W(8, 3, seed=1), domain=MICROSOFT, interleaved=i)
        for i in (0, 1)
        for data in (x(2, 4, 18), x(2, 3, 4, 6))
        for places in (np.array([[0, 1, 2, 3], [4, 7, 2, 2]]), np.array([2]))
    ),
]

Q3, K3, V3 = x(2, 3, 8), x(2, 5, 8, seed=1), x(2, 5, 8, seed=2)
KEYS = feed([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], np.int32)
FUSED = [
    case("MultiHeadAttention", Q3, K3, V3),
    case("MultiHeadAttention", Q3, K3, V3, scale=0.4),
    case("MultiHeadAttention", Q3, K3, x(2, 5, 12)),
    case("MultiHeadAttention", Q3, K3, V3, W(24)),
    case("MultiHeadAttention", Q3, K3, V3, ABSENT, KEYS),
    case("MultiHeadAttention", Q3, K3, V3, ABSENT, feed([3, 5], np.int32)),
    case("MultiHeadAttention", Q3, K3, V3, W(24), KEYS, mask_filter_value=-3.0),
    case("MultiHeadAttention", Q3, K3, V3, ABSENT, KEYS, x(2, 2, 3, 5)),
    case("MultiHeadAttention", Q3, K3, V3, ABSENT, ABSENT, x(1, 1, 3, 5)),
    case("MultiHeadAttention", x(2, 5, 8), K3, V3, unidirectional=1),
    case("MultiHeadAttention", x(2, 5, 8), K3, V3, ABSENT, KEYS, unidirectional=1),
    case("MultiHeadAttention", x(2, 5, 8), x(2, 5, 8), V3, W(24), ABSENT, x(2, 2, 5, 5), unidirectional=1),
    case("MultiHeadAttention", Q3, x(2, 2, 5, 4), x(2, 2, 5, 4, seed=1)),
    case(
        "MultiHeadAttention",
        Q3,
        x(2, 3, 8, seed=3),
        x(2, 3, 8, seed=4),
        *[ABSENT] * 3,
        x(2, 2, 4, 4),
        x(2, 2, 4, 4, seed=1),
        outputs=3,
    ),
]
FUSED = [Case(c.op, c.inputs, (17,), c.outputs, MICROSOFT, c.attributes | {"num_heads": 2}) for c in FUSED]
BLOCK = (x(2, 5, 6), W(6, 24), W(24))
FUSED += [
    case("Attention", *more[0], domain=MICROSOFT, num_heads=2, **more[1])
    for more in (
        (BLOCK, {}),
        (BLOCK, {"scale": 0.3}),
        (BLOCK, {"unidirectional": 1}),
        ((*BLOCK, KEYS), {}),
        ((*BLOCK, KEYS), {"unidirectional": 1}),
        ((*BLOCK, feed([3, 5], np.int32)), {}),
        ((*BLOCK, ABSENT, ABSENT, x(2, 2, 5, 5)), {}),
        ((*BLOCK, ABSENT, ABSENT, x(1, 1, 5, 5)), {"unidirectional": 1}),
        ((*BLOCK, ABSENT, x(2, 2, 2, 3, 4)), {"outputs": 2}),
        ((*BLOCK, ABSENT, x(2, 2, 2, 3, 4)), {"outputs": 2, "unidirectional": 1}),
        (BLOCK, {"qkv_hidden_sizes": [6, 6, 12]}),
    )
]
CASES = [*STANDARD, *ROTARY, *FUSED]


@pytest.mark.parametrize(("one", "opset"), spread(CASES))
def test_agrees_with_onnxruntime(one: Case, opset: int, tmp_path: Path) -> None:
    compare(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(("one", "opset"), spread([c for c in CASES if c.smooth], latest=True))
def test_has_the_right_gradient(one: Case, opset: int, tmp_path: Path) -> None:
    check_gradient(one.model(opset), one.feeds, tmp_path)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        ((Q, K, V), {"left_window_size": 1}),
        ((Q, K, V), {"left_window_size": 0, "right_window_size": 1}),
        ((Q, K, V), {"right_window_size": 2, "is_causal": 1}),
        ((Q, K, V, x(3, 7), *PAST), {"left_window_size": 2}),
        ((Q, K, V, ABSENT, ABSENT, ABSENT, feed([3, 5], np.int64)), {"left_window_size": 1}),
        ((Q, K, V, x(3, 4)), {}),
        ((Q, K, V, x(5)), {}),
        ((Q, K, V, x(1, 4, 1, 5)), {}),
    ],
)
def test_windows_agree_with_the_specification(inputs: Any, attributes: Any, tmp_path: Path) -> None:
    """onnxruntime has no kernel for windows and for masks of these shapes."""
    one = case("Attention", *inputs, **attributes)
    model = one.model(25)
    (expected,) = ReferenceEvaluator(model).run(None, one.feeds)
    feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
    found = torch_graph(model, tmp_path).values(feeds, ["y0"])["y0"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-5)
    check_gradient(model, one.feeds, tmp_path)
