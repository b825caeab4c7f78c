"""Standard error for the person, exit codes for the pipeline."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError

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

    return Console(stderr=True, quiet=quiet)


def print_error(message: str) -> None:
    """One line on standard error."""
    line = " ".join(str(message).split())
    if sys.stderr is not None:
        sys.stderr.write(f"stnls: {line}\n")
        sys.stderr.flush()


def described(error: Exception) -> str:
    """An error as one line for a person; `STNLS_TRACEBACK=1` raises the unexpected ones."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"out of memory ({error}); a smaller --size needs less"
            if str(error)
            else ("out of memory; a smaller --size needs less")
        )
    if os.environ.get("STNLS_TRACEBACK"):
        raise error
    words = str(error).splitlines() or [""]
    return (
        f"unexpected {type(error).__name__}: {words[0]} (a fault of stnls or of its installation; "
        "STNLS_TRACEBACK=1 shows where)"
    )
