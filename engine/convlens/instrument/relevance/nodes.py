"""What each operator does with the relevance of its output. What is not in the table is refused.

=============== =====================================================================================
operators       relevance
=============== =====================================================================================
linear layers   Conv (also transposed and deformable), Gemm, MatMul with constant weights: the rule of
                the composite. Batch normalisation and other constant factors and sums of one number a
                channel right behind are merged in first (Kohlbrenner et al. 2020, section III), unless
                something else reads what lies between.
moves           Reshape, Transpose, Slice, Pad, Gather ...: goes back the way it came. Max pooling and
                other choices: to the winner (Bach et al. 2015, section 2.4).
sums            Add, Sub, average pooling, ReduceMean, Resize ...: in proportion to what each number
                contributed (the epsilon rule with epsilon 0; Montavon et al. 2019, section 10.3.2).
                A constant that is added takes its share like a bias.
activations     all of it passes (Bach et al. 2015, section 2.5), whatever the slope. Where f(0) is not
                0, as of a sigmoid, f(0) takes its share like a bias. A gate that exporters write in
                several operators, such as x sigmoid(x), is one activation.
products        where one factor is a gate (it comes from a sigmoid, a softmax or a division without a
                linear layer between), all of it goes to the other factor (signal takes all: Arras et
                al. 2017; for attention Ali et al. 2022, section 3.1); else half to each (Achtibat et
                al. 2024, section 3.2). Of a quotient the numerator takes all.
normalisation   LayerNormalization and its kin: as a linear layer whose deviation is a constant (Ali et
                al. 2022, section 3.2); those that only scale pass all of it.
quantisers      QuantizeLinear and DequantizeLinear pass all of it; operators on codes are refused.
refused         softmax on the way to the target (start from the scores before it), recurrent layers,
                branches and loops, and every other operator.
=============== =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from convlens.graph.graph import Node
from convlens.instrument.relevance.norms import CENTRING, frozen
from convlens.instrument.relevance.rules import quotient

_MS = "com.microsoft."

MOVES = frozenset(
    {
        "Identity", "Dropout", "Cast", "CastLike", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
        "Expand", "Tile", "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Pad",
        "CenterCropPad", "DepthToSpace", "SpaceToDepth", "Compress", "ReverseSequence", "Where", "Trilu",
        _MS + "Trilu", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "TopK", "MaxUnpool",
        "MaxRoiPool", "SequenceAt", "SequenceConstruct", "SplitToSequence", "ConcatFromSequence",
    }
)  # fmt: skip
WINNERS = frozenset({"MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "TopK", "MaxRoiPool"})
WRITES = frozenset({"Scatter", "ScatterElements", "ScatterND", "TensorScatter"})
CHOICES = frozenset({"Max", "Min"})
SUMS = frozenset(
    {
        "Add", "Sub", "Sum", "Mean", "Neg", "AveragePool", "GlobalAveragePool", "LpPool", "GlobalLpPool",
        "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "CumSum", "Resize", "Upsample", "GridSample",
        _MS + "GridSample", "RoiAlign", "Col2Im", "DFT", "STFT", "BatchNormalization", "RotaryEmbedding",
        _MS + "RotaryEmbedding", _MS + "MatMulNBits",
    }
)  # fmt: skip
FIRST_ONLY = frozenset(
    {
        "GridSample", _MS + "GridSample", "RoiAlign", "RotaryEmbedding", _MS + "RotaryEmbedding",
        "BatchNormalization", _MS + "MatMulNBits",
    }
)  # fmt: skip
"""Operators of which the first input is the signal; the others steer."""

PASSING = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Gelu", _MS + "Gelu",
        "HardSwish", "Mish", "Swish", "Tanh", "Softsign", "Shrink", "Erf", "Abs", "Sqrt", "Round",
        "QuantizeLinear", "DequantizeLinear", _MS + "QuantizeLinear", _MS + "DequantizeLinear",
        "LRN", "LpNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
    }
)  # fmt: skip
SHIFTED = frozenset(
    {
        "Clip", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan",
        "Sinh", "Cosh", "Asinh", "Atanh",
    }
)  # fmt: skip
"""Functions that may not be 0 at 0."""

PRODUCTS = frozenset({"Mul", "MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose"})
ADDED = {_MS + "SkipLayerNormalization": (0, 1, 4), _MS + "SkipSimplifiedLayerNormalization": (0, 1, 3)}
"""Which inputs are added up before they are normalised."""

VALUES = {"Attention": 2, _MS + "MultiHeadAttention": 2}
"""Attention: which input holds the values. The weights are a gate."""

CUT = frozenset({"Shape", "Size", "Sign", "Floor", "Ceil", "ArgMax", "ArgMin", "NonZero", "Unique"})
"""Nothing passes them, as no small change of the input would: what they compute is taken as a constant."""

ADVICE = {
    "Softmax": "explain the scores before it, {before}",
    "LogSoftmax": "explain the scores before it, {before}",
    "Hardmax": "explain the scores before it, {before}",
}


@dataclass(frozen=True, eq=False)
class Call:
    """One node as it was computed: what it reads and gives, nothing of it connected to anything."""

    node: Node
    function: Callable[..., Any]
    arguments: Sequence[Tensor | None]
    value: Tensor
    receives: tuple[int, ...]

    def at(self, given: Sequence[Tensor]) -> Tensor:
        """The node's first output for other numbers in the places that receive relevance."""
        changed = list(self.arguments)
        for place, new in zip(self.receives, given, strict=True):
            changed[place] = new
        found = self.function(*changed)
        out: Tensor = found[0] if isinstance(found, tuple) else found
        return out

    @property
    def given(self) -> list[Tensor]:
        """The inputs that receive relevance."""
        return [value for place in self.receives if (value := self.arguments[place]) is not None]


Share: TypeAlias = Callable[[Call, Tensor], Sequence[Tensor]]
"""(the node, the relevance of its first output) -> the relevance of each input that receives any."""


def in_proportion(degree: int = 1, function: Callable[[Call], Callable[..., Tensor]] | None = None) -> Share:
    """x df/dx / f: what each number contributes to a function that is homogeneous in them together.

    Args:
        degree: of homogeneity, so that the shares add up to one.
        function: gives what stands in for the node; the node itself without it.
    """

    def share(call: Call, relevance: Tensor) -> Sequence[Tensor]:
        with torch.enable_grad():
            given = [x.detach().requires_grad_() for x in call.given]
            value = call.at(given) if function is None else function(call)(*given)
        slopes = torch.autograd.grad(value, given, quotient(relevance, degree * value.detach()))
        return [x.detach() * slope for x, slope in zip(given, slopes, strict=True)]

    return share


def evenly(call: Call, relevance: Tensor) -> Sequence[Tensor]:
    """The weights alone decide, whatever the numbers were: for what stands before the first layer."""
    with torch.enable_grad():
        (given,) = (torch.ones_like(x).requires_grad_() for x in call.given)
        value = call.at([given])
    return torch.autograd.grad(value, [given], quotient(relevance, value.detach()))


def passed(call: Call, relevance: Tensor) -> Sequence[Tensor]:
    """All of it, to one input."""
    (given,) = call.given
    return [relevance.sum_to_size(given.shape)]


def passed_above_zero(call: Call, relevance: Tensor) -> Sequence[Tensor]:
    """All of it but the share of f(0), to one input."""
    (given,) = call.given
    start = call.at([torch.zeros_like(given)])
    return [(relevance - quotient(relevance * start, call.value)).sum_to_size(given.shape)]


def shares(node: Node, receives: int) -> Share | None:
    """How a node that is no linear layer shares relevance among ``receives`` inputs; None: it only moves it.

    Raises:
        KeyError: it has no rule.
    """
    op = node.full_op
    writes = op in WRITES and node.attr("reduction", "none") == "none"
    if op in MOVES or writes or (op in CHOICES and receives > 1):
        return None
    if op in PASSING:
        return passed
    if op in SHIFTED or op in CHOICES:
        return passed_above_zero
    if op in SUMS or op in VALUES or op == "Div":
        return in_proportion()
    if op in PRODUCTS:
        return in_proportion(receives)
    if op == "ReduceSumSquare":
        return in_proportion(2)
    if op == "Pow":
        return passed
    if op in CENTRING:
        return in_proportion(function=frozen)
    raise KeyError(op)
