"""Make what lies in the models folder afresh, or check that it is what the recipes make."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from convlens.errors import FINDING, FINE, ConvLensError
from convlens_adapters.exporters import efficientnet_lite0, photos, vgg16

RECIPES: dict[str, Callable[[Path], Path]] = {
    "efficientnet-lite0": efficientnet_lite0.make,
    "vgg16-conv4_1": vgg16.make_conv4_1,
    "photos": photos.make,
}
#: Weights may differ by this share of the largest one in their tensor: two steps of fp16.
TOLERANCE = 2.0**-9


def distance(ours: onnx.ModelProto, theirs: onnx.ModelProto) -> float:
    """Largest difference between two models' weights, as a share; infinite where graphs differ."""

    def graph(model: onnx.ModelProto) -> bytes:
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        for tensor in bare.graph.initializer:
            tensor.ClearField("raw_data")
        serialised: bytes = bare.SerializeToString(deterministic=True)
        return serialised

    if graph(ours) != graph(theirs):
        return float("inf")
    worst = 0.0
    for one, other in zip(ours.graph.initializer, theirs.graph.initializer, strict=True):
        a, b = (onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in (one, other))
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)))
    return worst


def compare(made: Path, kept: Path) -> tuple[bool, str]:
    """Say whether a kept file is the one just made, and how they differ."""
    if not kept.exists():
        return False, "missing"
    if made.read_bytes() == kept.read_bytes():
        return True, "identical"
    if made.suffix != ".onnx":
        return False, "differs"
    share = distance(onnx.load(made), onnx.load(kept))
    if np.isinf(share):
        return False, "the graph differs"
    versions = "bytes differ, as they may with other versions of torch and onnxruntime"
    said = f"same graph, weights differ by {share:.1e} of the largest; {versions}"
    return share <= TOLERANCE, said


def check(folder: Path) -> bool:
    """Make everything in a temporary folder and compare it with ``folder``."""
    good = True
    for name, make in RECIPES.items():
        with tempfile.TemporaryDirectory(prefix="convlens-") as temporary:
            make(Path(temporary))
            for made in sorted(Path(temporary).iterdir()):
                same, said = compare(made, folder / name / made.name)
                good &= same
                sys.stdout.write(f"{'ok  ' if same else 'FAIL'} {name}/{made.name}: {said}\n")
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make_models", description=__doc__)
    parser.add_argument("folder", type=Path, help="the models folder")
    parser.add_argument("--check", action="store_true", help="compare only; 1 where files differ")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.check:
            return FINE if check(chosen.folder) else FINDING
        for name, make in RECIPES.items():
            sys.stdout.write(f"{make(chosen.folder / name)}\n")
    except ConvLensError as error:
        sys.stderr.write(f"make_models: {error}\n")
        return error.exit_code
    return FINE


if __name__ == "__main__":
    sys.exit(main())
