"""The ``convlens`` command: finds commands lazily, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from convlens import __version__
from convlens.cli.options import HELP, arranged
from convlens.errors import FAILED, STOPPED, USAGE, ConvLensError, nearest

_EPILOG = (
    "Exit codes: 0 fine; 1 a finding (certificate not met); 2 usage; 3 the model cannot be read or is "
    "refused; 4 something else failed, such as images that cannot be decoded; 130 stopped by Ctrl-C, what "
    "was finished is kept."
)


_JOBS = {
    "attribute": "attribute:attribute_command",
    "audit": "jobs:audit_command",
    "card": "card:card_command",
    "evolve": "evolve:evolve_command",
    "import": "importing:import_command",
    "layers": "jobs:layers_command",
    "merge": "merge:merge_command",
    "methods": "jobs:methods_command",
    "models": "jobs:models_group",
    "record": "record:record_command",
    "stylise": "stylise:stylise_command",
    "verify": "verify:verify_command",
}
"""Every job, and where in this package its command stands."""


class Commands(click.Group):
    """The jobs, then every registered method; the module of either is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Jobs first, methods after them."""
        del ctx
        from convlens import listing

        return [*_JOBS, *listing.summaries()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A job, else the method of that name as a command."""
        del ctx
        if name in _JOBS:
            module, _, command = _JOBS[name].partition(":")
            return arranged(getattr(import_module(f"convlens.cli.{module}"), command))
        from convlens import listing

        method = listing.find(name)
        if method is None:
            return None
        from convlens.cli.methods import command_for

        return command_for(method)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest commands for one that does not exist."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            hint = nearest(name, self.list_commands(ctx)) or "; `convlens --help` lists all"
            raise click.UsageError(f"no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lists: jobs and methods."""
        from convlens import listing

        commands = [(name, self.get_command(ctx, name)) for name in _JOBS]
        jobs = [(name, command.get_short_help_str(90)) for name, command in commands if command]
        with formatter.section("Jobs"):
            formatter.write_dl(jobs)
        with formatter.section("Methods"):
            formatter.write_dl(list(listing.summaries().items()))


@click.group(
    cls=Commands,
    epilog=_EPILOG,
    context_settings={**HELP, "max_content_width": 110},
)
@click.version_option(__version__, prog_name="convlens")
def cli() -> None:
    """Show what a CNN exported to ONNX looks at, what its layers see, and whether to trust it.

    MODEL is an ONNX file, or the name of a model that `convlens models` lists.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; always ends the process with a documented exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. ``CONVLENS_DEBUG=1`` shows whole tracebacks."""
    debug = os.environ.get("CONVLENS_DEBUG") == "1"
    try:
        outcome: Any = cli.main(args=arguments, prog_name="convlens", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return _say("stopped; what was finished is kept", STOPPED)
    except click.ClickException as error:
        if error.exit_code == USAGE and isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return USAGE
        return _say(error.format_message(), USAGE)
    except KeyboardInterrupt:
        return _say("stopped; what was finished is kept", STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ConvLensError as error:
        if debug:
            raise
        return _say(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        what = " ".join(str(error).split())[:300]
        return _say(f"{type(error).__name__}: {what} (CONVLENS_DEBUG=1 shows where)", FAILED)


def _say(message: str, code: int) -> int:
    click.echo(f"convlens: {' '.join(message.splitlines())}", err=True)
    return code
