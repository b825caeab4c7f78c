"""A command over several inputs: one that fails does not keep the others from theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stnls_cli.console import EXIT_PARTIAL, EXIT_USAGE, described, print_error


def run_each(inputs: Sequence[Path], run: Callable[[int], None]) -> int:
    """Runs `run` with the number of every input; returns the exit code.

    The error of a single input is raised, those of several are printed.
    """
    failed = 0
    for number in range(len(inputs)):
        try:
            run(number)
        except BrokenPipeError:
            raise
        except Exception as error:
            if len(inputs) == 1:
                raise
            print_error(described(error))
            failed += 1
    if failed == 0:
        return 0
    print_error(f"{failed} of {len(inputs)} inputs failed")
    return EXIT_USAGE if failed == len(inputs) else EXIT_PARTIAL
