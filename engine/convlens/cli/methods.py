"""A command for a registered method: its options come from its parameters."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

from convlens.cli.options import (
    arranged,
    job_options,
    json_option,
    model_options,
    precision_option,
    recording_option,
    resume_option,
    take_model,
)
from convlens.cli.recordings import recording_options, take_recording
from convlens.cli.show import (
    check_folder,
    print_findings,
    print_json,
    print_table,
    progress,
    warn_of_weights,
)
from convlens.errors import FAILED, STOPPED

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from convlens.recording.reading import Recording
    from convlens.registry import Method


def command_for(method: Method[Any]) -> click.Command:
    """The method as a command: its own parameters and the shared options.

    MODEL [IMAGE...] --target T, or where it reads a recording, REC and the images or whatever it asks for.
    """

    def call(**options: Any) -> int:
        return _run(method, options)

    command: Any = call
    command = json_option(job_options(command))
    if method.saves:
        command = click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            help=f"folder for pictures, arrays and JSON  [default: convlens-{method.name}]",
        )(command)
    else:
        command = click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="folder for arrays and JSON"
        )(command)
    if method.searches:
        command = _watch_options(command)
    for name, field in reversed(method.Parameters.model_fields.items()):
        if name != method.asks:
            command = _option(name, field)(command)
    if method.target:
        command = click.option(
            "-t",
            "--target",
            help="class (281, 'tiger cat'), layer:channel, layer:channel@row,column, layer, a selector like "
            "output[0,4,:].max, output=class, or a place in input pixels: class@segment, class@row,column, "
            "@row,column; or a sum of these, 0.7*layer:3 + 0.3*281; the predicted class of each image by "
            "default",
        )(command)
    if method.recording == "may":
        command = recording_option()(command)
    if method.images:
        command = click.argument("images", nargs=-1, required=True)(command)
    elif method.asks:
        command = click.argument(method.asks, nargs=-1)(command)
    if method.gradients and method.recording != "must":
        command = precision_option(command)
    command = recording_options(command) if method.recording == "must" else model_options(command)
    paper = method.paper
    text = f"{_sentence(method)}\n\n{_asked(method)}Source: {paper.cite}" + (
        f", {paper.where}" if paper.where else ""
    )
    return arranged(click.command(method.name, help=text + ".", short_help=method.summary)(command))


def _watch_options(command: Any) -> Any:
    frames = click.option(
        "--frames",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="pictures on the way that are kept in the folder frames",
    )
    return frames(resume_option("go on with a search that was stopped")(command))


def _asked(method: Method[Any]) -> str:
    """What the words mean that stand on the command line without a name."""
    if not method.asks:
        return ""
    return f"{method.asks.upper()}: {method.Parameters.model_fields[method.asks].description}.\n\n"


def _sentence(method: Method[Any]) -> str:
    """The first paragraph of the method's docstring, as plain text."""
    doc = (type(method).__doc__ or method.summary).strip().split("\n\n")[0]
    return " ".join(doc.replace("``", "").split())


def _option(name: str, field: FieldInfo) -> Any:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    parts = [field.description or ""]
    if extra.get("unit"):
        parts.append(f"in {extra['unit']}")
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    kind = _strip_none(field.annotation)
    several = get_origin(kind) is tuple and isinstance(field.default, tuple)  # else one text says them all
    kind = get_args(kind)[0] if several else kind
    flag = f"--{name.replace('_', '-')}"
    shown = field.default is not None and field.default is not False
    if kind is bool:
        return click.option(flag, is_flag=True, default=field.default, help=", ".join(parts))
    settings: dict[str, Any] = {"default": field.default, "show_default": shown, "help": ", ".join(parts)}
    if several:
        settings |= {"multiple": True, "show_default": bool(field.default)}
        settings["help"] += "; repeatable"
    if get_origin(kind) is Literal:
        settings["type"] = click.Choice([str(choice) for choice in get_args(kind)])
    elif kind is int and (low is not None or high is not None):
        settings["type"] = click.IntRange(low, high)
    elif kind is float and (low is not None or high is not None):
        settings["type"] = click.FloatRange(low, high)
    else:
        settings["type"] = kind if kind in (int, float, str) else str
    return click.option(flag, **settings)


def _recording(folder: Path | None) -> Recording | None:
    if folder is None:
        return None
    from convlens.recording.reading import Recording

    return Recording.open(folder)


def _strip_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else str
    return annotation


def _run(method: Method[Any], options: dict[str, Any]) -> int:
    from convlens.files import taken
    from convlens.images import expand
    from convlens.inputs import none_readable
    from convlens.watch import Watch

    as_json, overwrite = options.pop("as_json"), options.pop("overwrite")
    output: Path | None = options.pop("output")
    if output is None and method.saves and not as_json:
        output = Path(f"convlens-{method.name}")
    watch = Watch(output, options.pop("frames", 0), options.pop("resume", False))
    if output is not None:
        check_folder(output, overwrite, watch.resume)
    given = options.pop("images", ())
    target = options.pop("target", None)
    recording: Recording | None
    if method.recording == "must":
        model, recording = take_recording(options, output)
    else:
        recording = _recording(options.pop("rec", None))
        model = take_model(options)
    paths = expand(given, taken(model.source)) if method.images else []
    if target is not None:
        target = model.target(target)
    batch, unread = model.readable(paths) if paths else (None, [])
    if paths and batch is None:
        raise none_readable(unread)
    for _, reason in unread:
        click.echo(f"convlens: skipped: {reason}", err=True)
    warn_of_weights(model)
    with progress(method.name) as advance:
        watch.tell = advance.tell
        result = model.run(
            method.name, batch, target, progress=advance, watch=watch, recording=recording, **options
        )
    for warning in result.how["warnings"]:
        click.echo(f"convlens: warning: {warning}", err=True)
    written = result.save(output) if output is not None else []
    findings = [asdict(finding) for finding in method.findings(result)]
    if as_json:
        skipped = [{"image": str(path), "reason": reason} for path, reason in unread]
        files = [str(path) for path in written]
        print_json({**result.record(), "findings": findings, "skipped": skipped, "files": files})
    else:
        print_table(result.rows)
        print_findings(findings)
        if "gradients" in result.how:
            click.echo(f"gradients: {result.how['gradients']}")
        if result.how["allow_uncertified"] and not result.how["certificate"]["passed"]:
            click.echo("uncertified: PyTorch and onnxruntime disagree on this model")
        if written:
            click.echo(f"\n{len(written)} files in {output}")
    if watch.stopped:
        return STOPPED
    return FAILED if unread else 0
