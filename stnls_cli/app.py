"""The command line `stnls`: its subcommands, and how errors end it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from stnls_cli.commands.align import align_command
from stnls_cli.commands.bench import bench
from stnls_cli.commands.compare import compare_command
from stnls_cli.commands.diff import HELP as DIFF_HELP
from stnls_cli.commands.diff import diff
from stnls_cli.commands.doctor import doctor
from stnls_cli.commands.flow import flow_command
from stnls_cli.commands.report import HELP as REPORT_HELP
from stnls_cli.commands.report import report
from stnls_cli.console import (
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    EXIT_USAGE,
    described,
    drop_output,
    print_data,
    print_error,
)
from stnls_cli.entry import interrupted_words
from stnls_cli.errors import UserError


class _InterruptedError(Exception):
    """Ctrl-C, past Typer."""


class _PipeClosedError(Exception):
    """Whoever read our output has gone; past Typer."""


class _Commands(TyperGroup):
    """Keeps interrupts and closed pipes from Typer, whose versions exit differently for them."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None
        except BrokenPipeError:
            raise _PipeClosedError from None


app = typer.Typer(
    name="stnls",
    cls=_Commands,
    help="Shifted Non-Local Search: align the frames of a video and measure the alignment error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_data(f"stnls {version('stnls')}\n")
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
app.command("doctor")(doctor)
app.command("compare")(compare_command())
app.command("flow")(flow_command())
app.command("diff", help=DIFF_HELP)(diff)
app.command("report", help=REPORT_HELP)(report)
app.command("bench")(bench)


def main(arguments: list[str] | None = None) -> None:
    """Runs the tool and exits: 0 done, 1 some inputs failed, 2 bad input, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="stnls", standalone_mode=False)
    except UserError as error:
        print_error(str(error))
        _leave(error.exit_code)
    except (_InterruptedError, KeyboardInterrupt):
        _interrupted()
    except _PipeClosedError:
        _leave(0)
    except SystemExit as left:
        # How Rich and Click end where help is printed and nobody reads it.
        if isinstance(left.__context__, BrokenPipeError):
            _leave(0)
        raise
    except Exception as error:
        usage = _usage_error(error)
        if usage is None:
            print_error(described(error))
            _leave(EXIT_PARTIAL)
        print_error(usage)
        _leave(EXIT_USAGE)
    if code == EXIT_INTERRUPTED:  # Typer's own answer, before the command began
        _interrupted()
    _leave(code if isinstance(code, int) else 0)


def _interrupted() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print_error(interrupted_words())
    # Threads that compute flow are not waited for.
    _leave(EXIT_INTERRUPTED, at_once=True)


def _usage_error(error: Exception) -> str | None:
    """What the command line parser has to say, or why there are no kernels here; None if the error
    is another one."""
    if type(error).__name__ == "StnlsLibraryError":
        return str(error)
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


def _leave(code: int, *, at_once: bool = False) -> NoReturn:
    """Exits; whoever read our output may be gone already, or never have been there."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            drop_output(stream)
    if at_once:
        os._exit(code)
    sys.exit(code)
