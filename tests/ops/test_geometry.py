"""Kernels, strides, dilations and paddings at random, against onnxruntime."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ops.models import case, compare, numbers, x

RANDOM = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


def pairs(low: int, high: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=2, max_size=2)


@st.composite
def slides(draw: st.DrawFn, dilated: bool = True) -> tuple[list[int], list[int], dict[str, Any]]:
    """A size, a kernel and the attributes of a sliding operator that fits."""
    size, kernel = draw(pairs(3, 12)), draw(pairs(1, 4))
    dilations = draw(pairs(1, 3)) if dilated else [1, 1]
    pads = [draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4)]
    for axis in range(2):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        assume(size[axis] + pads[axis] + pads[axis + 2] >= span)
    attributes = {"strides": draw(pairs(1, 4)), "pads": pads}
    return size, kernel, attributes | ({"dilations": dilations} if dilated else {})


@given(slide=slides())
@RANDOM
def test_conv(slide: Any, tmp_path: Any) -> None:
    size, kernel, attributes = slide
    one = case("Conv", x(1, 2, *size), numbers(2, 2, *kernel), **attributes)
    compare(one.model(17), one.feeds, tmp_path)


@given(slide=slides(), extra=pairs(0, 2))
@RANDOM
def test_conv_transpose(slide: Any, extra: list[int], tmp_path: Any) -> None:
    size, kernel, attributes = slide
    padding = [min(e, s - 1) for e, s in zip(extra, attributes["strides"], strict=True)]
    attributes = attributes | {"output_padding": padding}
    one = case("ConvTranspose", x(1, 2, *size), numbers(2, 2, *kernel), **attributes)
    compare(one.model(17), one.feeds, tmp_path)


@given(slide=slides(), ceil=st.integers(0, 1), indices=st.booleans())
@RANDOM
def test_max_pool(slide: Any, ceil: int, indices: bool, tmp_path: Any) -> None:
    size, kernel, attributes = slide
    one = case(
        "MaxPool",
        x(1, 2, *size),
        outputs=1 + indices,
        kernel_shape=kernel,
        ceil_mode=ceil,
        **attributes,
    )
    compare(one.model(17), one.feeds, tmp_path)


@pytest.mark.parametrize("opset", [11, 19])
@given(data=st.data(), ceil=st.integers(0, 1), include=st.integers(0, 1))
@RANDOM
def test_average_pool(data: Any, ceil: int, include: int, opset: int, tmp_path: Any) -> None:
    size, kernel, attributes = data.draw(slides(dilated=opset == 19))
    one = case(
        "AveragePool",
        x(1, 2, *size),
        kernel_shape=kernel,
        ceil_mode=ceil,
        count_include_pad=include,
        **attributes,
    )
    compare(one.model(opset), one.feeds, tmp_path)
