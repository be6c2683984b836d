"""Short names: what they are for the exporters' habits, and that they are always unique and typable."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from convlens.graph.aliases import aliases
from convlens.graph.graph import Node
from convlens.graph.layers import Layer, Layers


def node(op: str, output: str, *inputs: str, name: str = "") -> Node:
    return Node(op, "", 17, name, inputs, (output,))


def test_torch_paths() -> None:
    found = aliases(
        [
            node("Conv", "/features/features.0/Conv_output_0", "image", "features.0.weight"),
            node("Relu", "/features/features.1/Relu_output_0"),
            node("Conv", "/features/features.28/Conv_output_0", "a", "features.28.weight"),
            node("GlobalAveragePool", "/avgpool/GlobalAveragePool_output_0"),
            node("Gemm", "logits", "a", "classifier.weight"),
        ]
    )
    assert list(found.values()) == ["features.0", "features.1", "features.28", "avgpool", "logits"]


def test_torch_operators_in_one_module() -> None:
    found = aliases(
        [
            node("Conv", "/layer1/layer1.0/conv1/Conv_output_0"),
            node("Add", "/layer1/layer1.0/Add_output_0"),
            node("Relu", "/layer1/layer1.0/relu/Relu_output_0"),
            node("Relu", "/layer1/layer1.0/relu/Relu_1_output_0"),
            node("Conv", "/layer2/layer2.0/conv1/Conv_output_0"),
        ]
    )
    assert list(found.values()) == [
        "layer1.0.conv1",
        "layer1.0",
        "layer1.0.relu",
        "layer1.0.relu.relu",
        "layer2.0.conv1",
    ]


def test_tf2onnx_scopes() -> None:
    found = aliases(
        [
            node("Conv", "functional_1/block1_conv1/BiasAdd:0"),
            node("Relu", "functional_1/block1_conv1/Relu:0"),
            node("MaxPool", "functional_1/block1_pool/MaxPool:0"),
        ]
    )
    assert list(found.values()) == ["block1_conv1", "block1_conv1.relu", "block1_pool"]


def test_numbered_values_take_the_name_of_their_weight() -> None:
    found = aliases(
        [
            node("Conv", "12", "input", "features.0.weight", name="Conv_0"),
            node("Relu", "13", "12", name="Relu_1"),
            node("Conv", "14", "13", "features.3.weight", name="Conv_2"),
            node("Gemm", "15", "14", "onnx::Gemm_77", name="Gemm_3"),
        ]
    )
    assert list(found.values()) == ["features.0", "relu1", "features.3", "gemm1"]


def test_numbered_values_take_the_name_of_their_node() -> None:
    found = aliases([node("Conv", "12", "x", "11", name="stem"), node("Relu", "val_3", name="/act")])
    assert list(found.values()) == ["stem", "act"]


def test_nothing_but_numbers() -> None:
    ops = ["Conv", "Relu", "Conv", "Relu"]
    found = aliases([node(op, str(10 + i), str(9 + i)) for i, op in enumerate(ops)])
    assert list(found.values()) == ["conv1", "relu1", "conv2", "relu2"]


def test_caffe_names_stay() -> None:
    names = ["conv1_1", "relu1_1", "pool5", "fc6", "prob"]
    assert list(aliases([node("Relu", name) for name in names]).values()) == names


def test_every_output_of_a_node_has_its_own() -> None:
    split = Node("Split", "", 17, "cut", ("x",), ("cut:0", "", "cut:1"))
    found = aliases([split])
    assert list(found) == ["cut:0", "cut:1"]
    assert len(set(found.values())) == 2


def test_names_that_differ_in_case_only() -> None:
    found = aliases([node("Relu", "Block"), node("Relu", "block"), node("Relu", "BLOCK")])
    assert len({alias.lower() for alias in found.values()}) == 3


def test_no_alias_is_the_onnx_name_of_another_value() -> None:
    nodes = [node("Conv", "net/stem:0"), node("Conv", "net/body:0"), node("Relu", "stem")]
    found = aliases(nodes)
    assert found["stem"] == "stem"
    assert found["net/stem:0"].lower() != "stem"


TEXT = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text("ab01/:._-,@[] Relu", min_size=1, max_size=12),
    st.from_regex(r"(/?(block|Block)\d?/){0,2}(Conv|relu|\d|-\d)(_output_0|:0|:1)?", fullmatch=True),
)


@given(
    st.lists(TEXT, min_size=1, max_size=12, unique=True),
    st.lists(
        st.tuples(st.sampled_from(["Conv", "Relu", "my.Op", "Add("]), TEXT, TEXT), min_size=12, max_size=12
    ),
)
@example(["-3", "3", "_3", "--layer"], [("Relu", "x", "y")] * 12)
def test_aliases_are_unique_and_typable(names: list[str], rest: list[tuple[str, str, str]]) -> None:
    nodes = [
        node(op, name, "x", weight, name=own) for name, (op, weight, own) in zip(names, rest, strict=False)
    ]
    found = aliases(nodes)
    assert list(found) == names
    assert len({alias.lower() for alias in found.values()}) == len(names)
    for alias in found.values():
        assert alias
        assert not set(alias) & set(":@[], \t\n/")
        assert not re.fullmatch(r"[+-]?\d+", alias)  # would be read as the index of a class
        assert not alias.startswith("-")  # would be read as an option
    layers = Layers(
        [Layer(n, found[n], "Relu", "conv", None, 0, None, None, None, ()) for n in names],
    )
    for name, alias in found.items():
        assert layers.find(alias).name == name
        assert layers.find(name).alias == alias
