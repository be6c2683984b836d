"""Keras 3 nets, exported by Keras itself with PyTorch as its backend; channels last, random weights."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from convlens_adapters.corpus.items import Item

APPLICATIONS = {
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "DenseNet121": 64,
    "NASNetMobile": 224,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "ConvNeXtTiny": 64,
}


def prepare() -> None:
    """Import Keras once, on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    importlib.import_module("keras")


def items() -> Iterator[Item]:
    """Applications of Keras, then small nets of layers that they do not have."""
    for name, side in APPLICATIONS.items():
        yield Item(name.lower(), partial(_application, name, side))
    for name in ("sequence", "video", "separable", "recurrent", "segmenter"):
        yield Item(name, partial(_small, name))


def _application(name: str, side: int, path: Path) -> None:
    keras: Any = importlib.import_module("keras")
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(side, side, 3), classes=10)
    _statistics(model)
    _export(model, path)


def _small(name: str, path: Path) -> None:
    keras: Any = importlib.import_module("keras")
    keras.utils.set_random_seed(0)
    k = keras.layers
    layers: dict[str, list[Any]] = {
        "sequence": [
            k.Input((200, 2)),
            k.Conv1D(8, 9, strides=2, padding="causal", activation="relu"),
            k.MaxPooling1D(2, padding="same"),
            k.SeparableConv1D(12, 5, activation="swish"),
            k.GlobalMaxPooling1D(),
            k.Dense(4, activation="softmax"),
        ],
        "video": [
            k.Input((6, 24, 24, 3)),
            k.Conv3D(8, 3, padding="same", activation="relu"),
            k.AveragePooling3D((1, 2, 2)),
            k.Conv3D(8, 3, strides=2),
            k.GlobalAveragePooling3D(),
            k.Dense(3),
        ],
        "separable": [
            k.Input((32, 32, 3)),
            k.ZeroPadding2D(((0, 1), (0, 1))),
            k.DepthwiseConv2D(3, strides=2, depth_multiplier=2, activation="elu"),
            k.SeparableConv2D(12, 3, padding="same", dilation_rate=2),
            k.BatchNormalization(),
            k.LeakyReLU(),
            k.Conv2D(12, 3, groups=3, activation="gelu"),
            k.AveragePooling2D(2, padding="same"),
            k.GroupNormalization(3),
            k.Flatten(),
            k.Dense(5, activation="sigmoid"),
        ],
        "recurrent": [
            k.Input((32, 48, 1)),
            k.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            k.Permute((2, 1, 3)),
            k.Reshape((24, 128)),
            k.Bidirectional(k.LSTM(8, return_sequences=True)),
            k.Dense(11, activation="softmax"),
        ],
        "segmenter": [
            k.Input((32, 32, 3)),
            k.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            k.Conv2DTranspose(8, 3, strides=2, padding="same"),
            k.UpSampling2D(2, interpolation="bilinear"),
            k.MaxPooling2D(2),
            k.Conv2D(4, 1),
            k.Softmax(),
        ],
    }
    model = keras.Sequential(layers[name])
    _statistics(model)
    _export(model, path)


def _statistics(model: Any) -> None:
    """BatchNorm statistics that a trained network could have."""
    import numpy as np

    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            drawn = {"gamma": (0.6, 1.4), "beta": (-0.2, 0.2), "moving_mean": (-0.3, 0.3)}
            for weight in layer.weights:
                low, high = drawn.get(weight.name, (0.5, 1.5))
                weight.assign(rng.uniform(low, high, weight.shape).astype("float32"))


def _export(model: Any, path: Path) -> None:
    import numpy as np

    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports what has been called
    named = path.with_suffix(".onnx")  # Keras looks at the suffix
    model.export(str(named), format="onnx", verbose=False)
    named.rename(path)
