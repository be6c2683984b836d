"""The groups of the corpus, and the environment that each is built in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """A group: what it holds, for people; whether it needs the environment with the exporters."""

    title: str
    exporters: bool = False
    network: bool = False


GROUPS: dict[str, Group] = {
    "edges": Group("graphs written by hand, at the edges of the format"),
    "variants": Group("quantised, half precision and optimised saves of four small nets"),
    "zoo": Group("zoo graphs and backend tests of the onnx package"),
    "nets": Group(
        "signals, tokens, video, boards, detectors and others, both exporters of torch", True, True
    ),
    "torchvision": Group("torchvision's families, both exporters of torch", True, True),
    "timm": Group("timm's families, both exporters of torch", True, True),
    "keras": Group("Keras 3, exported by itself", True, True),
    "wheels": Group("ONNX files inside packages on PyPI", network=True),
}

PACKAGES = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "timm==1.0.31",
    "onnx==1.23.2",
    "onnxruntime==1.31.0",
    "onnxscript==0.7.2",
    "keras==3.15.1",
)
"""The environment of the exporters. torchvision's version belongs to torch's."""
