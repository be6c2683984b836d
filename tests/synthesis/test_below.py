"""What a search runs: what lies below its target, and nothing behind it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convlens
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.loop import Stage, optimise
from convlens.synthesis.objectives import goal_of
from convlens.synthesis.recipes import Recipe
from reference import nets

SIZE = (16, 12)
STEPS = 5


@pytest.mark.parametrize(
    ("target", "below", "behind"),
    [
        ("conv1:1", ["conv1"], ["conv2", "dense1"]),
        ("conv2:1", ["conv1", "conv2"], ["dense1"]),
        ("conv1:0 - conv2:1", ["conv1", "conv2"], ["dense1"]),
        ("2", ["conv1", "conv2", "dense1"], []),
    ],
)
def test_only_what_lies_below_the_target_is_run(
    tmp_path: Path, target: str, below: list[str], behind: list[str]
) -> None:
    """Counted by torch's own hooks on the layers; the model stays as it was."""
    path = nets.saved(nets.classifier(0, (3, *SIZE)).onnx(), tmp_path)
    model = convlens.load(path, threads=1, mean=[0.5], std=[0.25])
    x = nets.pictures(0, 2, (3, *SIZE), np.float32)
    before = model.run("saliency", x, "2").array
    ran: Counter[str] = Counter()
    handles = []
    for name, module in model.instrument().named_modules():
        if name:

            def count(_own: nn.Module, *_: Any, name: str = name) -> None:
                ran[name] += 1

            handles.append(module.register_forward_hook(count))
    goal, start = goal_of(model, model.target(target)), torch.full((1, 3, *SIZE), 0.5)
    optimise(model, canvas_for(model), goal, start, [Stage(SIZE, STEPS)], Recipe("pixels"))
    around = 3  # whether a signal arrives, at the start and at the end, and the last score
    assert [ran[name] for name in below] == [STEPS + around] * len(below)
    assert not any(ran[name] for name in behind)
    for handle in handles:
        handle.remove()
    np.testing.assert_array_equal(model.run("saliency", x, "2").array, before)
