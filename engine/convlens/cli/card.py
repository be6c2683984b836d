"""``convlens card``: a card for a file that came with none, as far as its behaviour tells."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import Numbers, batch_size_option, json_option, overwrite_option
from convlens.cli.show import print_json, print_table, progress
from convlens.errors import FINDING, CardError, OutputError, UsageError

if TYPE_CHECKING:
    from convlens.model import Model


@click.command("card", short_help="find out how pixels go into a file that came without a card")
@click.argument("model")
@click.option(
    "--images", multiple=True, required=True, help="photos of the kind that MODEL is for; file or folder"
)
@click.option("--labels", type=click.Path(path_type=Path), help="class names, JSON or text; kept in the card")
@click.option(
    "--true",
    "truth",
    help="true classes: a file with NAME,CLASS a line or a JSON mapping, or the word 'folders'",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="card; NAME.card.toml beside MODEL")
@click.option("--take", help="write the card of this place in the ranking, or of this name, all the same")
@overwrite_option("replace a card that is already there")
@click.option(
    "--limit", type=click.IntRange(1), default=12, show_default=True, help="photos used, chosen by --seed"
)
@click.option("--size", type=Numbers(1, 2, whole=True), help="height,width in pixels, or one side")
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="order of the axes; told from the graph")
@click.option("--resize", type=click.Choice(["crop", "stretch", "pad"]), help="how photos are fitted")
@click.option("--crop", type=float, help="with --resize crop: share of the shorter side kept")
@click.option(
    "--interpolation",
    type=click.Choice(["nearest", "bilinear", "bicubic", "lanczos"]),
    help="resampling filter",
)
@batch_size_option()
@click.option("--seed", type=int, default=0, show_default=True, help="for everything random")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="device"
)
@click.option("--threads", type=click.IntRange(1), help="threads inside one forward")
@json_option
def card_command(model: str, images: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Try the preprocessing conventions in use on MODEL, rank them by what it does, and write a card.

    The evidence: likelihood of the true classes where --true says them, statistics at BatchNormalizations
    against the recorded ones, a normalisation that the graph begins with, what predictions tell about the
    photo over small shifts, mirroring and brightness, and how evenly channels are used. Exit code 1, and no
    card, where this does not tell; --take then writes the one you choose.
    """
    from convlens.conventions import card_text, investigate

    loaded = _load(model, options)
    place = options["output"] or loaded.path.with_suffix(".card.toml")
    if place.exists() and not options["overwrite"]:
        raise OutputError(
            f"{place}: there is a card already, and it was left as it is; --overwrite, or -o FILE"
        )
    views, names, left_out = _views(loaded, images, options["limit"], options["seed"])
    truth = _truth(options["truth"], names, loaded)
    with progress("conventions") as advance:
        finding = investigate(loaded, views, truth, options["batch_size"], options["seed"], advance)
    chosen = finding.choose(options["take"]) if options["take"] else None
    if chosen is not None and chosen.convention.inverted:
        raise UsageError(f"{chosen.convention.name}: no card can say it; invert the photos and try again")
    if chosen is None and finding.verdict == "clear":
        chosen = finding.ranking[0]
    if chosen is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(card_text(loaded, finding, chosen, bool(options["take"])), encoding="utf-8")
    if as_json:
        written = str(place) if chosen is not None else None
        print_json({**finding.record(), "card": written, "taken": chosen and chosen.convention.name})
    else:
        _show(finding)
        if chosen is None and left_out:
            click.echo(
                f"- {left_out} photos were left out, which may tell more: --limit {len(views) + left_out}"
            )
        click.echo(
            f"card: {place}" if chosen else "no card was written; --take N writes the one you know is right"
        )
    return 0 if chosen is not None else FINDING


def _load(model: str, options: Mapping[str, Any]) -> Model:
    """The model with nothing of a card but what the command line says."""
    from convlens.cards import Card
    from convlens.model import load

    names = ("labels", "layout", "resize", "crop", "interpolation")
    settings = {name: options[name] for name in names}
    size = options["size"]
    settings["size"] = size * 2 if size is not None and len(size) == 1 else size
    return load(
        model,
        card=Card(),
        device=options["device"],
        threads=options["threads"],
        range=(0.0, 255.0),
        **settings,
    )


def _views(model: Model, images: Sequence[str], limit: int, seed: int) -> tuple[Any, list[Path], int]:
    """What the model gets to see of the photos, where they lie, and how many a seeded choice left out."""
    import numpy as np

    from convlens.images import expand, read_image

    paths = expand(images)
    left_out = max(0, len(paths) - limit)
    if left_out:
        paths = sorted(random.Random(seed).sample(paths, limit))
    return np.stack([model.preprocess.view(read_image(path)) for path in paths]), paths, left_out


def _truth(given: str | None, paths: Sequence[Path], model: Model) -> list[int] | None:
    """The index of each photo's true class; from the folders' names where all of them name a class."""
    try:
        classes = model.classes
    except CardError:
        if model.card.output.labels is not None:
            raise
        classes = None
    if classes is None:
        if given is not None:
            raise UsageError("--true was given, but the model has no class scores")
        return None
    by_word = {str(index): index for index in range(classes.count)}
    for index, synonyms in enumerate(classes.labels or ()):
        by_word.update({word.lower(): index for word in synonyms})
    if given in (None, "folders"):
        words = [path.parent.name.lower() for path in paths]
        if given is None and not (len(set(words)) > 1 and all(word in by_word for word in words)):
            return None
    else:
        known = _listed(Path(given or ""))
        missing = [path.name for path in paths if path.name not in known]
        if missing:
            raise UsageError(
                f"{given}: says no class for {missing[0]!r} ({len(missing)} of {len(paths)} photos)"
            )
        words = [known[path.name].lower() for path in paths]
    unknown = [word for word in words if word not in by_word]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no class; expected 0 to {classes.count - 1}, or a name of --labels"
        )
    return [by_word[word] for word in words]


def _listed(path: Path) -> dict[str, str]:
    """Classes by file name, from JSON or from lines ``NAME,CLASS``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: true classes cannot be read ({error})") from error
    if found is None:
        rows = [row for row in csv.reader(text.splitlines()) if row]
        bad = next((row for row in rows if len(row) != 2), None)
        if bad is not None:
            raise UsageError(f"{path}: expected NAME,CLASS in each line, found {','.join(bad)!r}")
        found = dict(rows)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: expected a mapping of file names to classes")
    return {Path(str(name)).name: str(label).strip() for name, label in found.items()}


def _show(finding: Any) -> None:
    rows = []
    for place, tried in enumerate(finding.ranking, 1):
        parts = {kind: f"{value:.2f}" for kind, value in tried.parts.items()}
        shown = {kind: f"{value:.2f}" for kind, value in tried.shown.items()}
        alike = {"as 1": f"{tried.agrees}/{finding.photos}"} if tried.agrees >= 0 else {}
        rows.append(
            {
                "place": place,
                "convention": tried.name,
                "score": f"{tried.score:.3f}",
                **parts,
                "": "",
                **shown,
                **alike,
            }
        )
    kinds = frozenset(key for row in rows for key in row) - {"convention"}
    print_table(rows, kinds)
    first = finding.ranking[0]
    click.echo(f"\nscore: weighted mean of {', '.join(first.parts)}; {finding.photos} photos")
    if first.agrees >= 0:
        click.echo("as 1: photos to which it gives the top class that the first gives")
    if first.same:
        click.echo(f"practically the same as {first.name}: {', '.join(first.same)}")
    for number, why in enumerate(finding.why):
        click.echo(f"- {why}" if number else f"verdict: {finding.verdict}: {why}")
