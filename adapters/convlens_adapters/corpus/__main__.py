"""Build the corpus and hold every file of it against onnxruntime: run by ``scripts/corpus``."""

from __future__ import annotations

import datetime
import importlib
import os
import subprocess
import sys
from pathlib import Path

import click

from convlens.coverage import Row, Settings, find_models, summary, survey
from convlens_adapters.corpus.groups import GROUPS, PACKAGES
from convlens_adapters.corpus.items import build, say
from convlens_adapters.corpus.page import page
from convlens_adapters.corpus.probes import held
from convlens_adapters.corpus.probes_page import page as probes_page

ADAPTERS = Path(__file__).parents[2]
ROOT = ADAPTERS.parent


@click.command()
@click.option("--all", "every", is_flag=True, help="every group; the exporters and packages come from PyPI")
@click.option("--only", multiple=True, type=click.Choice(list(GROUPS)), help="this group; may be repeated")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".corpus",
    help="folder for files and environment; what is there is used again  [default: .corpus]",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="files at the same time")
@click.option("--limit", type=click.FloatRange(1), default=300.0, show_default=True, help="seconds a file")
@click.option("--build-only", is_flag=True, help="write the files, verify nothing")
@click.option("--verify-only", is_flag=True, help="write no files, verify those that are there")
@click.option(
    "--probes",
    is_flag=True,
    help="instead of verifying, compute patches in windows and hold them against whole images; a file with a "
    "line in probes.jsonl is done already",
)
def main(
    every: bool,
    only: tuple[str, ...],
    output: Path,
    jobs: int,
    limit: float,
    build_only: bool,
    verify_only: bool,
    probes: bool,
) -> None:
    """Build test files from packages that anyone can install, and verify them.

    Without --all or --only the groups that need no network are taken. With --all the outcome is written
    to docs/coverage.md. The exit code is 1 where a file is out of tolerance, or was lost.
    """
    names = list(only) or [name for name, group in GROUPS.items() if every or not group.network]
    output = output.resolve()
    folder = output / "files"
    unbuilt = {name: _notes(folder / name) if verify_only else _built(name, output, limit) for name in names}
    if build_only:
        return
    names = [name for name in names if any((folder / name).rglob("*.onnx"))]
    if probes:
        sys.exit(_probed(names, output, limit))
    rows: dict[str, list[Row]] = {}
    for name in names:
        say(f"verifying {name}")
        rows[name] = survey(find_models([folder / name]), Settings(limit=limit), jobs, tell=_tell)
    total = summary([row for group in rows.values() for row in group])
    text = page(rows, unbuilt, datetime.datetime.now(datetime.UTC).date().isoformat(), folder)
    if every and not only:
        (ROOT / "docs" / "coverage.md").write_text(text, encoding="utf-8")
    (output / "coverage.md").write_text(text, encoding="utf-8")
    say(f"{total['fine']} of {total['runs']} files are fine; {output / 'coverage.md'} has them all")
    sys.exit(1 if total["wrong"] or total["lost"] else 0)


def _probed(names: list[str], output: Path, limit: float) -> int:
    """Hold windows against whole images, and write the table beside the files; 1 where they differ."""
    folder = output / "files"
    files = find_models([folder / name for name in names])
    rows = held(files, folder, output / "probes.jsonl", limit, lambda row: say(f"  {row.words()}"))
    (output / "probes.md").write_text(probes_page(rows), encoding="utf-8")
    say(f"{len(rows)} files; {output / 'probes.md'} has them all")
    return int(any(row.wrong or row.way == "lost" for row in rows))


def _tell(row: Row) -> None:
    say(f"  {row.file.name}: {row.verdict}{f' ({row.why})' if row.why else ''}")


def _built(name: str, output: Path, limit: float) -> dict[str, str]:
    """Build one group; what could not be built, with the reason."""
    say(f"building {name}")
    folder = output / "files"
    if GROUPS[name].exporters:
        command = [_python(output), "-m", "convlens_adapters.corpus.build", name, str(folder), str(limit)]
        path = {**os.environ, "PYTHONPATH": str(ADAPTERS)}
        subprocess.run(command, check=True, env=path)
        return _notes(folder / name)
    module = importlib.import_module(f"convlens_adapters.corpus.group_{name}")
    if hasattr(module, "fetch"):
        failed: dict[str, str] = module.fetch(folder / name)
        return failed
    return build(module.items(), folder / name, limit)


def _notes(folder: Path) -> dict[str, str]:
    """What could not be built, with the reason, as it lies beside the files."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.failed"))}


def _python(output: Path) -> str:
    """The interpreter of the exporters' environment, which is made where it is not there yet."""
    place = output / "env"
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    mark = place / ".packages"
    wanted = "\n".join(PACKAGES)
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        say(f"installing {', '.join(PACKAGES)} into {place}")
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        mark.write_text(wanted, encoding="utf-8")
    return str(python)


if __name__ == "__main__":
    main()
