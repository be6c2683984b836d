"""A trained painter as the files that are handed out, and held against its twin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import ConvLensError
from convlens.synthesis.painters.painter import Painter
from convlens.synthesis.painters.painting import INPUT, OUTPUT, written

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

SAME = 1e-4
"""What torch and onnxruntime may differ by in a painted photo, whose numbers lie between 0 and 1."""


def network_files(model: Model, painter: Painter, stem: str, side: int) -> dict[str, bytes]:
    """The network as ``STEM.onnx`` and its card as ``STEM.card.toml``.

    Args:
        model: the loss network, which both name.
        painter: what was trained.
        stem: name of the style.
        side: of the crops that it learnt from, the size that the card says.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in painter.named_parameters()}
    about = {"style": stem, "loss network": model.name, "loss network sha256": model.sha256}
    card = _card(model.name, stem, side, painter.form.channels)
    return {f"{stem}.onnx": written(painter.form, weights, about), f"{stem}.card.toml": card.encode()}


def painted(network: bytes, painter: Painter, photos: NDArray[Any], threads: int | None) -> NDArray[Any]:
    """Photos as onnxruntime paints them, N x colours x height x width.

    Args:
        network: the ONNX file.
        painter: what it was written from.
        photos: the same axes.
        threads: inside one forward; None leaves it to onnxruntime.

    Raises:
        ConvLensError: the file does not compute what was trained.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    painter.cpu()  # where both compute in the same precision
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    pictures, drift = [], 0.0
    for photo in photos:
        (picture,) = session.run([OUTPUT], {INPUT: photo[None]})
        drift = max(drift, float(np.abs(picture[0] - painter.paint(photo)).max()))
        pictures.append(picture[0])
    if not drift <= SAME:
        raise ConvLensError(
            f"onnxruntime paints with the written network up to {drift:.1e} apart from torch; expected "
            f"{SAME:g} at most; try a smaller --learning-rate"
        )
    return np.stack(pictures)


def _card(loss_network: str, stem: str, side: int, channels: int) -> str:
    """How photos go into the network, as TOML."""
    told = f"trained by convlens faststyle with {loss_network} as the loss network"
    colours = {1: "GRAY", 3: "RGB"}[channels]
    lines = [
        "[model]",
        f"name = {json.dumps(f'Painter in the style of {stem}')}",
        f"file = {json.dumps(f'{stem}.onnx')}",
        'task = "style transfer"',
        f"source = {json.dumps(told)}",
        "",
        "[input]",
        'kind = "photo"',
        'layout = "NCHW"',
        f'channels = "{colours}"',
        f"size = [{side}, {side}]",
        "range = [0, 1]",
    ]
    return "\n".join(lines) + "\n"
