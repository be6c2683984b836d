"""Every backend test of the ONNX package, in the PyTorch graph: equal, or refused, never wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from ops.backend import Verdict, judge, node_cases, stored_cases

MODULES = (
    "argmax", "cast", "clip", "compress", "concat", "cumsum", "depthtospace", "div", "dropout", "einsum",
    "expand", "gather", "gatherelements", "gathernd", "gemm", "isinf", "logsoftmax", "matmul", "mod",
    "nonzero", "onehot", "pad", "pow", "prelu", "reduce_log_sum_exp", "reducemax", "reducemean", "reducesum",
    "reshape", "resize", "scatterelements", "scatternd", "shape", "slice", "softmax", "split",
    "squeeze", "tile", "topk", "trilu", "unsqueeze", "upsample", "where",
)  # fmt: skip

NOT_A_NETWORK = {
    "Bernoulli": "random",
    "ImageDecoder": "reads files",
    "NegativeLogLikelihoodLoss": "training",
    "RandomUniformLike": "random",
    "SoftmaxCrossEntropyLoss": "training",
    "TfIdfVectorizer": "text",
    "ai.onnx.ml.": "tables, not pictures",
    "ai.onnx.preview.": "training, or not settled",
}
"""Operators that are not in the table, and why."""

REFUSED = (
    "training mode",
    "dynamic control flow",
    "is a list of tensors",
    "is text",
    "a cast to ",
    "element type uint64",
    "2^63",
    "float8",
    "float4",
    "quantising to a type that the file does not say",
    "its graph is malformed (input",  # sequences, of which inference makes tensors
    "ScalarType BFloat16",
    "PRelu node",  # the old broadcasting of opset 6, which onnxruntime does not run
)
"""What may be refused: parts of the reasons."""


def hold(verdicts: Iterable[Verdict], least: float) -> None:
    """No wrong answer and no stray exception, no reason that is not written down, and most are equal."""
    found = list(verdicts)
    for kind in ("wrong", "crashed"):
        assert [(one.name, one.why) for one in found if one.kind == kind] == []
    absent = Counter(one.why for one in found if one.kind == "absent")
    assert [why for why in absent if not any(name in why for name in NOT_A_NETWORK)] == []
    strange = [one for one in found if one.kind == "refused" and not any(why in one.why for why in REFUSED)]
    assert [(one.name, one.why) for one in strange] == []
    counts = Counter(one.kind for one in found)
    assert counts["equal"] >= least * (len(found) - counts["absent"] - counts["untold"]), counts


def test_nodes_of_common_operators(tmp_path: Path) -> None:
    hold((_judged(one, tmp_path) for one in node_cases(*MODULES)), 0.9)


@pytest.mark.slow
def test_every_node(tmp_path: Path) -> None:
    hold((_judged(one, tmp_path) for one in node_cases()), 0.9)


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator", "simple"])
def test_stored_models(kind: str, tmp_path: Path) -> None:
    rows = (
        judge(name, model, inputs, outputs, tmp_path)
        for name, model, pairs in stored_cases(kind)
        for inputs, outputs in pairs
    )
    hold(rows, 0.5 if kind == "simple" else 0.9)


def _judged(one: object, folder: Path) -> Verdict:
    name, model, data = (getattr(one, field) for field in ("name", "model", "data_sets"))
    verdicts = [judge(name, model, inputs, outputs, folder) for inputs, outputs in data]
    return next((verdict for verdict in verdicts if verdict.kind != "equal"), verdicts[0])
