"""``keras:NAME``: a model of Keras applications; what ``preprocess_input`` does is measured on pixels."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convlens.errors import UsageError
from convlens_adapters.exporters.exporting import Ask, check, finish, library, unknown, unreachable
from convlens_adapters.exporters.pip import RecipeError

INSTALL = "keras (with torch, or tensorflow and tf2onnx)"
#: How far a preprocessing may be from the line that two of its values give, in what it makes of 255.
_STRAIGHT = 1e-4


def export(name: str, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write the model with its card; return the ONNX file.

    Raises:
        UsageError: Keras is not installed or has no such model.
        RecipeError: weights cannot be fetched, or the export fails.
    """
    ask = Ask(name, folder, **settings)
    os.environ.setdefault("KERAS_BACKEND", "torch")  # ConvLens brings it; a choice already made is kept
    keras = library("keras", INSTALL)
    known = applications(keras.applications)
    if ask.name not in known:
        raise unknown("Keras", ask.name, sorted(known))
    module = known[ask.name]
    keras.utils.set_random_seed(ask.seed)
    trained = not ask.random and ask.weights is None
    shape = {} if ask.size is None else {"input_shape": (*ask.size, 3)}
    try:
        model = getattr(module, ask.name)(weights="imagenet" if trained else None, **shape)
    except Exception as error:  # get_file raises plain Exception
        if not trained:
            raise UsageError(f"Keras cannot make {ask.name}: {' '.join(str(error).split())[:200]}") from error
        raise unreachable(ask.name, error) from error
    if ask.weights is not None:
        try:
            model.load_weights(ask.weights)
        except (OSError, ValueError) as error:
            raise UsageError(f"{ask.weights}: does not fit: {' '.join(str(error).split())[:200]}") from error
    elif ask.random:
        _randomise(model, ask.seed)
    size = (int(model.input_shape[1]), int(model.input_shape[2]))
    given = input_of(module.preprocess_input, size)
    about = {"task": "classification", "source": f"Keras {keras.__version__}" + (", imagenet" * trained)}
    return finish(ask, _exported(model, size), about, given, _labels(module, model), "probabilities")


def applications(package: Any) -> dict[str, Any]:
    """The module of each architecture, by the name of the function that builds it."""
    found: dict[str, Any] = {}
    for module in vars(package).values():
        if hasattr(module, "preprocess_input"):
            for name, value in vars(module).items():
                if name[:1].isupper() and callable(value):
                    found.setdefault(name, module)
    return found


def input_of(preprocess: Callable[[Any], Any], size: tuple[int, int]) -> dict[str, Any]:
    """The card's input from what ``preprocess`` makes of black, white, grey, and pure red.

    Args:
        preprocess: takes N x height x width x 3, RGB, 0 to 255, and returns as much.
        size: height and width that the model takes.

    Raises:
        RecipeError: it is not a scale and an offset per channel, so no card can say it.
    """

    def of(*pixel: float) -> np.ndarray:
        x = np.array(pixel, np.float32).reshape(1, 1, 1, 3)
        return np.asarray(preprocess(x.copy()), np.float64).reshape(3)

    black, white, grey, red = of(0, 0, 0), of(255, 255, 255), of(51, 51, 51), of(255, 0, 0)
    span = white - black
    changed = np.abs(red - black) > 0.5 * np.abs(span)
    straight = np.abs(grey - (black + 0.2 * span)) <= _STRAIGHT * np.abs(span)
    if not (straight.all() and (span > 0).all() and changed.sum() == 1 and not changed[1]):
        raise RecipeError("its preprocessing is no scale and offset per channel, so no card can say it")
    scale, large = span / 255.0, bool(np.allclose(span, 255.0))
    given: dict[str, Any] = {
        "layout": "NHWC",
        "channels": "RGB" if changed[0] else "BGR",
        "size": list(size),
        "range": [0, 255] if large else [0, 1],
    }
    std = [1.0] * 3 if large else [float(round(1 / (255 * s), 6)) for s in scale]
    mean = [float(round(-b / s / (1 if large else 255), 6)) + 0.0 for b, s in zip(black, scale, strict=True)]
    if any(mean) or any(s != 1 for s in std):
        given.update(mean=mean, std=std)
    return {**given, "resize": "stretch", "interpolation": "nearest"}


def _randomise(model: Any, seed: int) -> None:
    """Statistics of BatchNormalization that are not the identity; Keras has drawn the weights."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "moving_mean" in weight.name:
            weight.assign(rng.normal(0, 0.2, weight.shape))
        elif "moving_var" in weight.name:
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))


def _exported(model: Any, size: tuple[int, int]) -> bytes:
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    expected = np.asarray(model.predict(x, verbose=0))  # and a model that was never called is not exported
    with tempfile.TemporaryDirectory(prefix="convlens-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters warn about their own future
        path = Path(folder) / "model.onnx"
        try:
            model.export(str(path), format="onnx", verbose=False)
        except Exception as error:
            raise RecipeError(f"Keras cannot export it: {' '.join(str(error).split())[:200]}") from error
        stored = path.read_bytes()
    check(stored, x, expected)
    return stored


def _labels(module: Any, model: Any) -> Sequence[str] | None:
    """The names of ImageNet's classes, where Keras has them at hand or can fetch them."""
    count = int(model.output_shape[-1])
    try:
        listed = module.decode_predictions(np.arange(count, 0, -1, dtype=np.float32)[None], top=count)[0]
    except Exception:  # offline and not cached; get_file raises plain Exception
        return None
    return [name.replace("_", " ") for _, name, _ in listed]
