"""Small nets that are not photo classifiers: waveforms, tokens, video, boards, detectors and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from convlens_adapters.corpus.items import Item, spread
from convlens_adapters.corpus.torch_export import DYNAMO, LEGACY, export, randomise, torchvision


@dataclass(frozen=True)
class Net:
    """A net: makes the module and its example inputs; which axes stay open, the oldest opset."""

    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    dynamic: tuple[int, ...] = ()
    least: int = 11
    names: tuple[str, ...] = ()
    exporters: tuple[str, ...] = ("legacy", "dynamo")


def prepare() -> None:
    """Import what every file needs once, before processes are started for them."""
    torchvision()


def items() -> Iterator[Item]:
    """Every net by the exporters that can write it, opsets in turn."""
    for index, (name, net) in enumerate(_nets().items()):
        for exporter, opsets in (("legacy", LEGACY), ("dynamo", DYNAMO)):
            if exporter in net.exporters:
                opset = max(spread(opsets, index), net.least)
                yield Item(f"{name}-{exporter}-{opset}", partial(_build, name, exporter, opset))


def _build(name: str, exporter: str, opset: int, path: Path) -> None:
    import torch

    torch.manual_seed(1)
    net = _nets()[name]
    module, inputs = net.make()
    export(randomise(module), inputs, path, exporter, opset, net.dynamic, net.names)


def _nets() -> dict[str, Net]:
    import torch
    from torch import nn
    from torch.nn import functional

    def block(kind: Any, norm: Any, before: int, after: int, stride: int = 1, size: int = 3) -> Any:
        conv = kind(before, after, size, stride=stride, padding=size // 2, bias=False)
        return nn.Sequential(conv, norm(after), nn.ReLU())

    block1 = partial(block, nn.Conv1d, nn.BatchNorm1d)
    block2 = partial(block, nn.Conv2d, nn.BatchNorm2d)
    block3 = partial(block, nn.Conv3d, nn.BatchNorm3d)

    def waveform(channels: int = 1, length: int = 4000) -> tuple[Any, tuple[Any, ...]]:
        net = nn.Sequential(
            block1(channels, 8, 4, 15),
            nn.MaxPool1d(4),
            block1(8, 16, 2, 7),
            nn.AvgPool1d(4),
            block1(16, 24),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(24, 6),
        )
        return net, (torch.randn(2, channels, length),)

    class TemporalNet(nn.Module):
        """Dilated causal convolutions with residuals, gated as in WaveNet."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(2, 12, 1)
            self.layers = nn.ModuleList(nn.Conv1d(12, 24, 3, dilation=2**i) for i in range(4))
            self.reach = [2 * 2**i for i in range(4)]
            self.last = nn.Conv1d(12, 3, 1)

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            for layer, reach in zip(self.layers, self.reach, strict=True):
                padded = functional.pad(x, (reach, 0))
                a, b = layer(padded).chunk(2, dim=1)
                x = x + torch.tanh(a) * torch.sigmoid(b)
            return self.last(x)

    class TokenNet(nn.Module):
        """Kim's sentence CNN: embedding, three widths of convolution, the largest of each over time."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(500, 24)
            self.widths = nn.ModuleList(nn.Conv1d(24, 8, width) for width in (3, 4, 5))
            self.head = nn.Linear(24, 4)

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens).transpose(1, 2)
            found = [functional.relu(conv(x)).amax(dim=2) for conv in self.widths]
            return self.head(torch.cat(found, dim=1))

    class Segmenter(nn.Module):
        """A U-Net of two levels with a transposed convolution and a resize."""

        def __init__(self) -> None:
            super().__init__()
            self.down1, self.down2, self.deep = block2(3, 8), block2(8, 16), block2(16, 24)
            self.up = nn.ConvTranspose2d(24, 16, 2, stride=2)
            self.join2, self.join1 = block2(32, 16), block2(24, 8)
            self.head = nn.Conv2d(8, 5, 1)

        def forward(self, x: Any) -> Any:
            one = self.down1(x)
            two = self.down2(functional.max_pool2d(one, 2))
            deep = self.deep(functional.max_pool2d(two, 2))
            two = self.join2(torch.cat([self.up(deep), two], dim=1))
            big = functional.interpolate(two, size=one.shape[2:], mode="bilinear", align_corners=False)
            return self.head(self.join1(torch.cat([big, one], dim=1)))

    class Detector(nn.Module):
        """One stage, anchors and decoding in the graph, the best boxes by TopK."""

        grid: torch.Tensor
        anchors: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(block2(3, 8, 2), block2(8, 16, 2), block2(16, 24, 2))
            self.head = nn.Conv2d(24, 3 * (4 + 1 + 4), 1)
            rows = torch.arange(8.0)
            grid = torch.stack(torch.meshgrid(rows, rows, indexing="ij"), dim=-1)
            self.register_buffer("grid", grid.flip(-1).reshape(1, 1, 8, 8, 2))
            self.register_buffer("anchors", torch.tensor([8.0, 16.0, 24.0]).reshape(1, 3, 1, 1, 1))

        def forward(self, x: Any) -> Any:
            y = self.head(self.trunk(x))
            y = y.reshape(-1, 3, 9, 8, 8).permute(0, 1, 3, 4, 2)
            centre = (torch.sigmoid(y[..., :2]) + self.grid) * 8
            size = torch.exp(y[..., 2:4].clamp(max=4)) * self.anchors
            boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1).flatten(1, 3)
            scores = torch.sigmoid(y[..., 4:5]) * torch.softmax(y[..., 5:], dim=-1)
            best, where = scores.amax(dim=-1).flatten(1).topk(20, dim=1)
            return boxes.gather(1, where.unsqueeze(-1).expand(-1, -1, 4)), best, where

    class SuppressingDetector(Detector):
        """The same with non-maximum suppression at its end, for one picture."""

        def forward(self, x: Any) -> Any:
            boxes, best, _where = super().forward(x)
            nms: Any = torch.ops.torchvision.nms
            kept = nms(boxes[0], best[0], 0.5)
            return boxes[0][kept], best[0][kept]

    class Board(nn.Module):
        """A Go net: 17 planes of 19 x 19, no pooling, policy and value heads."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = block2(17, 24)
            self.body = nn.ModuleList(
                nn.Sequential(block2(24, 24), nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24))
                for _ in range(3)
            )
            self.policy = nn.Sequential(block2(24, 2, size=1), nn.Flatten(), nn.Linear(722, 362))
            self.value = nn.Sequential(
                block2(24, 1, size=1),
                nn.Flatten(),
                nn.Linear(361, 32),
                nn.ReLU(),
                nn.Linear(32, 1),
                nn.Tanh(),
            )

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            for part in self.body:
                x = torch.relu(x + part(x))
            return self.policy(x), self.value(x)

    class ChannelsLast(nn.Module):
        """Takes NHWC, as exports from Keras and TFLite do."""

        def __init__(self) -> None:
            super().__init__()
            self.body = classifier(3)

        def forward(self, x: Any) -> Any:
            return self.body(x.permute(0, 3, 1, 2) / 127.5 - 1)

    class Recogniser(nn.Module):
        """A CRNN: convolutions that shrink the height, then a recurrent net along the width."""

        def __init__(self, cell: Any) -> None:
            super().__init__()
            self.trunk = nn.Sequential(
                block2(1, 8),
                nn.MaxPool2d(2),
                block2(8, 16),
                nn.MaxPool2d(2),
                block2(16, 24),
                nn.MaxPool2d((2, 1)),
            )
            self.recurrent = cell(24 * 4, 16, num_layers=2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(32, 11)

        def forward(self, x: Any) -> Any:
            x = self.trunk(x).permute(0, 3, 1, 2).flatten(2)
            return torch.log_softmax(self.head(self.recurrent(x)[0]), dim=2)

    class TwoInputs(nn.Module):
        """A photo and some measurements beside it; two outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(block2(3, 8, 2), block2(8, 16, 2))
            self.side = nn.Linear(5, 16)
            self.head = nn.Linear(16, 4)

        def forward(self, photo: Any, measured: Any) -> Any:
            features = self.trunk(photo) * torch.sigmoid(self.side(measured))[:, :, None, None]
            return self.head(features.mean(dim=(2, 3))), features

    class Siamese(nn.Module):
        """Two photos through one trunk; their similarity."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(
                block2(3, 8, 2), block2(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            )

        def forward(self, a: Any, b: Any) -> Any:
            return functional.cosine_similarity(self.trunk(a), self.trunk(b))

    class Stylish(nn.Module):
        """Reflection padding, instance norm, nearest upsampling, as style transfer has."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.norm1, self.norm2 = nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(8, affine=True)
            self.last = nn.Conv2d(8, 3, 3, padding=1, padding_mode="replicate")

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm1(self.one(functional.pad(x, (2, 2, 2, 2), mode="reflect"))))
            x = torch.relu(self.norm2(self.two(x)))
            return torch.tanh(self.last(functional.interpolate(x, scale_factor=2, mode="nearest")))

    class Attention(nn.Module):
        """Convolutions, then a transformer layer over their places."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(block2(3, 16, 2), block2(16, 32, 2))
            self.norm, self.many = nn.LayerNorm(32), nn.Linear(32, 96)
            self.mix, self.head = nn.Linear(32, 32), nn.Linear(32, 5)

        def forward(self, x: Any) -> Any:
            x = self.trunk(x).flatten(2).transpose(1, 2)
            q, k, v = self.many(self.norm(x)).reshape(x.shape[0], -1, 3, 4, 8).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return self.head((x + functional.gelu(self.mix(y))).mean(dim=1))

    class Spectral(nn.Module):
        """The spectrogram inside the graph, by strided convolution with a fixed basis."""

        basis: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            time, rate = torch.arange(64.0), torch.arange(33.0)[:, None]
            angle = 2 * torch.pi * rate * time / 64
            window = torch.hann_window(64)
            self.register_buffer("basis", torch.cat([angle.cos(), angle.sin()])[:, None] * window)
            self.body = classifier(1)

        def forward(self, x: Any) -> Any:
            both = functional.conv1d(x, self.basis, stride=32)
            power = both[:, :33] ** 2 + both[:, 33:] ** 2
            return self.body(torch.log(power + 1e-5).unsqueeze(1))

    class FromBytes(nn.Module):
        """Takes a photo as bytes, as models that hold their own preprocessing do."""

        def __init__(self) -> None:
            super().__init__()
            self.body = classifier(3)

        def forward(self, x: Any) -> Any:
            return self.body(x.to(torch.float32) / 255 - 0.5)

    def classifier(channels: int) -> Any:
        return nn.Sequential(
            block2(channels, 8),
            nn.MaxPool2d(2),
            block2(8, 16, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )

    def photo(*shape: int) -> tuple[Any, ...]:
        return (torch.rand(*shape),)

    def pile(*parts: Any) -> Any:
        return nn.Sequential(*parts)

    video = partial(pile, block3(3, 8), nn.MaxPool3d((1, 2, 2)), block3(8, 16, 2), nn.AdaptiveAvgPool3d(1))
    shapes = pile(
        nn.Conv2d(3, 8, 3, padding="same", dilation=2),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Hardswish(),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.GroupNorm(2, 8),
        nn.MaxPool2d(2, 1, dilation=2),
        nn.ELU(),
        nn.PixelShuffle(2),
        nn.Mish(),
        nn.LPPool2d(2, 2),
        nn.Softplus(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.LogSoftmax(dim=1),
    )
    return {
        "waveform": Net(waveform, (0,)),
        "waveform-any-length": Net(partial(waveform, 1, 3200), (0, 2)),
        "ecg-12-leads": Net(partial(waveform, 12, 1000)),
        "temporal": Net(lambda: (TemporalNet(), (torch.randn(1, 2, 128),))),
        "tokens": Net(lambda: (TokenNet(), (torch.randint(0, 500, (2, 32)),)), (0,)),
        "tokens-fixed": Net(lambda: (TokenNet(), (torch.randint(0, 500, (1, 24)),))),
        "video": Net(lambda: (video(nn.Flatten(), nn.Linear(16, 4)), photo(2, 3, 6, 32, 32)), (0,)),
        "video-fixed": Net(lambda: (video(nn.Flatten(), nn.Linear(16, 4)), photo(1, 3, 6, 32, 32))),
        "segmenter": Net(lambda: (Segmenter(), photo(1, 3, 32, 48))),
        "segmenter-any-size": Net(lambda: (Segmenter(), photo(2, 3, 32, 32)), (0, 2, 3)),
        "detector": Net(lambda: (Detector(), photo(1, 3, 64, 64))),
        "detector-open": Net(lambda: (Detector(), photo(2, 3, 64, 64)), (0,)),
        "detector-nms": Net(lambda: (SuppressingDetector(), photo(1, 3, 64, 64)), exporters=("legacy",)),
        "go-board": Net(lambda: (Board(), photo(1, 17, 19, 19))),
        "go-board-open": Net(lambda: (Board(), photo(2, 17, 19, 19)), (0,)),
        "multispectral": Net(lambda: (classifier(13), photo(1, 13, 40, 40))),
        "spectrogram": Net(lambda: (classifier(1), photo(1, 1, 40, 101))),
        "channels-last": Net(lambda: (ChannelsLast(), photo(1, 32, 32, 3))),
        "channels-last-open": Net(lambda: (ChannelsLast(), photo(2, 32, 32, 3)), (0,)),
        "any-size": Net(lambda: (classifier(3), photo(2, 3, 48, 48)), (0, 2, 3)),
        "crnn-lstm": Net(lambda: (Recogniser(nn.LSTM), photo(1, 1, 32, 64))),
        "crnn-gru": Net(lambda: (Recogniser(nn.GRU), photo(1, 1, 32, 64))),
        "crnn-rnn": Net(lambda: (Recogniser(nn.RNN), photo(1, 1, 32, 64)), exporters=("legacy",)),
        "two-inputs": Net(
            lambda: (TwoInputs(), (*photo(1, 3, 32, 32), torch.randn(1, 5))), (), 11, ("photo", "measured")
        ),
        "two-photos": Net(
            lambda: (Siamese(), (*photo(2, 3, 32, 32), torch.rand(2, 3, 32, 32))), (0,), 11, ("a", "b")
        ),
        "style": Net(lambda: (Stylish(), photo(1, 3, 32, 32))),
        "attention": Net(lambda: (Attention(), photo(1, 3, 32, 32)), (), 14),
        "attention-open": Net(lambda: (Attention(), photo(2, 3, 32, 32)), (0,), 14),
        "spectral": Net(lambda: (Spectral(), (torch.randn(1, 1, 2048),))),
        "layers": Net(lambda: (shapes, photo(1, 3, 32, 32))),
        "double": Net(lambda: (classifier(3).double(), (torch.rand(1, 3, 32, 32, dtype=torch.float64),))),
        "half": Net(lambda: (classifier(3).half(), (torch.rand(1, 3, 32, 32).half(),))),
        "bfloat16": Net(lambda: (classifier(3).bfloat16(), (torch.rand(1, 3, 32, 32).bfloat16(),)), (), 13),
        "uint8-photo": Net(
            lambda: (FromBytes(), (torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8),))
        ),
    }
