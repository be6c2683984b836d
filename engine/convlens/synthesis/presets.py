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
    # Lucid's renderer: 512 steps of Adam at 0.05 on the scaled spectrum; a window moved by -4 to 4 and
    # once more by -2 to 2 pixels, 0.9 to 1.1 in size, turned by -10 to 10 degrees or, one time in five,
    # not at all. One shift and half the angle stand for these here, since both are uniform.
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
    # The paper gives neither the weight of its L2 nor a step size. Here the square is a mean over pixels
    # from 0 to 1, so that a weight of 1000 holds the balance with scores of some tens. Every step has one
    # length.
    "simonyan2014": Preset(
        "Simonyan, Vedaldi & Zisserman 2014, section 2",
        {
            "start": "mean",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "momentum": 0.0,
            "learning_rate": 0.005,
            "steps": 256,
            "l2": 1000.0,
        },
    ),
    # The third of the four rows of table 1, by which most of the paper's pictures are made: decay 0.0001,
    # blur of 1 pixel every 4 steps, nothing clipped, 1000 steps from the mean and noise of 10 in 255. The
    # other rows: blur 0.5 every 4 and small 0.5; decay 0.3 and small 0.2; blur 0.5 every 4 and idle 0.9.
    # Its step size of 100 is for raw gradients; here a step moves pixels by 2% of the range in root mean
    # square, and 400 reach what the paper's 1000 do.
    "yosinski2015": Preset(
        "Yosinski et al. 2015, section 3 and table 1",
        {
            "start": "noise",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "momentum": 0.0,
            "learning_rate": 0.02,
            "steps": 400,
            "decay": 0.0001,
            "blur": 1.0,
            "blur_every": 4,
        },
    ),
    # Adam at 0.1 on normalised pixels, whose deviation is about 0.225, is 0.02 on pixels from 0 to 1; 20
    # steps at each of 12 sizes; a box of 5 pixels between two sizes is as wide as a Gaussian of 1.41. The
    # article grows from 56 pixels to 416, here the last size is the one asked for.
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
            "octave_blur": 1.41,
        },
    ),
    # The authors' script: octaves by 1.2, steps of 11, then 6, then 1 in 255 (a mean magnitude), a
    # denoising of total variation after each step, crops that lie about the middle. Here total variation
    # is a penalty and a blur of half a pixel the denoising, the step is 0.02 (5 in 255) throughout, and
    # the gradient is gathered in the middle at first.
    "nguyen2016": Preset(
        "Nguyen, Yosinski & Clune 2016, Multifaceted Feature Visualization, section 3",
        {
            "start": "mean",
            "parametrisation": "pixels",
            "optimiser": "sgd",
            "momentum": 0.0,
            "learning_rate": 0.02,
            "steps": 300,
            "jitter": 8,
            "tv": 100.0,
            "blur": 0.5,
            "blur_every": 1,
            "centre": 1.0,
            "octaves": 3,
            "octave_factor": 1.2,
            "octave_blur": 0.5,
        },
    ),
    # Weights are those at which all ten digits come out on the bundled recipe's net.
    "lee2020-digits": Preset(
        "the L1 penalty by which class pictures of digits come out on an empty ground",
        {
            "start": "black",
            "ground": "black",
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
    "momentum": 0.9,
    "ground": "grey",
    "latent_decay": 0.005,
    "latent_bound": 3.0,
}
"""Where neither the person nor the preset says anything; numbers not listed are 0."""

_FORMS: Mapping[str, Mapping[str, Any]] = {"cppn": {"learning_rate": 0.005}}
"""What a parametrisation needs whatever the preset: weights of a network take smaller steps than pixels."""


def settings_of(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that ``given`` names: its own value, else (for None) the preset's, else off."""
    own = {**PRESETS[preset].settings, **_FORMS.get(given.get("parametrisation") or "", {})}
    return {
        name: value if value is not None else own.get(name, _OFF.get(name, 0))
        for name, value in given.items()
    }
