"""Pictures of many channels of a layer, for methods that show them beside something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.synthesis import starts
from convlens.synthesis.canvas import canvas_for
from convlens.synthesis.loop import Stage, optimise
from convlens.synthesis.objectives import channels_of, goal_of
from convlens.synthesis.presets import PRESETS
from convlens.synthesis.recipes import recipe_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.graph.layers import Layer
    from convlens.model import Model


def channel_pictures(
    model: Model, layer: Layer, channels: Sequence[int], steps: int, seed: int, batch_size: int
) -> NDArray[Any]:
    """What each channel answers to most, by the way of Olah et al. 2017.

    Args:
        model: the model.
        layer: where the channels lie.
        channels: which ones.
        steps: of the optimiser.
        seed: of the first picture, and of what is random at each step.
        batch_size: pictures that are sought together.

    Returns:
        One picture a channel, channels x colours x height x width, from 0 to 1 for photos.

    Raises:
        UnsupportedError: the input holds no real numbers.
    """
    canvas = canvas_for(model)
    way = PRESETS["lucid2017"].settings
    recipe = recipe_of(way)
    step = model.runner.step(min(batch_size, len(channels)))
    found = []
    for first in range(0, len(channels), step):
        part = channels[first : first + step]
        start = starts.KINDS[way["start"]](canvas, len(part), seed)
        goal = goal_of(model, channels_of(layer, part))
        made = optimise(model, canvas, goal, start, [Stage(canvas.size, steps)], recipe, seed=seed)
        found.append(made.pictures.cpu().numpy())
    return np.concatenate(found)
