"""The command that holds the checkpoints of a training against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import job_options, json_option, model_options, take_model
from convlens.cli.show import (
    check_folder,
    print_findings,
    print_json,
    print_table,
    progress,
)
from convlens.errors import FAILED, UsageError

if TYPE_CHECKING:
    from convlens.results import Result

_WIDE = 12  # checkpoints that a table shows


@click.command("evolve", short_help="checkpoints of a training: what channels see, when layers settle")
@model_options
@click.argument("given", nargs=-1, metavar="[MODEL]... IMAGES...")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="layer that is compared and whose channels are followed, repeatable; every rectifier and the class "
    "scores are compared by default",
)
@click.option(
    "--channel",
    "followed",
    multiple=True,
    metavar="LAYER:CHANNEL",
    help="channel that is followed, such as relu2:17, repeatable; the strongest at the end by default",
)
@click.option(
    "--top",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="channels of a layer that are followed, where none are named",
)
@click.option(
    "--limit",
    type=click.IntRange(4),
    default=512,
    show_default=True,
    help="images at most, spread evenly over the data set",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="linear CKA with the last checkpoint from which on a layer counts as settled",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="folder for pictures, arrays and JSON  [default: convlens-evolve]",
)
@job_options
@json_option
def evolve_command(
    given: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    overwrite: bool,
    **options: Any,
) -> int:
    """Hold the checkpoints of one training against each other on the same IMAGES.

    MODEL... are ONNX files in the order of training, or a folder of them, which is sorted by the numbers in
    their names; everything else is IMAGES: files, folders, or a data set as `convlens record` takes it. The
    first checkpoint's card holds for all.

    Channels are followed: at each checkpoint the image patch that excites one most, and what in it does
    (Zeiler & Fergus 2014, figure 4). Layers are compared by linear CKA (Kornblith et al. 2019), their
    filters by length and direction; a layer has settled where its likeness to the last checkpoint stays
    high.
    """
    from convlens.evolution import evolve
    from convlens.evolution.checkpoints import told_apart

    job = {name: options.pop(name) for name in ("layers", "top", "limit", "threshold", "batch_size", "seed")}
    job["channels"] = options.pop("followed")
    job["allow_uncertified"] = options.pop("allow_uncertified")
    if output is None and not as_json:
        output = Path("convlens-evolve")
    if output is not None:
        check_folder(output, overwrite)
    paths, images = told_apart([options["model"], *given])
    if not paths or not images:
        missing = "images" if paths else "checkpoints"
        raise UsageError(
            f"no {missing} among what was given; expected ONNX files or a folder of them, and images"
        )
    options["model"] = str(paths[0])
    model = take_model(options)
    with progress("evolve") as advance:
        result = evolve(model, paths[1:], images, progress=advance, **job)
    for warning in result.how["warnings"]:
        click.echo(f"convlens: warning: {warning}", err=True)
    for skipped in result.how["skipped"]:
        click.echo(f"convlens: skipped: {skipped['image']}: {skipped['reason']}", err=True)
    written = result.save(output) if output is not None else []
    findings = result.hints["findings"]
    if as_json:
        files = [str(path) for path in written]
        print_json({**result.record(), "findings": findings, "files": files})
    else:
        _print(result)
        print_findings(findings)
        if written:
            click.echo(f"\n{len(written)} files in {output}")
    return FAILED if result.how["skipped"] else 0


def _print(result: Result) -> None:
    """Layers, filters and checkpoints as tables."""
    names: Sequence[str] = result.hints["checkpoints"]
    tables = result.hints["tables"]
    used = result.how["images"]
    click.echo(f"linear CKA with {names[-1]}, {used['used']} of {used['of']} images")
    if len(names) > _WIDE:
        click.echo(f"(tables show the last {_WIDE} of {len(names)} checkpoints, the JSON all)")
    print_table(
        [
            {"layer": row["layer"], **_columns(names, row["cka"]), "settles": row["settles"]}
            for row in result.rows
        ]
    )
    if tables["filters"]:
        click.echo(f"\nchange of weights to {names[-1]}, as a share of their length")
        print_table(
            [{"layer": row["layer"], **_columns(names, row["change_last"])} for row in tables["filters"]]
        )
    if tables["jumps"]:
        click.echo("\nshare of channels whose strongest image is another than at the checkpoint before")
        print_table([{"layer": row["layer"], **_columns(names, row["share"])} for row in tables["jumps"]])
    click.echo()
    print_table([_checkpoint(row) for row in tables["checkpoints"]])


def _checkpoint(row: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: row[name] for name in ("accuracy", "right class", "surest class") if row[name] is not None}
    certified = "yes" if row["certificate"]["passed"] else "no"
    return {"checkpoint": row["name"], "file": row["file"], "certified": certified, **known}


def _columns(names: Sequence[str], values: Sequence[float]) -> dict[str, str]:
    """A number a checkpoint; of many checkpoints the last ones."""
    pairs = list(zip(names, values, strict=True))[-_WIDE:]
    return {name: "-" if value != value else f"{value:.3f}" for name, value in pairs}
