"""Which rule says where the images lie after an operator; whatever has none is refused."""

from __future__ import annotations

from convlens.graph.batchaxis import layers, moves
from convlens.graph.batchaxis.rows import Reads, Rows, Rule, Stuck


def follow(reads: Reads) -> list[Rows]:
    """The rows of every output of a node into which images go.

    Raises:
        Stuck: the operator has no rule, or images could influence each other.
    """
    rule = RULES.get(reads.op)
    if rule is None:
        raise Stuck("nothing is known of how it treats the images of a batch")
    if reads.op not in _SHAPED:
        for data in reads.data:
            if data is None or data.dtype != object:  # numbers, among which there are no sizes
                continue
            if any(reads.counts(item) for item in data.reshape(-1).tolist()):
                raise Stuck("it computes with the number of images")
    return rule(reads)


_SHAPED = frozenset({"Reshape", "Expand", "ConstantOfShape", "Resize", "Upsample", "Slice"})
_M = "com.microsoft."
_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater "
    "GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max "
    "Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin "
    "Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor com.microsoft.Gelu "
    "com.microsoft.FastGelu com.microsoft.QuickGelu com.microsoft.BiasGelu"
)
_FIRST_AXIS = (
    "AveragePool BatchNormalization Conv ConvInteger ConvTranspose DepthToSpace GlobalAveragePool "
    "GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LRN LpPool QLinearConv SpaceToDepth "
    "com.microsoft.QLinearAveragePool com.microsoft.QLinearGlobalAveragePool"
)
_REDUCE = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare ArgMax ArgMin"
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), layers.elementwise()),
    **dict.fromkeys(_FIRST_AXIS.split(), layers.first_axis),
    **dict.fromkeys(_REDUCE.split(), layers.reduce),
    "MaxPool": layers.max_pool,
    _M + "FusedConv": layers.fused_conv,
    "Softmax": layers.softmax,
    "LogSoftmax": layers.softmax,
    "Hardmax": layers.softmax,
    "LpNormalization": layers.by_axis(-1),
    "LayerNormalization": layers.from_axis(-1),
    "RMSNormalization": layers.from_axis(-1),
    "SimplifiedLayerNormalization": layers.from_axis(-1),
    "CumSum": layers.by_axis(0, 1),
    "TopK": layers.by_axis(-1),
    "Split": layers.by_axis(0),
    "MatMul": layers.matmul(0, 1),
    "MatMulInteger": layers.matmul(0, 1),
    "QLinearMatMul": layers.matmul(0, 3),
    _M + "FusedMatMul": layers.matmul(0, 1),
    _M + "MatMulIntegerToFloat": layers.matmul(0, 1),
    "Gemm": layers.gemm,
    _M + "QGemm": layers.gemm,
    "Transpose": moves.transpose,
    "Reshape": moves.reshape,
    "Flatten": moves.reshape,
    "Squeeze": moves.squeeze,
    "Unsqueeze": moves.unsqueeze,
    "Concat": moves.concat(),
    _M + "QLinearConcat": moves.concat(2, 3),
    "Slice": moves.cut,
    "Gather": moves.gather,
    "GatherElements": moves.places,
    "ScatterElements": moves.places,
    "Pad": moves.pad,
    "Resize": moves.resize,
    "Upsample": moves.resize,
    "Expand": moves.expand,
    "ConstantOfShape": moves.filled,
    "Tile": moves.tile,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), layers.recurrent),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), layers.quantise),
    _M + "QuantizeLinear": layers.quantise,
    _M + "DequantizeLinear": layers.quantise,
    **dict.fromkeys((_M + "QLinearAdd", _M + "QLinearMul"), layers.elementwise(0, 3)),
    **dict.fromkeys((_M + "QLinearSigmoid", _M + "QLinearLeakyRelu"), layers.elementwise(0)),
    "DynamicQuantizeLinear": layers.together,
    _M + "DynamicQuantizeMatMul": layers.together,
    _M + "DynamicQuantizeLSTM": layers.together,
    "NonMaxSuppression": layers.boxes,
    "OneHot": layers.one_hot,
    "Einsum": layers.einsum,
    "GridSample": layers.grid,
}
