"""``convlens verify``: one model held against onnxruntime at every value, or a table over many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import CARD_SETTINGS, json_option, model_options, take_model
from convlens.cli.show import print_json, print_table, progress, warn_of_weights
from convlens.errors import FINDING, UsageError

if TYPE_CHECKING:
    from convlens.coverage import Row


@click.command("verify", short_help="hold PyTorch against onnxruntime at every value; a table over a folder")
@model_options
@click.option("--seed", type=int, default=0, show_default=True, help="of the random input")
@click.option("--all", "every", is_flag=True, help="list every value, not only the worst")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="over a folder: files at a time",
)
@click.option(
    "--limit",
    type=click.FloatRange(1),
    default=300.0,
    show_default=True,
    help="over a folder: seconds for each file",
)
@json_option
def verify_command(as_json: bool, seed: int, every: bool, jobs: int, limit: float, **options: Any) -> int:
    """Compare the PyTorch graph of MODEL with onnxruntime at every value.

    On a seeded random input, and on a bundled photo where the card says how photos go in. Exit code 1
    where a value is out of tolerance.

    Given a folder, or several files and folders, a table says for every .onnx file below: opened,
    certified (the worst error), whether a batch is free or runs one by one, differentiable, and why not.
    Each file has a process of its own. Files that onnxruntime itself does not run are listed and not
    counted. Exit code 1 where a file is refused or out of tolerance.
    """
    models = options.pop("models")
    if len(models) == 1 and not Path(models[0]).is_dir():
        return _one({"model": models[0], **options}, as_json, seed, every)
    if every:
        raise UsageError("--all lists the values of one model; give one file")
    return _many(models, options, as_json, seed, jobs, limit)


verify_command.params = [
    click.Argument(["models"], nargs=-1, required=True, metavar="MODEL...") if p.name == "model" else p
    for p in verify_command.params
]


def _one(options: dict[str, Any], as_json: bool, seed: int, every: bool) -> int:
    model = take_model(options)
    certificate = model.certificate(seed)
    warn_of_weights(model)
    if as_json:
        print_json({**certificate.summary(), **certificate.record()})
        return 0 if certificate.passed else FINDING
    click.echo(certificate.words())
    click.echo(
        f"inputs: {', '.join(certificate.inputs)}; tolerance {certificate.tolerance:.0e}; device "
        f"{certificate.device}"
    )
    wider = [c for c in certificate.checks if c.passed and c.relative > certificate.tolerance]
    if wider:
        from convlens.trust.checks import HALF_TOLERANCE

        worst = max(wider, key=lambda check: check.relative)
        why = worst.note or f"numbers of half precision may be {HALF_TOLERANCE:.0e} apart"
        click.echo(f"further apart than that, and right: {len({c.value for c in wider})} values ({why})")
    shown = certificate.checks if every else certificate.failures
    if not shown:
        return 0
    rows = [
        {
            "value": check.value,
            "op": check.op,
            "input": check.input,
            "absolute": f"{check.absolute:.2e}",
            "relative": f"{check.relative:.2e}",
            "verdict": "ok" if check.passed else "FAILS",
            "note": check.note,
        }
        for check in (shown if every else shown[:20])
    ]
    print_table(rows, frozenset({"absolute", "relative"}))
    return 0 if certificate.passed else FINDING


def _many(
    paths: tuple[str, ...], options: dict[str, Any], as_json: bool, seed: int, jobs: int, limit: float
) -> int:
    from convlens.coverage import Settings, find_models, summary, survey

    card = options.pop("card")
    settings = Settings(
        seed=seed,
        limit=limit,
        threads=options.pop("threads"),
        device=options.pop("device"),
        card=None if card is None else str(card),
        options={name: options[name] for name in CARD_SETTINGS if options[name] is not None},
        feeds=dict(options["feeds"]),
    )
    files = find_models(paths)
    with progress(f"{len(files)} files") as advance:
        rows = survey(files, settings, jobs, advance, _tell)
    total = summary(rows)
    if as_json:
        print_json({"summary": total, "files": [row.record() for row in rows]})
    else:
        print_table([_cells(row, _common(rows)) for row in rows], frozenset({"certified", "seconds", "MB"}))
        click.echo(f"\n{_sentence(total)}")
    return 0 if total["fine"] == total["runs"] else FINDING


def _tell(row: Row) -> None:
    """A line on stderr for each file that is done, where no bar can be drawn."""
    if not sys.stderr.isatty():
        click.echo(f"{row.file}: {row.verdict} ({row.seconds:.1f} s)", err=True)


def _common(rows: list[Row]) -> Path | None:
    """The folder that all files are below."""
    if not rows:
        return None
    shared = rows[0].file.parent
    while any(shared not in row.file.parents for row in rows):
        if shared == shared.parent:
            return None
        shared = shared.parent
    return shared


def _cells(row: Row, folder: Path | None) -> dict[str, Any]:
    name = row.file if folder is None else row.file.relative_to(folder)
    ran = not row.runtime and not row.lost
    return {
        "file": str(name),
        "opened": row.opened if ran else None,
        "certified": None if row.certified is None else f"{row.worst:.0e}" if row.certified else "FAILS",
        "batch": row.batch or None,
        "differentiable": row.differentiable,
        "seconds": f"{row.seconds:.1f}",
        "MB": None if row.memory is None else f"{row.memory / 1e6:.0f}",
        "fed": row.fed or None,
        "why not": row.runtime or row.why or _remarks(row),
    }


def _remarks(row: Row) -> str:
    """What is not as it could be in a file that is fine."""
    said = [row.batch_why] if row.batch in ("one by one", "fixed") else []
    return "; ".join([*said, *([row.gradient] if row.differentiable is False else [])])


def _sentence(total: dict[str, Any]) -> str:
    runs = total["runs"]

    def share(key: str) -> str:
        return f"{total[key]} ({100 * total[key] / runs:.1f}%)" if runs else "0"

    left = total["files"] - runs
    others = f" (the other {left} are not counted)" if left else ""
    text = (
        f"{total['files']} file{'s' * (total['files'] != 1)}; onnxruntime runs {runs}{others}; of these "
        f"opened {share('opened')}, "
        f"certified {share('certified')}, batch free {share('batch_free')}, "
        f"differentiable {share('differentiable')}"
    )
    bad = [f"{total[key]} {key}" for key in ("refused", "wrong", "lost") if total[key]]
    return f"{text}; {', '.join(bad)}" if bad else text
