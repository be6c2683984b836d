"""The LSTM of 8 bits against onnxruntime, and its gradient against that of an LSTM of real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convlens.errors import UnsupportedError
from convlens.runtime.runner import Runner
from ops.models import ABSENT, Case, case, compare, numbers, torch_graph, x

STEPS, INPUT, HIDDEN = 5, 7, 3
RNG = np.random.default_rng(11)
SCALES = {False: (), True: (4 * HIDDEN,)}
WAYS = ("forward", "reverse", "bidirectional")


def layer(
    direction: str,
    batch: int,
    kind: str = "int8",
    per_channel: bool = False,
    states: bool = False,
    extra: Any = ABSENT,
    **attributes: Any,
) -> Case:
    """A node with random codes; a zero point beside 0 where codes are unsigned."""
    dirs, info = 1 + (direction == "bidirectional"), np.iinfo(kind)

    def parts(inner: int) -> tuple[Any, Any, Any]:
        codes = RNG.integers(info.min, info.max + 1, (dirs, inner, 4 * HIDDEN)).astype(kind)
        scale = RNG.uniform(0.004, 0.008, (dirs, *SCALES[per_channel])).astype(np.float32)
        return codes, scale, np.full(scale.shape, 0 if info.min else 121, kind)

    w, w_scale, w_zero = parts(INPUT)
    r, r_scale, r_zero = parts(HIDDEN)
    first = [numbers(dirs, batch, HIDDEN, seed=5), numbers(dirs, batch, HIDDEN, seed=6)]
    return case(
        "DynamicQuantizeLSTM",
        x(STEPS, batch, INPUT),
        w,
        r,
        numbers(dirs, 8 * HIDDEN, seed=3, low=-1, high=1) if states else ABSENT,
        extra,
        *(first if states else (ABSENT, ABSENT)),
        numbers(dirs, 3 * HIDDEN, seed=7) if states else ABSENT,
        w_scale,
        w_zero,
        r_scale,
        r_zero,
        domain="com.microsoft",
        outputs=3,
        hidden_size=HIDDEN,
        direction=direction,
        **attributes,
    )


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("states", [False, True], ids=["plain", "bias-states-peepholes"])
def test_it_gives_what_onnxruntime_gives(kind: str, direction: str, states: bool, tmp_path: Path) -> None:
    one = layer(direction, 1, kind, states=states)
    compare(one.model(17), one.feeds, tmp_path, 2e-6)


def test_scales_of_every_column_other_functions_and_clipping(tmp_path: Path) -> None:
    how = {"activations": ["HardSigmoid", "Softsign", "Relu"], "clip": 0.6}
    one = layer("forward", 1, per_channel=True, states=True, **how)
    compare(one.model(17), one.feeds, tmp_path, 2e-6)


def test_all_rows_share_the_range_of_their_states(tmp_path: Path) -> None:
    """As in onnxruntime with one thread, with which the runner therefore runs such a model."""
    one = layer("bidirectional", 4, states=True)
    model = one.model(17)
    compare(model, one.feeds, tmp_path, 2e-6)
    graph = torch_graph(model, tmp_path)
    several = Runner(graph.graph, "cpu", threads=4)
    found = several._forward(one.feeds, ["y0"], exact=True)["y0"]
    wanted = graph.values({n: torch.from_numpy(a) for n, a in one.feeds.items()}, ["y0"])["y0"]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=2e-6, atol=2e-6)


def test_sequences_of_different_lengths_are_refused(tmp_path: Path) -> None:
    one = layer("forward", 2, extra=np.array([5, 2], np.int32))
    with pytest.raises(UnsupportedError, match="lengths"):
        torch_graph(one.model(17), tmp_path)


def test_the_gradient_is_that_of_real_numbers_up_to_the_steps(tmp_path: Path) -> None:
    """Against torch's own LSTM with the weights that the codes stand for."""
    one = layer("forward", 1)
    graph = torch_graph(one.model(17), tmp_path)
    signal = torch.from_numpy(numbers(STEPS, 1, HIDDEN, seed=9))
    feeds = {"x0": torch.from_numpy(one.feeds["x0"].copy()).requires_grad_()}
    (graph.values(feeds, ["y0"])["y0"][:, 0] * signal).sum().backward()  # type: ignore[no-untyped-call]
    stored = [None if source is None else source.array for source in one.inputs]
    plain = torch.nn.LSTM(INPUT, HIDDEN, bias=False)
    for name, codes, scale in (
        ("weight_ih_l0", stored[1], stored[8]),
        ("weight_hh_l0", stored[2], stored[10]),
    ):
        assert codes is not None
        assert scale is not None
        gates = np.split(codes[0].astype(np.float32) * scale[0], 4, axis=1)
        ordered = np.concatenate([gates[i] for i in (0, 2, 3, 1)], axis=1)  # torch's order
        getattr(plain, name).data = torch.from_numpy(ordered.T.copy())
    point = torch.from_numpy(one.feeds["x0"].copy()).requires_grad_()
    (plain(point)[0] * signal).sum().backward()
    assert point.grad is not None
    assert feeds["x0"].grad is not None
    expected = point.grad.numpy()
    np.testing.assert_allclose(feeds["x0"].grad.numpy(), expected, atol=0.02 * np.abs(expected).max())
