"""Options that many commands share: the card's settings, the device, where files go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from convlens.forms import Kind, Layout

KINDS = list(get_args(Kind))
LAYOUTS = list(get_args(Layout))

F = TypeVar("F", bound=Callable[..., Any])

CARD_SETTINGS = (
    "mean",
    "std",
    "range",
    "size",
    "layout",
    "kind",
    "name",
    "rate",
    "channels",
    "labels",
    "scores",
    "resize",
    "crop",
    "interpolation",
)


class Numbers(click.ParamType[Any]):
    """Numbers separated by commas."""

    name = "numbers"

    def __init__(self, *counts: int, whole: bool = False) -> None:
        """Accept as many numbers as one of ``counts``; any number of them where it is empty."""
        self.counts = counts
        self.whole = whole

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple of numbers from ``0.485,0.456,0.406`` or ``224x224``."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(
                int(part) if self.whole else float(part) for part in value.replace("x", ",").split(",")
            )
        except ValueError:
            self.fail(f"{value!r} is not numbers separated by commas", param, ctx)
        if self.counts and len(found) not in self.counts:
            self.fail(f"{value!r}: expected {' or '.join(map(str, self.counts))} numbers", param, ctx)
        return found


class Feed(click.ParamType[Any]):
    """An input's name and what it is bound to."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The pair ``("sr", 16000)`` from ``sr=16000``; lists and file names likewise."""
        if isinstance(value, tuple):
            return value
        name, sign, text = value.partition("=")
        if not sign or not name or not text:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        if text.endswith(".npy"):
            return name, text
        try:
            numbers = [_number(part) for part in text.split(",")]
        except ValueError:
            self.fail(
                f"{value!r}: expected a number, numbers with commas between, or a .npy file", param, ctx
            )
        return name, numbers if len(numbers) > 1 else numbers[0]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def overwrite_option(text: str = "write into a folder that is not empty") -> Callable[[F], F]:
    """``--overwrite``; ``text`` says what may be lost."""
    return click.option("--overwrite", is_flag=True, help=text)


def resume_option(text: str) -> Callable[[F], F]:
    """``--resume``; ``text`` says what goes on."""
    return click.option("--resume", is_flag=True, help=text)


def batch_size_option(text: str = "images in one forward") -> Callable[[F], F]:
    """``--batch-size``; ``text`` says what it bounds."""
    return click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help=text)


def recording_option(text: str = "") -> Callable[[F], F]:
    """``--recording``, of commands that can do without one; ``text`` says what it is for."""
    what = "what `convlens record` made of a data set"
    return click.option(
        "--recording",
        "rec",
        type=click.Path(path_type=Path),
        help=f"{what}: {text}" if text else what,
    )


def runs_on() -> list[Callable[[F], F]]:
    """The device and its threads."""
    return [
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="where the model runs",
        ),
        click.option("--threads", type=click.IntRange(1), help="threads inside one forward"),
    ]


def model_options(command: F) -> F:
    """MODEL, the card and its single settings, and the device."""
    for option in reversed(
        [
            click.argument("model"),
            click.option("--card", type=click.Path(path_type=Path), help="card; the one beside the model"),
            click.option(
                "--mean", type=Numbers(), help="subtracted from pixels, one number or one a channel"
            ),
            click.option("--std", type=Numbers(), help="pixels are divided by it, after --mean"),
            click.option("--range", type=Numbers(2), help="what pixels 0 and 255 become first (0,1)"),
            click.option(
                "--size",
                type=Numbers(1, 2, 3, whole=True),
                help="height,width in pixels, or one side; else a length for each spatial axis",
            ),
            click.option(
                "--layout", type=click.Choice(LAYOUTS), metavar="AXES", help="order of the input's axes"
            ),
            click.option(
                "--kind",
                type=click.Choice(KINDS),
                metavar="KIND",
                help=f"what the input holds: {', '.join(KINDS)}",
            ),
            click.option("--input-name", "name", help="the input that is explained"),
            click.option("--rate", type=float, help="of a signal: samples per second"),
            click.option("--channels", type=click.Choice(["RGB", "BGR", "GRAY"]), help="order of colours"),
            click.option("--labels", type=click.Path(path_type=Path), help="class names, JSON or text"),
            click.option(
                "--scores",
                type=click.Choice(["logits", "probabilities", "sigmoid"]),
                help="what the class output holds; told from the graph",
            ),
            click.option(
                "--resize", type=click.Choice(["crop", "stretch", "pad"]), help="how photos are fitted"
            ),
            click.option("--crop", type=float, help="with --resize crop: share of the shorter side kept"),
            click.option(
                "--interpolation",
                type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos"]),
                help="resampling filter",
            ),
            *runs_on(),
            click.option(
                "--feed",
                "feeds",
                type=Feed(),
                multiple=True,
                help="bind an input: a number, numbers with commas between them, or a .npy file; repeatable",
            ),
        ]
    ):
        command = option(command)
    return command


def job_options(command: F) -> F:
    """What every command that runs the model on images takes."""
    for option in reversed(
        [
            batch_size_option("images in one forward; bounds the memory, never changes a result"),
            click.option("--seed", type=int, default=0, show_default=True, help="for everything random"),
            click.option(
                "--allow-uncertified",
                is_flag=True,
                help="run although PyTorch and onnxruntime disagree on this model",
            ),
            overwrite_option(),
        ]
    ):
        command = option(command)
    return command


HELP = {"help_option_names": ["-h", "--help"]}


def arranged(command: click.Command) -> click.Command:
    """The command with ``-h``, and the card's settings at the end of its help, since a file says them."""
    command.context_settings.update(HELP)
    last = {"card", *CARD_SETTINGS}
    command.params.sort(key=lambda p: (not isinstance(p, click.Argument), p.name in last))
    return command


precision_option = click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="of gradients; the lower ones (autocast) are for a GPU, less exact, and refused where that matters",
)

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON on stdout")


def take_model(options: dict[str, Any]) -> Any:
    """The model that the options describe; what belongs to it is taken out of ``options``."""
    from convlens.model import load

    settings = {name: options.pop(name) for name in CARD_SETTINGS}
    if settings["size"] is not None and len(settings["size"]) == 1:
        settings["size"] = settings["size"] * 2
    return load(
        options.pop("model"),
        card=options.pop("card"),
        device=options.pop("device"),
        threads=options.pop("threads"),
        precision=options.pop("precision", "float32"),
        feeds=dict(options.pop("feeds")),
        **settings,
    )
