"""The convolution of few channels: its own way back against torch's."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from convlens.instrument import layout
from convlens.instrument.layout import NarrowConv2d, arrange, steadied

CLOSE = 1e-12
"""Of the largest magnitude, in float64."""

KINDS: list[dict[str, Any]] = [
    {"in_channels": 3, "out_channels": 8, "kernel_size": 7, "stride": 2, "padding": 3},
    {"in_channels": 1, "out_channels": 4, "kernel_size": (3, 5), "stride": (2, 1), "dilation": (1, 2)},
    {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "bias": False},
    {"in_channels": 2, "out_channels": 5, "kernel_size": 2, "stride": 4},
]  # fmt: skip


@pytest.mark.parametrize("large", [False, True], ids=["folded", "too large for that"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_its_gradient_is_that_of_torch(
    kind: dict[str, Any], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(layout, "_COLUMNS", 0)
    torch.manual_seed(0)
    plain = nn.Conv2d(**kind).double().requires_grad_(False)
    own = steadied(deepcopy(plain))
    assert isinstance(own, NarrowConv2d)
    x = torch.randn(3, kind["in_channels"], 15, 17, dtype=torch.float64, requires_grad=True)
    wanted, found = plain(x), own(x)
    assert torch.equal(wanted, found)
    for signal in (torch.randn_like(wanted), torch.ones(()).double().expand(wanted.shape)):
        (one,) = torch.autograd.grad(wanted, x, signal, retain_graph=True)
        (other,) = torch.autograd.grad(found, x, signal, retain_graph=True)
        assert (one - other).abs().max() < CLOSE * one.abs().max()


def test_it_can_be_differentiated_again_and_by_torch_func() -> None:
    torch.manual_seed(0)
    own = NarrowConv2d(nn.Conv2d(2, 3, 3, padding=1).double().requires_grad_(False))
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(own, x)
    assert torch.autograd.gradgradcheck(own, x)
    each = torch.func.vmap(torch.func.grad(lambda row: own(row[None]).square().sum()))(x.detach())
    (wanted,) = torch.autograd.grad(own(x).square().sum(), x)
    assert (each - wanted).abs().max() < CLOSE * wanted.abs().max()


def test_weights_that_learn_get_their_gradient() -> None:
    own = NarrowConv2d(nn.Conv2d(2, 3, 3))
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    own(x).sum().backward()
    assert own.weight.grad is not None


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 16, 3, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv1d(1, 4, 3),
        nn.ReLU(),
    ],
    ids=str,
)
def test_others_stay_what_they_are(module: nn.Module) -> None:
    assert steadied(module) is module


@pytest.mark.parametrize(
    "module",
    [nn.Conv2d(8, 16, 3), nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3)],
    ids=str,
)
@pytest.mark.parametrize("side", [7, 32])
@pytest.mark.parametrize("last", [False, True])
def test_an_image_is_the_same_alone_and_among_others(module: nn.Conv2d, side: int, last: bool) -> None:
    torch.manual_seed(0)
    own = steadied(module.requires_grad_(False))
    arrange(nn.Sequential(own))
    x = torch.randn(3, module.in_channels, side, side)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    together = own(x)
    for row in range(3):
        assert torch.equal(own(x[row : row + 1].clone())[0], together[row])
    wanted = nn.functional.conv2d(
        x.double(),
        module.weight.double(),
        module.bias.double(),
        groups=module.groups,  # type: ignore[union-attr]
    )
    assert (together - wanted).abs().max() < 1e-5 * wanted.abs().max()
    alone = x[:1].clone().requires_grad_()
    own(alone).square().sum().backward()
    exact = x[:1].double().requires_grad_()
    nn.functional.conv2d(
        exact,
        module.weight.double(),
        module.bias.double(),
        groups=module.groups,  # type: ignore[union-attr]
    ).square().sum().backward()
    assert (alone.grad - exact.grad).abs().max() < 1e-5 * exact.grad.abs().max()  # type: ignore[operator, union-attr]


def test_weights_lie_where_the_device_computes_them_fastest() -> None:
    net = nn.Sequential(nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 3).double())
    before = [part.weight.clone() for part in net if isinstance(part, nn.Conv2d)]
    for device, halves, last in (("cpu", False, True), ("cuda", False, False), ("cuda", True, True)):
        arrange(net, device, halves)
        weights = [part.weight for part in net if isinstance(part, nn.Conv2d)]
        assert weights[0].is_contiguous(memory_format=torch.channels_last) == last
        assert weights[1].is_contiguous()
        assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
