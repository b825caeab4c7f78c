"""Standard error for the person, exit codes for the pipeline."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

from stnls_cli.errors import UserError, WorkerError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_PARTIAL = 1
"""Some inputs failed, or something that was required is missing."""
EXIT_USAGE = 2
"""Usage or bad input."""
EXIT_INTERRUPTED = 130


def console_for(*, quiet: bool = False) -> Console:
    """Where words for a person go: standard error, or nowhere."""
    from rich.console import Console

    class WordsConsole(Console):
        """Where nobody listens any more, the work goes on all the same."""

        def on_broken_pipe(self) -> None:
            """Rich would end the program."""
            self.quiet = True
            drop_output(sys.stderr)

    return WordsConsole(stderr=True, quiet=quiet)


def print_data(text: str) -> None:
    """Data on standard output; a UserError where they do not fit, or it is closed."""
    if sys.stdout is None:
        raise UserError("cannot write to standard output: it is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output(sys.stdout)
        raise UserError(f"cannot write to standard output: {error.strerror or error}") from None


def drop_output(stream: TextIO) -> None:
    """Lets what is still to be written to a stream go nowhere, also when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(message: str) -> None:
    """One line on standard error."""
    line = " ".join(str(message).split())
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"stnls: {line}\n")
            sys.stderr.flush()
        except OSError:
            drop_output(sys.stderr)


def described(error: Exception) -> str:
    """An error as one line for a person; `STNLS_TRACEBACK=1` raises the unexpected ones."""
    if isinstance(error, (UserError, WorkerError)):
        return str(error)
    if type(error).__name__ == "StnlsLibraryError":  # by name: PyTorch may not be loaded
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"out of memory ({error}); a smaller --size needs less"
            if str(error)
            else ("out of memory; a smaller --size needs less")
        )
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package not in ("stnls", "stnls_cli"):
            return (
                f"the Python package {package}, which stnls needs, is not installed in "
                f"{sys.prefix}; install stnls again together with what it needs (pip install stnls)"
            )
    if os.environ.get("STNLS_TRACEBACK"):
        raise error
    words = str(error).splitlines() or [""]
    return (
        f"unexpected {type(error).__name__}: {words[0]} (a fault of stnls or of its installation; "
        "STNLS_TRACEBACK=1 shows where)"
    )
