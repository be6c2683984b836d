"""The command that lays methods side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convlens.cli.options import job_options, json_option, model_options, precision_option, take_model
from convlens.cli.show import check_folder, print_json, print_table, progress, warn_of_weights
from convlens.errors import FAILED


@click.command("attribute", short_help="every method that says where, side by side, and which are true")
@model_options
@click.argument("images", nargs=-1, required=True)
@click.option(
    "-t",
    "--target",
    help="what is explained, as for every method; the predicted class of each image by default",
)
@click.option(
    "--methods",
    default="all",
    show_default=True,
    help="all, or names with commas between; name:rule=guided gives settings, several with ; between",
)
@click.option("--quick", is_flag=True, help="each method's quick, coarse settings")
@click.option(
    "--faithfulness",
    is_flag=True,
    help="hold each map against random orders (deletion, insertion) and against random weights",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="folder for the sheet, arrays and JSON  [default: convlens-attribute]",
)
@precision_option
@job_options
@json_option
def attribute_command(
    images: tuple[str, ...], as_json: bool, output: Path | None, target: str | None, **options: Any
) -> int:
    """Explain one target on IMAGES by every method that says where, on one sheet.

    Rows are images, columns methods. A method that refuses is listed with its reason. With --faithfulness
    a table says for each method what is left under the target's curve while the parts that it marks are
    hidden (deletion, lower is truer) or shown (insertion, higher is truer), beside random orders and a
    centred Gaussian, and how far the map stays the same (rank correlation) when the upper half of the
    network's weights are random. A method that does not beat random is marked.
    """
    from convlens.files import taken
    from convlens.images import expand
    from convlens.inputs import none_readable
    from convlens.sidebyside import side_by_side

    overwrite = options.pop("overwrite")
    job = {key: options.pop(key) for key in ("batch_size", "seed", "allow_uncertified")}
    job |= {key: options.pop(key) for key in ("methods", "quick", "faithfulness")}
    if output is None and not as_json:
        output = Path("convlens-attribute")
    if output is not None:
        check_folder(output, overwrite)
    model = take_model(options)
    paths = expand(images, taken(model.source))
    batch, unread = model.readable(paths)
    if batch is None:
        raise none_readable(unread)
    for _, reason in unread:
        click.echo(f"convlens: skipped: {reason}", err=True)
    warn_of_weights(model)
    with progress("attribute") as advance:
        found = side_by_side(model, batch, target, progress=advance, **job)
    written = found.save(output) if output is not None else []
    if as_json:
        skipped = [{"image": str(path), "reason": reason} for path, reason in unread]
        print_json({**found.record(), "skipped": skipped, "files": [str(path) for path in written]})
    else:
        print_table(found.rows)
        for verdict in list(found.verdicts.values())[:1]:
            click.echo(f"\n{verdict['rests_on']}")
        if written:
            click.echo(f"\n{len(written)} files in {output}")
    return FAILED if unread else 0
