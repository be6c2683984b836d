"""What onnxruntime refuses is said with the node and with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import convlens
from convlens.errors import UnsupportedError
from graph.held import text
from graph.nets import numbers, put, refused

CUSTOM = """(float[N,3,H,W] x) => (float[N,4,H,W] y) { c = Conv(x, w)  y = my.domain.Sharpen(c) }"""


def custom() -> onnx.ModelProto:
    return text(CUSTOM, {"w": numbers(4, 3, 1, 1)}, domains=', "my.domain" : 1')


@pytest.mark.parametrize("job", ["certificate", "predict"])
def test_an_operator_that_is_nobodys(job: str, tmp_path: Path) -> None:
    model = convlens.load(put(custom(), tmp_path), device="cpu")
    with refused(UnsupportedError, "does not know operator my.domain.Sharpen", "node 'y'", "'convlens.ops'"):
        if job == "certificate":
            model.certificate()
        else:
            model.run("saliency", numbers(1, 3, 8, 8), "c:0")


def test_no_size_is_asked_for_where_none_would_help(tmp_path: Path) -> None:
    model = convlens.load(put(custom(), tmp_path), device="cpu")
    with pytest.raises(UnsupportedError) as caught:
        model.certificate()
    assert "--size" not in str(caught.value)


def test_double_precision_without_a_kernel(tmp_path: Path) -> None:
    proto = text(
        "(double[N,3,8,8] x) => (double[N,4,8,8] y) { y = Conv(x, w) }", {"w": np.ones((4, 3, 1, 1))}
    )
    model = convlens.load(put(proto, tmp_path), device="cpu")
    with refused(UnsupportedError, "Conv", "double precision", "float32"):
        model.certificate()
