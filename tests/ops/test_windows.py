"""Window rules against the gradient: a unit's field holds every input position that moves it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from convlens.graph.fields import fields
from convlens.ops import rule_of
from ops.models import floats, ints, model_of, numbers, torch_graph


def weight(*shape: int) -> Any:
    return numbers(*shape, low=0.5, high=1.5)


CONV3 = ("Conv", [weight(2, 2, 3, 3)], {"pads": [1, 1, 1, 1]})
POOL = ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]})
MEAN = ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]})

# name: steps, each an operator on the value before it; how far the field may exceed the gradient
# at either end (None: only containment is asked for)
CHAINS: dict[str, tuple[Sequence[Any], int | None]] = {
    "conv": ([CONV3], 0),
    "stride": ([("Conv", [weight(2, 2, 3, 2)], {"strides": [2, 3], "pads": [1, 0, 0, 1]})], 0),
    "dilation": ([("Conv", [weight(2, 2, 2, 3)], {"dilations": [3, 2]})], None),
    "same_upper": ([("Conv", [weight(2, 2, 3, 4)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"})], 0),
    "same_lower": ([("Conv", [weight(2, 2, 4, 3)], {"strides": [2, 2], "auto_pad": "SAME_LOWER"})], 0),
    "depthwise": ([("Conv", [weight(2, 1, 3, 3)], {"group": 2})], 0),
    "stack": ([CONV3, MEAN, CONV3, MEAN], 0),
    "max_pool": ([CONV3, POOL, CONV3], None),
    "transposed": ([("ConvTranspose", [weight(2, 2, 3, 3)], {"strides": [2, 2], "pads": [1, 0, 0, 1]})], 0),
    "transposed_even": ([MEAN, ("ConvTranspose", [weight(2, 2, 4, 4)], {"strides": [2, 2]})], 2),
    "output_padding": (
        [("ConvTranspose", [weight(2, 2, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1]})],
        None,
    ),
    "nearest": ([CONV3, ("Resize", [floats(), floats(1, 1, 2, 3)], {})], 0),
    "nearest_floor": (
        [
            CONV3,
            (
                "Resize",
                [floats(), floats(1, 1, 2, 1.5)],
                {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
            ),
            CONV3,
        ],
        2,
    ),
    "shrinking": ([CONV3, ("Resize", [floats(), floats(1, 1, 0.5, 0.3)], {}), CONV3], 4),
    "linear": ([("Resize", [floats(), floats(1, 1, 2, 2)], {"mode": "linear"}), CONV3], 1),
    "linear_corners": (
        [
            (
                "Resize",
                [floats(), floats(), ints(1, 2, 22, 15)],
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            )
        ],
        2,
    ),
    "cubic": ([("Resize", [floats(), floats(1, 1, 2, 1.7)], {"mode": "cubic"})], 2),
    "crop": (
        [
            (
                "Resize",
                [floats(0, 0, 0.2, 0, 1, 1, 0.8, 1), floats(), ints(1, 2, 6, 9)],
                {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
            )
        ],
        None,
    ),
    "pad": ([("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 0)], {}), CONV3], 0),
    "pad_negative": ([("Pad", [ints(0, 0, -1, 2, 0, 0, 1, -2)], {}), CONV3], 1),
    "pad_reflect": ([("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": "reflect"})], None),
    "pad_reflect_conv": ([("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}), CONV3], None),
    "pad_edge": ([CONV3, ("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": "edge"})], None),
    "pad_wrap": ([("Pad", [ints(0, 0, 1, 2, 0, 0, 3, 1)], {"mode": "wrap"})], None),
    "slice": ([CONV3, ("Slice", [ints(1, 2), ints(9, 8), ints(2, 3), ints(2, 1)], {}), CONV3], 2),
    "slice_from_end": ([("Slice", [ints(-7), ints(-1), ints(-1), ints(2)], {}), CONV3], 2),
    "slice_backwards": ([("Slice", [ints(-1), ints(-99), ints(2), ints(-1)], {}), CONV3], None),
    "space_to_depth": (
        [
            ("Slice", [ints(0), ints(10), ints(3)], {}),
            ("SpaceToDepth", [], {"blocksize": 2}),
            ("Conv", [weight(2, 8, 2, 3)], {}),
        ],
        0,
    ),
    "depth_to_space": (
        [
            ("Conv", [weight(8, 2, 3, 3)], {"pads": [1, 1, 1, 1]}),
            ("DepthToSpace", [], {"blocksize": 2}),
        ],
        0,
    ),
    "channels_last": (
        [
            CONV3,
            ("Transpose", [], {"perm": [0, 2, 3, 1]}),
            ("Relu", [], {}),
            ("Slice", [ints(2), ints(9), ints(1)], {}),
            ("Transpose", [], {"perm": [0, 3, 1, 2]}),
            MEAN,
        ],
        None,
    ),
    "residual": ([CONV3, CONV3, ("Add", ["v1"], {})], 0),
    "joined": ([CONV3, ("Concat", ["v0"], {"axis": 1})], None),
    "joined_in_space": ([CONV3, ("Concat", ["v0"], {"axis": 2})], None),
    "squeeze_excite": (
        [CONV3, ("GlobalAveragePool", [], {}), ("Sigmoid", [], {}), ("Mul", ["v1"], {})],
        None,
    ),
    "split": ([CONV3, ("Split", [ints(4, 6)], {"axis": 2})], None),
    "reduced": ([CONV3, ("ReduceMean", [], {"axes": [3], "keepdims": 0})], None),
    "gathered": ([CONV3, ("Gather", [np.array(2)], {"axis": 2})], None),
    "flattened": ([CONV3, ("Flatten", [], {})], None),
    "unsqueezed": ([CONV3, ("Unsqueeze", [ints(0, 3)], {}), ("Squeeze", [ints(0)], {})], 0),
    "tiled": ([CONV3, ("Tile", [ints(1, 1, 2, 1)], {})], None),
    "lrn": ([("LRN", [], {"size": 3})], 0),
    "lp_pool": ([("LpPool", [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]})], 0),
    "lp_norm": ([("LpNormalization", [], {"axis": 1})], 0),
    "layer_norm": ([("LayerNormalization", [weight(11)], {"axis": -1})], None),
    "spectrum": ([CONV3, ("Unsqueeze", [ints(4)], {}), ("DFT", [], {"axis": 2})], None),
    "instance_norm": ([("InstanceNormalization", [weight(2), weight(2)], {})], None),
    "cumulative": ([("CumSum", [np.array(2)], {})], None),
    "softmax": ([("Softmax", [], {"axis": 3})], None),
}
SIZE = (1, 2, 10, 11)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("sizes", ["known", "open"])
def test_field_holds_the_gradient(name: str, sizes: str, tmp_path: Path) -> None:
    steps, slack = CHAINS[name]
    model = _model(steps)
    if sizes == "open":
        slack = None
        for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.Clear()
    graph = torch_graph(model, tmp_path)
    output = f"v{len(steps)}"
    axes = fields(graph.graph, "v0", 1, rule_of)[output]
    moving = {f.axis: (i, f) for i, f in enumerate(axes) if f is not None and not f.whole}
    if slack is not None:
        assert {2, 3} <= moving.keys()
    image = torch.from_numpy(numbers(*SIZE, low=0.1)).requires_grad_()
    value = graph.values({"v0": image}, [output])[output]
    generator = np.random.default_rng(0)
    for flat in generator.choice(value.numel(), min(value.numel(), 60), replace=False):
        unit = np.unravel_index(flat, value.shape)
        (gradient,) = torch.autograd.grad(value[unit], image, retain_graph=True)
        for axis, (place, field) in moving.items():
            others = tuple(a for a in range(4) if a != axis)
            hit = np.flatnonzero(np.any(gradient.numpy() != 0, axis=others))
            if not len(hit):
                continue
            low = max(ceil(field.first + int(unit[place]) * field.step), 0)
            high = min(floor(field.last + int(unit[place]) * field.step), SIZE[axis] - 1)
            assert low <= hit[0], (axis, unit)
            assert hit[-1] <= high, (axis, unit)
            if slack is not None and axis >= 2:
                assert hit[0] - low <= slack, (axis, unit)
                assert high - hit[-1] <= slack, (axis, unit)


def _model(steps: Sequence[Any]) -> Any:
    nodes, stored = [], {}
    for i, (op, extras, attributes) in enumerate(steps):
        names = []
        for j, extra in enumerate(extras):
            names.append(extra if isinstance(extra, str) else f"c{i}_{j}")
            if not isinstance(extra, str):
                stored[names[-1]] = np.asarray(extra)
        outputs = [f"v{i + 1}"] + (["rest"] if op == "Split" else [])
        nodes.append(helper.make_node(op, [f"v{i}", *names], outputs, **attributes))
    return model_of(nodes, {"v0": numbers(*SIZE)}, [f"v{len(steps)}"], stored, 17)
