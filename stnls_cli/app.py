"""The command line `stnls`: its subcommands, and how errors end it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from stnls_cli.commands.align import align_command
from stnls_cli.console import EXIT_INTERRUPTED, EXIT_USAGE, print_error
from stnls_cli.errors import UserError

app = typer.Typer(
    name="stnls",
    help="Shifted Non-Local Search: align the frames of a video and measure the alignment error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"stnls {version('stnls')}\n")
        raise typer.Exit


@app.callback()
def _stnls(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Shifted Non-Local Search: align the frames of a video and measure the alignment error."""


app.command("align")(align_command())


def main(arguments: list[str] | None = None) -> None:
    """Runs the tool and exits: 0 done, 1 some inputs failed, 2 bad input, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="stnls", standalone_mode=False)
    except UserError as error:
        print_error(str(error))
        _leave(error.exit_code)
    except KeyboardInterrupt:
        print_error("interrupted; the same command goes on where it stopped")
        _leave(EXIT_INTERRUPTED, at_once=True)
    except BrokenPipeError:
        _leave(0)
    except Exception as error:
        usage = _usage_error(error)
        if usage is None:
            raise
        print_error(usage)
        _leave(EXIT_USAGE)
    else:
        _leave(code if isinstance(code, int) else 0)


def _usage_error(error: Exception) -> str | None:
    """What the command line parser has to say, or None if the error is another one."""
    describe = getattr(error, "format_message", None)
    if describe is None:
        if type(error).__name__ == "Abort":
            return "aborted"
        return None
    text = str(describe())
    if not text:
        return "nothing to do; see `stnls --help`"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "stnls"
    return f"{text.rstrip('.')}; see `{path} --help`"


def _leave(code: int, *, at_once: bool = False) -> None:
    """Exits; whoever read our output may be gone already."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if at_once:  # threads that compute flow are not waited for
        os._exit(code)
    sys.exit(code)
