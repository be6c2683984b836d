"""The whole matrix of Resize against onnxruntime, every choice with every other.

A choice that onnxruntime itself refuses is left out here; what it runs has to be equal or refused,
and which ones are refused is written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convlens.errors import UnsupportedError
from ops.models import ABSENT, Case, Feed, case, floats, ints, reference, torch_graph

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# shape of the input, the resized axes, their scales, their sizes
SIZES: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[float, ...], ...], Any], ...] = (
    ((1, 2, 5, 6), (2, 3), ((2, 3), (1.7, 0.6), (0.2, 1), (0.5, 0.5)), ((7, 13), (1, 6), (3, 9), (10, 3))),
    ((1, 5, 6, 2), (1, 2), ((1.5, 0.6), (2, 2)), ((7, 4),)),
    ((5, 6), (0, 1), ((1.7, 0.6),), ((3, 9),)),
    ((1, 2, 7), (2,), ((1.5,), (0.4,)), ((1,),)),
    ((1, 1, 3, 4, 5), (2, 3, 4), ((1.5, 0.6, 2),), ((2, 4, 7),)),
)
INTEGERS = {"uint8": (0, 256), "int8": (-128, 128), "int32": (-5000, 5000)}


def described(mode: str) -> Iterator[dict[str, Any]]:
    """Every set of attributes of a mode at opset 19."""
    for how in COORDINATES:
        base: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": how}
        if how == "tf_crop_and_resize":
            base["extrapolation_value"] = 3.0
        if mode == "nearest":
            yield from (base | {"nearest_mode": rounding} for rounding in ROUNDINGS)
        elif mode == "linear":
            yield from (
                base | extra for extra in ({}, {"antialias": 1}, {"antialias": 1, "exclude_outside": 1})
            )
        else:
            for a, antialias, outside in product((-0.75, -0.5), (0, 1), (0, 1)):
                yield base | {"cubic_coeff_a": a, "antialias": antialias, "exclude_outside": outside}


def cases(mode: str, dtype: str = "float32", opset: int = 19) -> Iterator[tuple[Case, int]]:
    """Every resize of a mode: attributes by sizes."""
    for (shape, axes, scales, targets), how in product(SIZES, described(mode)):
        how = _known(how, opset)
        generator = np.random.default_rng(sum(shape))
        low, high = INTEGERS.get(dtype, (-2, 2))
        image = Feed(
            generator.integers(low, high, shape).astype(dtype)
            if dtype in INTEGERS
            else generator.uniform(low, high, shape).astype(dtype)
        )
        starts, ends = [0.0] * len(shape), [1.0] * len(shape)
        for axis in axes:
            starts[axis], ends[axis] = 0.2 - 0.3 * (axis % 2), 0.7 + 0.1 * axis
        roi = floats(*starts, *ends) if "crop" in how["coordinate_transformation_mode"] else floats()
        for factors in scales:
            full = dict(zip(axes, factors, strict=True))
            wanted = floats(*(full.get(axis, 1) for axis in range(len(shape))))
            yield case("Resize", image, roi, wanted, **how), opset
        for target in targets:
            full = dict(zip(axes, target, strict=True))
            wanted = ints(*(int(full.get(axis, size)) for axis, size in enumerate(shape)))
            yield case("Resize", image, roi, floats() if opset < 13 else ABSENT, wanted, **how), opset


def thinned(rows: Iterator[tuple[Case, int]]) -> Iterator[tuple[Case, int]]:
    """Every few rows, starting with the second."""
    return islice(rows, 1, None, THIN)


def _known(how: dict[str, Any], opset: int) -> dict[str, Any]:
    new = {"antialias"} if opset < 18 else set()
    return {name: value for name, value in how.items() if name not in new}


def check(rows: Iterator[tuple[Case, int]], folder: Path) -> tuple[int, set[str]]:
    """Hold every row against onnxruntime; how many agree, and the reasons of those that we refuse."""
    equal, refused = 0, set()
    for one, opset in rows:
        model = one.model(opset)
        try:
            (expected,) = reference(model, one.feeds)
        except Exception:  # onnxruntime has a kind of error for each of its codes
            continue
        try:
            with torch.no_grad():
                feeds = {name: torch.from_numpy(array) for name, array in one.feeds.items()}
                found = torch_graph(model, folder).values(feeds, ["y0"])["y0"].numpy()
        except UnsupportedError as error:
            refused.add(str(error).split(": ", 1)[1].split(" is not covered")[0])
            continue
        assert found.shape == expected.shape, one.label(opset)
        assert found.dtype == expected.dtype, one.label(opset)
        if expected.dtype.kind in "iu":
            assert np.array_equal(found, expected), (one.label(opset), found - expected.astype(int))
        else:
            allowed = 2e-3 if expected.dtype == np.float16 else 2e-5
            np.testing.assert_allclose(found, expected, allowed, allowed, err_msg=one.label(opset))
        equal += 1
    return equal, refused


THIN = 5  # every how many-th combination the quick tests take; coprime to the number of attributes
CROSSED = "a crop with channels last, which onnxruntime takes from the wrong axes,"


@pytest.mark.parametrize(
    ("mode", "opset", "count", "refused"),
    [
        ("nearest", 11, 500, set()),
        ("nearest", 19, 400, set()),
        ("linear", 13, 200, set()),
        ("linear", 19, 300, {CROSSED}),
        ("cubic", 18, 500, {CROSSED}),
    ],
)
def test_real_numbers(mode: str, opset: int, count: int, refused: set[str], tmp_path: Path) -> None:
    equal, reasons = check(thinned(cases(mode, opset=opset)), tmp_path)
    assert equal >= count / THIN
    assert reasons <= refused


@pytest.mark.parametrize(
    ("dtype", "mode", "count", "refused"),
    [
        ("uint8", "nearest", 400, set()),
        ("uint8", "linear", 300, {CROSSED}),
        ("uint8", "cubic", 300, {CROSSED, "cubic resize of uint8, which onnxruntime refuses too,"}),
        ("int8", "linear", 100, {"antialiased resize of int8"}),
        ("int32", "linear", 100, {"antialiased resize of int32"}),
        ("float16", "linear", 300, {CROSSED}),
    ],
)
def test_other_types(dtype: str, mode: str, count: int, refused: set[str], tmp_path: Path) -> None:
    equal, reasons = check(thinned(cases(mode, dtype)), tmp_path)
    assert equal >= count / THIN
    assert reasons <= refused


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", *INTEGERS])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_every_one(dtype: str, mode: str, tmp_path: Path) -> None:
    for opset in (11, 13, 18, 19):
        _, reasons = check(cases(mode, dtype, opset), tmp_path)
        known = {CROSSED, f"antialiased resize of {dtype}"}
        assert reasons <= known | {f"cubic resize of {dtype}, which onnxruntime refuses too,"}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("how", [c for c in COORDINATES if "crop" not in c])
def test_nearest_positions(how: str, rounding: str, tmp_path: Path) -> None:
    """Positions that fall half way between two pixels, where the last bit decides."""
    attributes = {"coordinate_transformation_mode": how, "nearest_mode": rounding}
    pairs = [(n, o) for n in (7, 10, 13) for o in (1, 6, 39)]
    rows = (
        (
            case(
                "Resize",
                Feed(np.arange(n, dtype=np.float32).reshape(1, 1, n)),
                floats(),
                floats(),
                ints(1, 1, o),
                **attributes,
            ),
            11,
        )
        for n, o in pairs
    )
    assert check(rows, tmp_path) == (len(pairs), set())


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2], [3]])
def test_axes_and_aspect(policy: str, axes: list[int], tmp_path: Path) -> None:
    image = Feed(np.random.default_rng(0).uniform(-2, 2, (1, 2, 5, 6)).astype(np.float32))
    rows = (
        (case("Resize", image, ABSENT, *size, axes=axes, keep_aspect_ratio_policy=policy, mode=mode), opset)
        for size in ((ABSENT, ints(*(7, 4)[: len(axes)])), (floats(*(1.5, 0.6)[: len(axes)]),))
        for mode in ("nearest", "linear", "cubic")
        for opset in (18, 19)
    )
    equal, refused = check(rows, tmp_path)
    assert equal >= 3 or (policy != "stretch" and min(axes) < 0)
    assert refused <= {"an aspect ratio kept along axes counted from the end"}


def test_a_long_axis_is_gathered(tmp_path: Path) -> None:
    image = Feed(np.random.default_rng(0).uniform(-2, 2, (1, 2, 3000)).astype(np.float32))
    rows = (
        (case("Resize", image, ABSENT, ABSENT, ints(1, 2, size), mode="linear"), 19) for size in (1000, 4001)
    )
    assert check(rows, tmp_path) == (2, set())
