"""Small nets in other number formats: quantised in every way that onnxruntime offers, half, optimised saves.

Made from graphs of :mod:`convlens_adapters.corpus.sources` with the onnx package alone, so that the same
files can be made without PyTorch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convlens_adapters.corpus.items import Item
from convlens_adapters.corpus.sources import SOURCES

FORMATS = ("QDQ", "QOperator")
TYPES = (("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8"))


def items() -> Iterator[Item]:
    """Every source in every format that it can take."""
    for name in SOURCES:
        for form in FORMATS:
            for activations, weights in TYPES:
                for channelwise in (False, True):
                    kind = f"{form.lower()}-{activations[1:].lower()}-{weights[1:].lower()}"
                    label = f"{name}-{kind}{'-per-channel' if channelwise else ''}"
                    yield Item(label, partial(_static, name, form, activations, weights, channelwise))
        yield Item(f"{name}-dynamic-uint8", partial(_dynamic, name, "QUInt8"))
        yield Item(f"{name}-dynamic-int8", partial(_dynamic, name, "QInt8"))
        yield Item(f"{name}-float16", partial(_half, name, False))
        yield Item(f"{name}-float16-inside", partial(_half, name, True))
        for level in ("BASIC", "EXTENDED"):
            yield Item(f"{name}-optimised-{level.lower()}", partial(_optimised, name, level))
    yield Item("small-qdq-int16", partial(_static, "small", "QDQ", "QInt16", "QInt8", False))


def _written(name: str, path: Path) -> Path:
    """The source as a file beside ``path``, for the next step to read."""
    source = path.with_suffix(".source")
    source.write_bytes(SOURCES[name]().SerializeToString())
    return source


def _using(name: str, path: Path, step: Callable[[Path], None]) -> None:
    source = _written(name, path)
    logging.disable(logging.WARNING)
    try:
        step(source)
    finally:
        source.unlink(missing_ok=True)


def _static(name: str, form: str, activations: str, weights: str, channelwise: bool, path: Path) -> None:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        """Three random inputs."""

        def __init__(self, value: Any) -> None:
            rng = np.random.default_rng(0)
            dims = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            self.left = [{value.name: rng.standard_normal(dims).astype(np.float32)} for _ in range(3)]

        def get_next(self) -> dict[str, Any] | None:
            """The next input, None after the last."""
            return self.left.pop() if self.left else None

    def step(source: Path) -> None:
        q.quantize_static(
            source,
            path,
            Reader(onnx.load(source).graph.input[0]),
            quant_format=getattr(q.QuantFormat, form),
            activation_type=getattr(q.QuantType, activations),
            weight_type=getattr(q.QuantType, weights),
            per_channel=channelwise,
            extra_options={"UseQDQContribOps": activations == "QInt16"},
        )

    _using(name, path, step)


def _dynamic(name: str, weights: str, path: Path) -> None:
    from onnxruntime import quantization as q

    _using(
        name, path, lambda source: q.quantize_dynamic(source, path, weight_type=getattr(q.QuantType, weights))
    )


def _half(name: str, inside: bool, path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(SOURCES[name](), keep_io_types=inside)
    path.write_bytes(model.SerializeToString())


def _optimised(name: str, level: str, path: Path) -> None:
    import onnxruntime

    def step(source: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(path)
        options.add_session_config_entry("session.save_model_format", "ONNX")
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    _using(name, path, step)
