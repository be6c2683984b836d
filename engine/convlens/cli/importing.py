"""``convlens import``: a model out of a library, as ONNX with the card that the library knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convlens.cli.options import Numbers, json_option, overwrite_option
from convlens.cli.show import print_json
from convlens.errors import FINDING, OutputError, UsageError, nearest

EXPORTERS = "convlens.exporters"


@click.command("import", short_help="make ONNX and a card from a model of torchvision, timm, Keras, ...")
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="folder for the files")
@click.option("--random", is_flag=True, help="seeded random weights; needs no network")
@click.option("--weights", type=click.Path(path_type=Path), help="local weights instead of the library's")
@click.option("--size", type=Numbers(1, 2, whole=True), help="height,width in pixels, or one side")
@click.option("--seed", type=int, default=0, show_default=True, help="of random weights")
@overwrite_option("replace files of the same name")
@json_option
def import_command(model: str, as_json: bool, output: Path, overwrite: bool, **options: Any) -> int:
    """Export MODEL, written LIBRARY:NAME, to ONNX, with a card that says what the library knows.

    For example torchvision:resnet50, timm:resnet18, keras:MobileNetV2, or hf: with a folder or a name.
    The file is held against the library by onnxruntime, loaded, and certified at every value; exit code 1
    where the certificate is not met.
    """
    from convlens.model import load
    from convlens.runtime.sessions import check_file

    export, name = _exporter(model)
    weights, size = options["weights"], options["size"]
    if weights is not None and options["random"]:
        raise UsageError("--random and --weights were both given; expected one of them")
    if weights is not None and not weights.is_file():
        raise UsageError(f"{weights}: no such file; expected the weights of {name}")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; expected a folder to write into")
    settings = {
        "random": options["random"],
        "weights": weights,
        "size": size * 2 if size is not None and len(size) == 1 else size,
        "seed": options["seed"],
        "overwrite": overwrite,
    }
    path = export(name, output, settings)
    check_file(path)
    loaded = load(path)
    certificate = loaded.certificate()
    if as_json:
        card = str(path.with_suffix(".card.toml"))
        print_json({"model": str(path), "card": card, "certificate": certificate.summary()})
    else:
        click.echo(f"model: {path}\ncard: {path.with_suffix('.card.toml')}")
        click.echo(certificate.words())
        if None not in loaded.source.size and loaded.card.input.mean is not None:
            click.echo(loaded.preprocess.words())
    return 0 if certificate.passed else FINDING


def _exporter(model: str) -> tuple[Any, str]:
    """The exporter that the part before the colon names, and the part behind it.

    Raises:
        UsageError: there is no colon, no name, or no such exporter.
    """
    from importlib.metadata import entry_points

    known = {entry.name: entry for entry in entry_points(group=EXPORTERS)}
    library, colon, name = model.partition(":")
    if not colon or not name:
        raise UsageError(f"{model!r}: expected LIBRARY:NAME; libraries: {', '.join(sorted(known)) or 'none'}")
    if library not in known:
        hint = nearest(library, known)
        raise UsageError(f"no exporter for {library!r}{hint}; known: {', '.join(sorted(known)) or 'none'}")
    return known[library].load(), name
