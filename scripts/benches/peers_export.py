"""Exports torchvision's models with random weights: ``peers_export.py FOLDER NAME...``; peers' environment.

Beside each ONNX file lie the same weights for torch. The statistics of batch normalisation are those of
noise, so that values neither vanish nor grow, and the scores are as far apart as a trained net's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from peers_nets import bare

_SIDES = {"inception_v3": 299}
_SPREAD = 3.0  # of the scores


def main() -> None:
    folder, *names = sys.argv[1:]
    for name in names:
        export(Path(folder), name)


def export(folder: Path, name: str) -> None:
    import torch

    torch.manual_seed(0)
    side = _SIDES.get(name, 224)
    net = bare(name, fresh=True)
    patches = torch.randn(8, 3, side // 8 + 1, side // 8 + 1)
    photos = patches.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :side, :side]
    settle(net, photos + 0.3 * torch.randn(8, 3, side, side))
    torch.save(net.state_dict(), folder / f"{name}.pt")
    unfinished = folder / f"{name}.part"
    program: Any = torch.onnx.export(
        net,
        (torch.randn(2, 3, side, side),),
        dynamo=True,
        input_names=["input"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    program.save(str(unfinished), external_data=False)
    unfinished.rename(folder / f"{name}.onnx")


def settle(net: Any, images: Any) -> None:
    """Statistics of batch normalisation from some images, and scores of an ordinary spread."""
    import torch
    from torch import nn

    net.eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
            part.momentum = None  # the mean over all that is seen
    last = [part for part in net.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        net(images)
        net.eval()
        scores = net(images)
        last.weight.mul_(_SPREAD / scores.std(dim=1).mean())
        last.bias.zero_()


if __name__ == "__main__":
    main()
