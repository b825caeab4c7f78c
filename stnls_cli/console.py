"""Standard error for the person, exit codes for the pipeline."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

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
    sys.stderr.write(f"stnls: {line}\n")
    sys.stderr.flush()
