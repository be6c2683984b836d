"""A batch of 1 is freed where images stay apart: onnxruntime on three images against one at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convlens.graph import passes
from convlens.graph.passes.batch import why_fixed
from graph.nets import classifier, model, numbers, op

ROUNDING = 1e-5  # relative: float32 sums in another order


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def normalised(proto: onnx.ModelProto) -> ir.Model:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    found = ir.serde.deserialize_model(copy)
    passes.normalise(found)
    return found


def is_free(found: ir.Model) -> bool:
    shape = found.graph.inputs[0].shape
    return shape is not None and not isinstance(shape[0], int)


def three(proto: onnx.ModelProto, seed: int = 0) -> NDArray[np.float32]:
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    return numbers(3, *dims[1:], seed=seed)


def check_free(proto: onnx.ModelProto) -> ir.Model:
    """The pass frees ``proto``, and three images together give what the file as it was gives for each."""
    found = normalised(proto)
    assert is_free(found), why_fixed(found)
    check_same(proto, found)
    return found


def check_same(proto: onnx.ModelProto, found: ir.Model) -> None:
    x = three(proto)
    name = proto.graph.input[0].name
    own = session(proto)
    each = [own.run(None, {name: x[i : i + 1]}) for i in range(3)]
    freed = ir.serde.serialize_model(found)
    together = session(freed)
    for declared in (value.shape[0] for value in together.get_outputs() if value.shape):
        assert not isinstance(declared, int)
    for index, array in enumerate(together.run(None, {name: x})):
        expected = np.concatenate([out[index] for out in each])
        if array.dtype.kind in "iub":
            np.testing.assert_array_equal(array, expected)
        else:
            limit = ROUNDING * float(np.abs(expected).max(initial=0))
            np.testing.assert_allclose(array, expected, rtol=0, atol=limit)


def check_kept(proto: onnx.ModelProto, *words: str) -> None:
    """The pass leaves ``proto`` as it is, and says why."""
    plain = ir.serde.deserialize_model(onnx.ModelProto.FromString(proto.SerializeToString()))
    passes.run(plain, [step for step in passes.ALL if step.name != "free_batch"])
    before = ir.serde.serialize_model(plain).SerializeToString(deterministic=True)
    assert "a batch of 1 made free" not in passes.run(plain, passes.ALL)
    assert ir.serde.serialize_model(plain).SerializeToString(deterministic=True) == before
    why = why_fixed(plain)
    assert why is not None
    for word in words:
        assert word in why


IMAGE = [1, 4, 6, 6]


def net(*nodes: onnx.NodeProto, image: Any = IMAGE, out: Any = ("y",), **weights: Any) -> onnx.ModelProto:
    return model(nodes, {"image": image}, out, {name: np.asarray(array) for name, array in weights.items()})


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


FREE = {
    "classifier": classifier(1),
    "flat_target": net(
        op("Reshape", "image s", "a"), op("Gemm", "a w", "y"), s=ints(1, 144), w=numbers(144, 3)
    ),
    "minus_one": net(op("Reshape", "image s", "y"), s=ints(1, -1)),
    "minus_one_first": net(op("Reshape", "image s", "y"), s=ints(-1, 144)),
    "allowzero": net(op("Reshape", "image s", "y", allowzero=1), s=ints(1, 4, 36)),
    "shuffle": net(
        op("Reshape", "image s", "a"),
        op("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        op("Reshape", "b t", "y"),
        s=ints(1, 2, 2, 6, 6),
        t=ints(1, 4, 6, 6),
    ),
    "pixels_as_rows": net(
        op("Transpose", "image", "a", perm=[0, 2, 3, 1]),
        op("Reshape", "a s", "b"),
        op("MatMul", "b w", "c"),
        op("Softmax", "c", "d", axis=1),
        op("Reshape", "d t", "y"),
        s=ints(-1, 4),
        t=ints(1, 36, 2),
        w=numbers(4, 2),
    ),
    "heads": net(  # T x N x C with the heads beside the images, as torch's MultiheadAttention has them
        op("Reshape", "image s", "a"),
        op("Transpose", "a", "b", perm=[2, 0, 1]),
        op("Reshape", "b heads", "c"),
        op("Transpose", "c", "q", perm=[1, 0, 2]),
        op("Transpose", "c", "k", perm=[1, 2, 0]),
        op("MatMul", "q k", "score"),
        op("Softmax", "score", "soft", axis=-1),
        op("MatMul", "soft q", "mixed"),
        op("Transpose", "mixed", "d", perm=[1, 0, 2]),
        op("Reshape", "d rows", "e"),
        op("Gemm", "e w", "f"),
        op("Reshape", "f back", "g"),
        op("Transpose", "g", "y", perm=[1, 0, 2]),
        s=ints(1, 4, 36),
        heads=ints(36, 2, 2),
        rows=ints(36, 4),
        back=ints(36, 1, 4),
        w=numbers(4, 4),
    ),
    "windows": net(
        op("Reshape", "image s", "a"),
        op("Transpose", "a", "b", perm=[0, 2, 4, 3, 5, 1]),
        op("Reshape", "b t", "c"),
        op("ReduceMean", "c", "m", axes=[1], keepdims=1),
        op("Sub", "c m", "d"),
        op("Reshape", "d u", "y"),
        s=ints(1, 4, 2, 3, 2, 3),
        t=ints(4, 9, 4),
        u=ints(1, 144),
    ),
    "sizes": net(op("Resize", "image - - s", "y", mode="linear"), s=ints(1, 4, 12, 9)),
    "scales": net(op("Resize", "image - s", "y", mode="nearest"), s=np.float32([1, 1, 2, 2])),
    "class_token": net(
        op("Reshape", "image s", "a"),
        op("Concat", "token a", "b", axis=1),
        op("Add", "b places", "y"),
        s=ints(1, 4, 36),
        token=numbers(1, 1, 36),
        places=numbers(1, 5, 36),
    ),
    "lstm": net(
        op("Squeeze", "image one", "a"),
        op("Transpose", "a", "b", perm=[2, 0, 1]),
        op("LSTM", "b w r - - h c", "d", hidden_size=3),
        op("Transpose", "d", "e", perm=[2, 0, 1, 3]),
        op("Reshape", "e s", "y"),
        image=[1, 4, 1, 6],
        one=ints(2),
        w=numbers(1, 12, 4),
        r=numbers(1, 12, 3),
        h=numbers(1, 1, 3),
        c=numbers(1, 1, 3),
        s=ints(1, 6, 3),
    ),
    "shape_of": net(
        op("Shape", "image", "a"),
        op("Gather", "a zero", "n"),
        op("Concat", "n rest", "s", axis=0),
        op("Reshape", "image s", "y"),
        zero=ints(0),
        rest=ints(-1),
    ),
    "expand": net(
        op("Shape", "image", "s"),
        op("Expand", "one s", "a"),
        op("Mul", "image a", "y"),
        one=numbers(1, 4, 1, 1),
    ),
    "best": net(
        op("GlobalMaxPool", "image", "a"),
        op("Flatten", "a", "b"),
        op("ArgMax", "b", "best", axis=1),
        op("TopK", "b two", "y places", axis=-1),
        out=("y", "places", "best"),
        two=ints(2),
    ),
    "upsample_like": net(
        op("MaxPool", "image", "a", kernel_shape=[2, 2], strides=[2, 2]),
        op("Shape", "image", "s"),
        op("Resize", "a - - s", "b"),
        op("Add", "image b", "y"),
    ),
    "einsum": net(
        op("Reshape", "image s", "a"),
        op("Einsum", "a w", "y", equation="nct,cd->ndt"),
        s=ints(1, 4, 36),
        w=numbers(4, 5),
    ),
    "norms": net(
        op("Reshape", "image s", "a"),
        op("InstanceNormalization", "a g h", "b"),
        op("Reshape", "b t", "c"),
        op("LayerNormalization", "c k", "y", axis=-1),
        s=ints(1, 2, 72),
        t=ints(1, 4, 6, 6),
        g=numbers(2),
        h=numbers(2),
        k=numbers(6),
    ),
}

KEPT = {
    "mean_of_all": (
        net(op("ReduceMean", "image", "y", axes=[0], keepdims=1)),
        "ReduceMean",
        "reduces the images",
    ),
    "one_row": (
        net(op("Squeeze", "image z", "a"), op("Unsqueeze", "a z", "y"), z=ints(0)),
        "Squeeze",
        "drops",
    ),
    "flat": (net(op("Reshape", "image s", "y"), s=ints(144)), "output 'y'", "along its first axis"),
    "time_first": (
        net(op("Reshape", "image s", "a"), op("Transpose", "a", "y", perm=[1, 0, 2]), s=ints(1, 4, 36)),
        "output 'y'",
    ),
    "no_images": (net(op("Shape", "image", "s"), op("Cast", "s", "y", to=1)), "Cast"),
    "softmax_over_images": (net(op("Softmax", "image", "y", axis=0)), "Softmax", "along the images"),
    "own_scale": (
        net(op("DynamicQuantizeLinear", "image", "q s z"), op("DequantizeLinear", "q s z", "y")),
        "DynamicQuantizeLinear",
        "one scale",
    ),
    "weights_for_places": (
        net(
            op("Transpose", "image", "a", perm=[2, 0, 1, 3]),
            op("Reshape", "a s", "b"),
            op("Mul", "b w", "c"),
            op("Reshape", "c t", "y"),
            s=ints(6, 4, 6),
            t=ints(1, 144),
            w=numbers(6, 1, 1),
        ),
        "along its first axis",
    ),
    "sum_of_images": (
        net(op("Reshape", "image s", "a"), op("MatMul", "w a", "y"), s=ints(1, 144), w=numbers(1, 1)),
        "MatMul",
        "sums",
    ),
    "indices": (
        net(op("MaxPool", "image", "y i", kernel_shape=[2, 2]), out=("y", "i")),
        "MaxPool",
        "whole batch",
    ),
    "cut": (
        net(op("Slice", "image a b c", "y"), a=ints(0), b=ints(1), c=ints(0)),
        "Slice",
        "cuts the images",
    ),
    "unknown": (net(op("NonZero", "image", "y")), "NonZero", "nothing is known"),
    "scaled_by_count": (
        net(
            op("Shape", "image", "s"),
            op("Cast", "s", "f", to=1),
            op("ReduceSum", "f", "t"),
            op("Mul", "image t", "y"),
        ),
        "Cast",
        "number of images",
    ),
}


def test_sizes_by_axes() -> None:
    proto = net(op("Resize", "image - - s", "y", mode="linear"), s=ints(1, 4, 12, 9))
    proto.opset_import[0].version = 18
    found = check_free(proto)
    assert [node.op_type for node in found.graph] == ["Resize"]  # what is read stays a constant


def test_a_constant_beside_images_before_there_was_expand() -> None:
    proto = net(op("Concat", "token image", "y", axis=1), token=numbers(1, 2, 6, 6))
    proto.opset_import[0].version = 7
    found = check_free(proto)
    assert "Tile" in [node.op_type for node in found.graph]


@pytest.mark.parametrize("case", FREE)
def test_freed(case: str) -> None:
    check_free(FREE[case])


@pytest.mark.parametrize("case", KEPT)
def test_kept(case: str) -> None:
    proto, *words = KEPT[case]
    check_kept(proto, *words)


def factors(draw: st.DrawFn, total: int) -> list[int]:
    """Sizes whose product is ``total``."""
    out: list[int] = []
    while total > 1 and len(out) < 4:
        size = draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
        out.append(size)
        total //= size
    return [*out, total] if total > 1 or not out else out


KINDS = ["Reshape", "Reshape", "Transpose", "Transpose", "Concat", "Token", "Mul", "MatMul", "Softmax"]
KINDS += ["ReduceMean", "Slice", "Unsqueeze", "Gather", "Relu"]


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    """Small graphs that move axes about, often ending with one row an image."""
    shape = [1, *(draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 3))))]
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, NDArray[Any]] = {}
    name, start = "image", list(shape)

    def constant(array: Any) -> str:
        arrays[f"c{len(arrays)}x"] = np.asarray(array)
        return f"c{len(arrays) - 1}x"

    def add(kind: str, reads: str, **attributes: Any) -> None:
        nonlocal name
        name = f"v{len(nodes)}x"
        nodes.append(op(kind, reads, name, **attributes))

    for _ in range(draw(st.integers(1, 7))):
        axis = draw(st.integers(0, len(shape) - 1))
        kind = draw(st.sampled_from(KINDS))
        if kind == "Reshape":
            new = factors(draw, int(np.prod(shape)))
            for _ in range(draw(st.integers(0, 2))):
                new.insert(draw(st.sampled_from([0, 0, *range(len(new) + 1)])), 1)
            written = list(new)
            if draw(st.booleans()):
                written[draw(st.integers(0, len(new) - 1))] = -1
            same = [i for i in range(min(len(new), len(shape))) if new[i] == shape[i] and written[i] != -1]
            if same and draw(st.booleans()):
                written[draw(st.sampled_from(same))] = 0
            add("Reshape", f"{name} {constant(ints(*written))}")
            shape = new
        elif kind == "Transpose":
            order = draw(st.permutations(range(len(shape))))
            add("Transpose", name, perm=list(order))
            shape = [shape[i] for i in order]
        elif kind == "Concat" and shape[axis] <= 4:
            add("Concat", f"{name} {name}", axis=axis)
            shape = [*shape[:axis], shape[axis] * 2, *shape[axis + 1 :]]
        elif kind == "Token":
            add("Concat", f"{constant(numbers(*shape[:axis], 1, *shape[axis + 1 :]))} {name}", axis=axis)
            shape = [*shape[:axis], shape[axis] + 1, *shape[axis + 1 :]]
        elif kind == "Mul":
            other = [size if draw(st.booleans()) else 1 for size in shape][draw(st.integers(0, len(shape))) :]
            add("Mul", f"{name} {constant(numbers(*other))}")
        elif kind == "MatMul" and len(shape) >= 2:
            add("MatMul", f"{name} {constant(numbers(shape[-1], 3))}")
            shape = [*shape[:-1], 3]
        elif kind == "Softmax":
            add("Softmax", name, axis=axis)
        elif kind == "ReduceMean":
            keep = draw(st.integers(0, 1)) if len(shape) > 1 else 1
            add("ReduceMean", name, axes=[axis], keepdims=keep)
            shape = [*shape[:axis], *[1] * keep, *shape[axis + 1 :]]
        elif kind == "Slice":
            add("Slice", f"{name} {constant(ints(0))} {constant(ints(1))} {constant(ints(axis))}")
            shape = [*shape[:axis], 1, *shape[axis + 1 :]]
        elif kind == "Unsqueeze":
            add("Unsqueeze", f"{name} {constant(ints(axis))}")
            shape = [*shape[:axis], 1, *shape[axis:]]
        elif kind == "Gather" and len(shape) > 1:
            add("Gather", f"{name} {constant(np.int64(0))}", axis=axis)
            shape = [*shape[:axis], *shape[axis + 1 :]]
        else:
            add("Relu", name)
    if draw(st.booleans()):
        add("Reshape", f"{name} {constant(ints(1, -1))}")
    return model(nodes, {"image": start}, [name], arrays)


@settings(max_examples=150, deadline=None)
@given(chains())
def test_whatever_is_freed_is_right(proto: onnx.ModelProto) -> None:
    session(proto)
    found = normalised(proto)
    if is_free(found):
        check_same(proto, found)
    else:
        assert why_fixed(found) is not None
