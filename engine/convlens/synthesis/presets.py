"""Named ways to a picture, each after the paper or article that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One way: its source, and the settings of ``visualise`` that it stands for."""

    source: str
    settings: Mapping[str, Any]


PRESETS = {
    "lucid2017": Preset(
        'Olah, Mordvintsev & Schubert 2017, "Feature Visualization"',
        {
            "start": "noise",
            "parametrisation": "fourier",
            "optimiser": "adam",
            "learning_rate": 0.05,
            "steps": 512,
            "jitter": 8,
            "scale": 0.1,
            "rotate": 5.0,
        },
    ),
    "simonyan2014": Preset(
        "Simonyan, Vedaldi & Zisserman 2014, section 2",
        {
            "start": "mean",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "learning_rate": 0.01,
            "steps": 256,
            "l2": 1.0,
        },
    ),
    "yosinski2015": Preset(
        "Yosinski et al. 2015, section 3 and table 1",
        {
            "start": "mean",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "learning_rate": 0.02,
            "steps": 400,
            "decay": 0.001,
            "blur": 0.5,
            "blur_every": 4,
            "small": 0.2,
        },
    ),
    "graetz2019": Preset(
        'Graetz 2019, "How to visualize convolutional features in 40 lines of code"',
        {
            "start": "noise",
            "parametrisation": "pixels",
            "optimiser": "adam",
            "learning_rate": 0.02,
            "steps": 240,
            "octaves": 12,
            "octave_factor": 1.2,
            "octave_blur": 1.5,
        },
    ),
    "nguyen2016": Preset(
        "Nguyen, Yosinski & Clune 2016, Multifaceted Feature Visualization, section 3",
        {
            "start": "mean",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "learning_rate": 0.02,
            "steps": 300,
            "jitter": 8,
            "tv": 1.0,
            "centre": 1.0,
            "octaves": 3,
            "octave_factor": 1.5,
            "octave_blur": 0.5,
        },
    ),
    "lee2020-digits": Preset(
        "the L1 penalty by which class pictures of digits come out on an empty ground",
        {
            "start": "grey",
            "parametrisation": "pixels",
            "optimiser": "adam",
            "learning_rate": 0.02,
            "steps": 256,
            "l1": 5.0,
            "tv": 1.0,
            "jitter": 2,
        },
    ),
}
"""Settings that are not named here are off."""

_OFF: Mapping[str, Any] = {
    "start": "noise",
    "parametrisation": "pixels",
    "optimiser": "adam",
    "learning_rate": 0.05,
    "steps": 256,
    "octaves": 1,
    "octave_factor": 1.4,
    "octave_blur": 0.0,
    "blur_every": 4,
}
"""Where neither the person nor the preset says anything; numbers not listed are 0."""


def settings_of(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that ``given`` names: its own value, else (for None) the preset's, else off."""
    own = PRESETS[preset].settings
    return {
        name: value if value is not None else own.get(name, _OFF.get(name, 0))
        for name, value in given.items()
    }
