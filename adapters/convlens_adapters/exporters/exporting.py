"""What exporters of libraries share: seeded random weights, the export, its check, and the card.

An exporter is announced under the entry points ``convlens.exporters``; its name is what stands before the
colon in ``convlens import NAME:MODEL``. It is a function ``export(name, folder, settings) -> Path``, which
writes ``MODEL.onnx``, ``MODEL.card.toml`` and, where classes have names, ``MODEL.labels.json`` into a
folder. ``settings`` holds ``random``, ``weights``, ``size``, ``seed`` and ``overwrite``; see :class:`Ask`.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from convlens.errors import OutputError, UsageError, nearest
from convlens_adapters.exporters.folder import as_labels, write
from convlens_adapters.exporters.pip import RecipeError

#: Largest difference between the library and onnxruntime, as a share of the largest number.
SAME = 1e-4


@dataclass(frozen=True)
class Ask:
    """What a person asked for.

    Attributes:
        name: what stands after the colon.
        folder: where the files go.
        random: seeded random weights instead of trained ones.
        weights: a file of weights instead of those that the library fetches.
        size: height and width, None for the library's own.
        seed: for random weights.
        overwrite: files of the same name may be replaced.
    """

    name: str
    folder: Path
    random: bool = False
    weights: Path | None = None
    size: tuple[int, int] | None = None
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse before anything is made where the result could not be written."""
        if not self.overwrite:
            place = self.folder / f"{self.stem}.onnx"
            if place.exists():
                raise OutputError(f"{place}: is there already and was left as it is; --overwrite replaces it")

    @property
    def stem(self) -> str:
        """The name as a file can carry it."""
        return re.sub(r"[^\w.-]+", "_", Path(self.name).name if Path(self.name).is_dir() else self.name)


def library(name: str, install: str) -> Any:
    """The module ``name``.

    Raises:
        UsageError: it is not installed; the message names pip's command.
    """
    try:
        return import_module(name)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != name.partition(".")[0]:
            why = f"{name} needs {error.name}, which is not installed"
        else:
            why = f"{name} is not installed"
        raise UsageError(f"{why}; `pip install {install}`, then again") from error


def unknown(library_name: str, name: str, known: Sequence[str]) -> UsageError:
    """The error for a model that a library does not have."""
    return UsageError(f"{library_name} has no model {name!r}{nearest(name, known)}")


def unreachable(what: str, error: BaseException) -> RecipeError:
    """The error for trained weights that are neither here nor can be fetched."""
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return RecipeError(
        f"the weights of {what} cannot be fetched ({why}); --weights FILE takes local ones, "
        "--random makes some"
    )


def randomise(module: Any, seed: int) -> None:
    """Seeded random weights, scaled so that no layer dies, with BatchNorm statistics that are not 0 and 1.

    Args:
        module: an ``nn.Module``, changed in place.
        seed: of everything random.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Any, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.ndim >= 2:
                    inputs = max(1, parameter.numel() // parameter.shape[0])
                    parameter.normal_(0.0, (2.0 / inputs) ** 0.5, generator=generator)
                elif name == "weight":
                    uniform(parameter, 0.5, 1.5)
                else:
                    parameter.normal_(0.0, 0.1, generator=generator)
            if isinstance(getattr(part, "running_mean", None), torch.Tensor):
                part.running_mean.normal_(0.0, 0.2, generator=generator)
                uniform(part.running_var, 0.5, 2.0)


def load_weights(module: Any, path: Path) -> None:
    """Weights from a state dict: ``.safetensors``, or what ``torch.save`` wrote, also inside a checkpoint.

    Raises:
        UsageError: it cannot be read, or does not fit.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            state = library("safetensors.torch", "safetensors").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds
        raise UsageError(f"{path}: weights cannot be read ({str(error).splitlines()[0][:160]})") from error
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        module.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise UsageError(f"{path}: does not fit the model: {' '.join(str(error).split())[:200]}") from error


def to_onnx(module: Any, size: tuple[int, int], channels: int = 3) -> bytes:
    """An ``nn.Module`` (one tensor in, one out) as ONNX with a free batch, held against onnxruntime.

    Raises:
        RecipeError: PyTorch cannot export it, or onnxruntime gives something else.
    """
    import torch

    x = torch.randn((2, channels, *size), generator=torch.Generator().manual_seed(0))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="convlens-") as folder,
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            place = Path(folder) / "model.onnx"
            warnings.simplefilter("ignore")  # the exporter warns about its own future
            expected = module(x).numpy()
            torch.onnx.export(
                module,
                (x,),
                place,
                dynamo=False,
                opset_version=17,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "N"}, "output": {0: "N"}},
            )
            stored = place.read_bytes()
    except Exception as error:
        raise RecipeError(f"PyTorch cannot export it: {' '.join(str(error).split())[:200]}") from error
    check(stored, x.numpy(), expected)
    return stored


def check(model: bytes, x: np.ndarray, expected: np.ndarray) -> None:
    """Hold onnxruntime's output of ``model`` against what the library itself computes.

    Raises:
        RecipeError: they differ by more than :data:`SAME` of the largest number.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})[0]
    if found.shape != expected.shape:
        raise RecipeError(f"onnxruntime gives shape {list(found.shape)}, the library {list(expected.shape)}")
    worst = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-30))
    if not worst <= SAME:
        raise RecipeError(f"onnxruntime and the library differ by {worst:.1e} of the largest number")


def finish(
    ask: Ask,
    model: bytes,
    about: Mapping[str, Any],
    given: Mapping[str, Any],
    labels: Sequence[str | Sequence[str]] | None,
    scores: str | None = None,
) -> Path:
    """Write the model, its card and its labels; return the model's path."""
    stem = ask.stem
    output: dict[str, Any] = {"scores": scores} if scores is not None else {}
    files: dict[str, bytes | str] = {f"{stem}.onnx": model}
    if labels is not None:
        output["labels"] = f"{stem}.labels.json"
        files[f"{stem}.labels.json"] = as_labels(labels)
    about = {"name": Path(ask.name).name, "file": f"{stem}.onnx", **about}
    if ask.random:
        about["source"] = f"{about.get('source', '')}, random weights (seed {ask.seed})".lstrip(", ")
    elif ask.weights is not None:
        about["source"] = f"{about.get('source', '')}, weights of {ask.weights.name}".lstrip(", ")
    files[f"{stem}.card.toml"] = as_card({"model": about, "input": given, "output": output})
    write(ask.folder, files)
    return ask.folder / f"{stem}.onnx"


def as_card(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values as a card; empty tables and settings that are None are left out."""
    parts = []
    for table, settings in tables.items():
        lines = [f"{key} = {_value(value)}" for key, value in settings.items() if value is not None]
        if lines:
            parts.append("\n".join([f"[{table}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.10g}"
    return json.dumps(value, ensure_ascii=False)


def share(crop: float, resize: float) -> float:
    """Share of the shorter side that is kept where it is brought to ``resize`` and ``crop`` is cut out."""
    return min(1.0, crop / resize)
