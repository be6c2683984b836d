"""Train a small network on handwritten digits and keep it as ONNX at several epochs, for `convlens evolve`.

Three times convolution, rectifier and max pooling, then two dense layers, as small digit recognisers have
them. The folder gets digits-e00.onnx (before training), digits-e01.onnx and so on, the card and the labels
that belong to all of them, test.npz (the images that were held out, with their labels) and training.json
(accuracy and loss of each epoch that was kept). On the same machine with as many threads, the same seed gives
the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from convlens.errors import ConvLensError, UsageError
from convlens_adapters.exporters import surgery
from convlens_adapters.exporters.folder import as_labels, write
from convlens_adapters.sources import idx

SIDE = 28
EPOCHS = (0, 1, 2, 5, 10, 20, 30, 40, 64)
CARD = """\
[model]
name = "Digits"
task = "classification"

# Light strokes on a dark ground, as in MNIST.
[input]
layout = "NCHW"
channels = "GRAY"
size = [28, 28]
range = [0, 1]
mean = [{mean}]
std = [{std}]
resize = "stretch"
interpolation = "bicubic"

[output]
scores = "logits"
labels = "labels.json"
"""


@dataclass(frozen=True)
class Digits:
    """Images, N x 28 x 28 of 8 bits, and their labels, N from 0 up."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def rows(self, which: NDArray[np.int64]) -> Digits:
        return Digits(self.images[which], self.labels[which])


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """N x height x width as N x 28 x 28."""
    if images.shape[1:] == (SIDE, SIDE):
        return images
    pictures = (Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images)
    return np.stack([np.asarray(picture, np.uint8) for picture in pictures])


def own() -> Digits:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return Digits(enlarged(pixels), found.target.astype(np.int64))


def read(path: Path) -> Digits:
    """Digits from ``.npz`` (``inputs`` and ``labels``) or from an IDX file with its labels beside it.

    Raises:
        UsageError: the file holds something else.
        ImageError: an IDX file is cut short or none.
    """
    if path.suffix.lower() == ".npz":
        try:
            with np.load(path, allow_pickle=False) as stored:
                images, labels = stored["inputs"], stored["labels"]
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{path}: expected the arrays inputs and labels in it ({error})") from error
    else:
        beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if beside == path or not beside.is_file():
            raise UsageError(
                f"{path}: no labels beside it; expected ...-images-idx3-ubyte and ...-labels-..."
            )
        images, labels = idx.read(path), idx.read(beside)
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != (len(images),) or not len(images):
        told = f"{list(images.shape)} of {images.dtype} with {list(labels.shape)} labels"
        raise UsageError(f"{path}: holds {told}; expected N x height x width of 8 bits and N labels")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 999:
        raise UsageError(f"{path}: labels are {labels.dtype}; expected whole numbers from 0 up")
    return Digits(enlarged(images), labels.astype(np.int64))


def network(width: int, classes: int) -> nn.Sequential:
    """28 x 28 to class scores; ``width`` filters in the first layer, twice as many in each one after."""
    made: list[nn.Module] = []
    inputs = 1
    for number in range(3):
        filters = width << number
        made += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = filters
    dense = 4 * width
    made += [nn.Flatten(), nn.Linear(inputs * 9, dense), nn.ReLU(), nn.Linear(dense, classes)]
    return nn.Sequential(*made)


def as_onnx(net: nn.Sequential) -> bytes:
    """The network as an ONNX file whose values are called conv1, relu1, pool1, ... dense1, relu4, logits."""
    node = onnx.helper.make_node
    nodes, tensors, value = [], {}, "input"
    counts = {"conv": 0, "relu": 0, "pool": 0}
    for layer in net:
        kind = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool"}.get(type(layer), "")
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{kind}{counts[kind]}"
        if isinstance(layer, nn.Flatten):
            name = "flatten"
            nodes.append(node("Flatten", [value], [name], name=name))
        elif isinstance(layer, nn.ReLU):
            nodes.append(node("Relu", [value], [name], name=name))
        elif isinstance(layer, nn.MaxPool2d):
            nodes.append(node("MaxPool", [value], [name], name=name, kernel_shape=[2, 2], strides=[2, 2]))
        else:
            dense = isinstance(layer, nn.Linear)
            name = ("logits" if layer is net[-1] else "dense1") if dense else name
            parts: Any = layer
            tensors |= {
                f"{name}.{part}": getattr(parts, part).detach().numpy() for part in ("weight", "bias")
            }
            given = [value, f"{name}.weight", f"{name}.bias"]
            if dense:
                nodes.append(node("Gemm", given, [name], name=name, transB=1))
            else:
                how: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
                nodes.append(node("Conv", given, [name], name=name, **how))
        value = name
    classes = tensors["logits.bias"].shape[0]
    image, logits = surgery.value("input", "N", 1, SIDE, SIDE), surgery.value("logits", "N", classes)
    return surgery.to_bytes(surgery.assemble(nodes, tensors, [image], [logits], name="digits"))


def ready(digits: Digits, mean: float, std: float) -> torch.Tensor:
    """Images as the network takes them."""
    return torch.from_numpy((digits.images[:, None].astype(np.float32) / 255 - mean) / std)


def accuracy(net: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose class is right."""
    with torch.no_grad():
        right = sum(
            int((net(part).argmax(dim=1) == truth).sum())
            for part, truth in zip(x.split(500), labels.split(500), strict=True)
        )
    return right / len(x)


def train(
    train_set: Digits, test_set: Digits, output: Path, settings: argparse.Namespace
) -> list[dict[str, Any]]:
    """Train, write the folder, and say one line an epoch that is kept; returns these lines as data."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    pixels = train_set.images.astype(np.float64) / 255
    mean, std = round(float(pixels.mean()), 4), round(float(pixels.std()), 4)
    classes = int(max(train_set.labels.max(), test_set.labels.max())) + 1
    net = network(settings.width, classes)
    x, y = ready(train_set, mean, std), torch.from_numpy(train_set.labels)
    held, truth = ready(test_set, mean, std), torch.from_numpy(test_set.labels)
    optimiser = torch.optim.SGD(net.parameters(), lr=settings.learning_rate, momentum=0.9)
    order = torch.Generator().manual_seed(settings.seed)
    stored = BytesIO()
    np.savez_compressed(stored, inputs=test_set.images, labels=test_set.labels)
    write(
        output,
        {
            "card.toml": CARD.format(mean=mean, std=std),
            "labels.json": as_labels([str(label) for label in range(classes)]),
            "test.npz": stored.getvalue(),
        },
    )
    digits = max(2, len(str(max(settings.epochs))))
    kept, start, loss = [], time.monotonic(), float("nan")
    for epoch in range(max(settings.epochs) + 1):
        if epoch:
            total = 0.0
            for batch in torch.randperm(len(x), generator=order).split(settings.batch_size):
                optimiser.zero_grad()
                error = nn.functional.cross_entropy(net(x[batch]), y[batch])
                error.backward()
                optimiser.step()
                total += float(error.detach()) * len(batch)
            loss = total / len(x)
        if epoch not in settings.epochs:
            continue
        name = f"digits-e{epoch:0{digits}d}.onnx"
        right = accuracy(net, held, truth)
        kept.append({"epoch": epoch, "file": name, "accuracy": right, "loss": loss if epoch else None})
        write(output, {name: as_onnx(net), "training.json": json.dumps(kept, indent=1) + "\n"})
        said = f"loss {loss:.4f}" if epoch else "untrained"
        print(
            f"epoch {epoch:3d}  test accuracy {right:.4f}  {said}  {time.monotonic() - start:.0f} s",
            flush=True,
        )
    return kept


def numbers(text: str) -> tuple[int, ...]:
    """Epochs from ``0,1,2``."""
    found = tuple(sorted({int(part) for part in text.split(",")}))
    if found[0] < 0:
        raise argparse.ArgumentTypeError("epochs count from 0 (untrained) up")
    return found


def positive(text: str) -> int:
    """A whole number from 1 up."""
    found = int(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few; expected 1 or more")
    return found


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    shown = argparse.ArgumentDefaultsHelpFormatter
    lead, rest = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser("train_digits", description=f"{lead} {rest}", formatter_class=shown)
    parser.add_argument("-o", "--output", type=Path, default=Path("convlens-digits"), help="folder")
    parser.add_argument(
        "--data",
        type=Path,
        help=".npz (inputs, labels) or an IDX file with its labels beside it; the digits of scikit-learn",
    )
    parser.add_argument("--test", type=Path, help="other digits to test on; else a fifth of the data")
    parser.add_argument("--limit", type=positive, help="images that are used; all")
    parser.add_argument("--epochs", type=numbers, default=EPOCHS, help="which are kept; 0 is before training")
    parser.add_argument("--width", type=positive, default=16, help="filters of the first layer")
    parser.add_argument("--batch-size", type=positive, default=32, help="images in one step")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of gradient descent, momentum 0.9")
    parser.add_argument("--threads", type=positive, default=1, help="of the training; more are hardly faster")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and what is held out")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Exit codes as the command line has them: 2 usage, 4 something cannot be read."""
    settings = arguments(given)
    try:
        digits = read(settings.data) if settings.data else own()
        mixed = np.random.default_rng(settings.seed).permutation(len(digits.labels))[: settings.limit]
        if settings.test is not None:
            parts = digits.rows(mixed), read(settings.test)
        else:
            held = max(1, len(mixed) // 5)
            parts = digits.rows(mixed[held:]), digits.rows(mixed[:held])
        if len(parts[0].labels) < 2:
            raise UsageError(f"{len(parts[0].labels)} images to train on; expected some hundreds")
        output: Path = settings.output
        if output.is_dir() and any(output.iterdir()) and not settings.overwrite:
            raise UsageError(f"{output}: is not empty and was left as it is; choose another, or --overwrite")
        train(*parts, output, settings)
    except ConvLensError as error:
        print(f"train_digits: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
